"""What the model does on a stand-in for the island of Spetses, beside the published figures of its fire.

python benchmarks/spetses.py --cell_size 50
"""

from __future__ import annotations

import argparse

from flowrl.fire.validation.stand_in_island import BURNED_KM2, PUBLISHED_H, PUBLISHED_KM2, burn_island, make_island

WINDS_M_S = (0.0, 4.0, 8.0, 12.0)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell_size", type=float, default=50.0, help="metres")
    parser.add_argument("--fires", type=int, default=100)
    flags = parser.parse_args(arguments)
    island = make_island(flags.cell_size)
    print(f"published: {PUBLISHED_KM2} km2 simulated, {BURNED_KM2} km2 burned, in {PUBLISHED_H:g} h")
    print(f"stand-in: {island.burnable.sum() * flags.cell_size**2 / 1e6:.1f} km2, cells of {flags.cell_size:g} m, north wind")
    print("wind, m/s  steps to the published area  minutes a step then  front, m/min  burned in the end, km2")
    for speed in WINDS_M_S:
        fire = burn_island(island, speed, 0.0, num_fires=flags.fires)
        steps = fire.steps_to_published
        pace = f"{60 * PUBLISHED_H / steps:20.1f}  {flags.cell_size * steps / (60 * PUBLISHED_H):12.2f}" if steps else " " * 34
        print(f"{speed:9.0f}  {steps or 'never':>27}  {pace:>34}  {fire.final_km2.mean():22.1f}")


if __name__ == "__main__":
    main()
