"""The agent that places fuel breaks beside all heuristics, over seeds, after some minutes of training.

    python benchmarks/fuel_breaks.py                       # synthetic areas of 20 x 20 cells, 5 seeds, 10 minutes each
    python benchmarks/fuel_breaks.py --minutes 60 --folder hour                       # the same with an hour each
    python benchmarks/fuel_breaks.py --raster_dir landfire --grid_size 40 --num_landscapes 1 --folder landfire_seeds
    python benchmarks/fuel_breaks.py --config many.json --num_landscapes 200 --turned_areas --folder many

Each seed has areas, fires, network and random cells of its own; where --raster_dir has room for one area only, all seeds have
that one. A training that is stopped goes on with the same command, and one that has ended is not made again. Minutes are of
this machine with everything that runs on it: leave it alone meanwhile. The first figure of a line is the mean over seeds, the
second its standard error over seeds.

--config takes the settings of a training that have no flag here, from a JSON file. To train seeds side by side, start the
benchmark once for each with --first_seed, --seeds 1 and the same --folder, then once more for all seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from flowrl.files import read_json, write_json
from flowrl.fire import FuelBreakSettings, ParallelFuelBreakTrainer
from flowrl.fire.training import config_file

REFERENCE = "sequential DPV"
SEED_DISTANCE = 1000
"""Between the seeds of two trainings: area ``i`` of a training has its seed plus ``i``."""


def main() -> None:
    arguments = parsed()
    results = [trained(arguments, seed) for seed in seeds_of(arguments)]
    found = {"settings": {name: str(value) for name, value in vars(arguments).items()}, "seeds": arguments.seeds}
    for areas, words in (("trained_areas", "areas of the training"), ("test_areas", "areas that the agent has never seen")):
        tables = [result[areas] for result in results if result[areas]]
        if tables:
            found[areas] = summary(tables)
            print(f"\n{words}, {len(tables)} seeds:")
            print("\n".join(lines(found[areas])))
    print("\nplanning fires burn with the agent's breaks, over minutes of training (mean over seeds):")
    found["curve"] = curve(arguments)
    print("  ".join(f"{minutes:.1f}: {share:.4f}" for minutes, share in found["curve"]))
    if arguments.json:
        write_json(arguments.json, as_json(found))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--config", help="a JSON file with further settings of a training")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, for each seed")
    parser.add_argument("--raster_dir", type=Path, help="layers to cut areas from; synthetic areas without it")
    parser.add_argument("--grid_size", type=int, default=20)
    parser.add_argument("--num_landscapes", type=int, default=10)
    parser.add_argument("--num_test_landscapes", type=int, default=10)
    parser.add_argument("--turned_areas", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("fuel_break_seeds"))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


def seeds_of(arguments: argparse.Namespace) -> range:
    return range(arguments.first_seed, arguments.first_seed + arguments.seeds)


def trained(arguments: argparse.Namespace, seed: int) -> dict:
    """The result of one seed; areas of different seeds are different ones."""
    folder = arguments.folder / f"seed_{seed}"
    if (folder / "result.json").exists():
        return read_json(folder / "result.json")
    print(f"seed {seed}:", flush=True)
    return ParallelFuelBreakTrainer(settings_of(arguments, seed, folder)).train()


def settings_of(arguments: argparse.Namespace, seed: int, folder: Path) -> FuelBreakSettings:
    further = config_file.read(arguments.config) if arguments.config else {}
    return FuelBreakSettings.of(
        further
        | {
            "raster_dir": arguments.raster_dir,
            "grid_size": arguments.grid_size,
            "num_landscapes": arguments.num_landscapes,
            "num_test_landscapes": arguments.num_test_landscapes,
            "turned_areas": arguments.turned_areas,
            "num_episodes": 1_000_000,
            "max_minutes": arguments.minutes,
            "output_dir": folder,
            "seed": SEED_DISTANCE * seed,
        }
    )


def summary(tables: list[dict]) -> dict[str, dict[str, float]]:
    """For each way of placing breaks, over seeds: burned share, its standard error, and both beside sequential DPV."""
    found = {}
    for name in tables[0]:
        shares = np.array([table[name]["burned"] for table in tables])
        ratios = shares / np.array([table[REFERENCE]["burned"] for table in tables])
        found[name] = {
            "burned": float(shares.mean()),
            "standard_error": _error(shares),
            "ratio": float(ratios.mean()),
            "ratio_error": _error(ratios),
        }
    return found


def lines(found: dict[str, dict[str, float]]) -> list[str]:
    width = max(map(len, found))
    rows = [f"{'breaks':{width}}  burned   error  of {REFERENCE}"]
    for name, one in found.items():
        ratio = f"{one['ratio']:.3f} (+- {one['ratio_error']:.3f})"
        rows.append(f"{name:{width}}  {one['burned']:.4f}  {one['standard_error']:.4f}  {ratio}")
    return rows


def curve(arguments: argparse.Namespace, points: int = 8) -> list[tuple[float, float]]:
    """Minutes, and the best share by then, on average over seeds."""
    times = np.linspace(0, arguments.minutes, points + 1)[1:]
    best = []
    for seed in seeds_of(arguments):
        text = (arguments.folder / f"seed_{seed}" / "metrics.jsonl").read_text()
        compared = [line for line in map(json.loads, text.splitlines()) if "burned" in line]
        best.append([min((one["burned"] for one in compared if one["seconds"] <= 60 * time), default=np.nan) for time in times])
    return list(zip(times.tolist(), np.mean(best, axis=0).tolist(), strict=True))


def as_json(value: Any) -> Any:
    """The same with None for what is not known: the error of a single seed, a share before the first comparison."""
    if isinstance(value, dict):
        return {name: as_json(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(one) for one in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


if __name__ == "__main__":
    main()
