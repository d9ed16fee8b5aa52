"""``python -m flowrl.fire.compare_with_scar``: simulates a fire that happened, beside what it burned."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flowrl.config import parse
from flowrl.errors import ALL_COMPLETED, INTERRUPTED, BadInput, FlowrlError
from flowrl.fire.landscapes.fuels import guess_system
from flowrl.fire.landscapes.landscape import Landscape
from flowrl.fire.landscapes.layers import NEEDED, Layers, landscape_of, read_folder, window
from flowrl.fire.pictures.paths import check_matplotlib, check_picture
from flowrl.fire.validation.recorded_fire import RecordedFire, read_recorded_fire, read_scar
from flowrl.ranges import AT_LEAST_ONE, FRACTION, NOT_NEGATIVE, check_ranges

if TYPE_CHECKING:
    from flowrl.fire.validation.overlap import Overlap

PROG = "python -m flowrl.fire.compare_with_scar"
_MARGIN_CELLS = 5
_OUTLINE = "#1f5fd0"


@dataclass(frozen=True)
class ScarSettings:
    """Simulates a recorded fire many times, and compares what burns with what burned."""

    layers: Path
    """A folder with layers, Ignitions.csv, Weather.csv and a shapefile of what burned."""
    fires: int = 1000
    """Simulated fires."""
    num_steps: int = 60
    """The most steps that a fire burns."""
    p_h: float = 0.58
    """How likely fire passes to a cell of normal shrubs on flat ground without wind; published is 0.58."""
    seed: int = 0
    """Of the fires."""
    output: Path | None = None
    """A picture: a file that ends in .png, .pdf or .svg."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    try:
        settings = parse(ScarSettings, list(sys.argv[1:] if arguments is None else arguments), PROG)
        check_ranges(settings, {AT_LEAST_ONE: ("fires", "num_steps"), FRACTION: ("p_h",), NOT_NEGATIVE: ("seed",)})
        check_picture(settings.output)
        check_matplotlib("what burned is compared with the layers")  # by its test for points in polygons
        landscape, fire, scar = read(settings)
        from flowrl.fire.validation.overlap import Constants, simulate_recorded  # imports JAX

        overlap = simulate_recorded(
            landscape,
            fire,
            scar,
            num_fires=settings.fires,
            num_steps=settings.num_steps,
            seed=settings.seed,
            constants=Constants(p_h=settings.p_h),
        )
        print("\n".join(report(overlap, float(landscape.cell_size_m))))
        if settings.output is not None:
            draw(settings.output, landscape, fire, overlap)
            print(f"picture: {settings.output}")
    except FlowrlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return ALL_COMPLETED


def read(settings: ScarSettings) -> tuple[Landscape, RecordedFire, np.ndarray]:
    """The landscape around the fire, the fire and its scar; a fire of ``T`` steps stays within ``T`` cells of its start.

    Raises:
        BadInput: a file is missing or wrong, or the fire began outside of the layers, or where nothing burns.
    """
    layers = read_folder(settings.layers, NEEDED)
    shape = layers.values["fuels"].shape
    if layers.georeference is None:
        raise BadInput(
            f"the layers of {settings.layers} have no georeference, which a scar needs; use layers with one, such as GeoTIFF"
        )
    fire = read_recorded_fire(settings.layers, shape[1])
    if not 0 <= fire.row < shape[0]:
        raise BadInput(f"the fire began in row {fire.row}, but the layers have {shape[0]} rows")
    scar = read_scar(settings.layers, layers.georeference, shape)
    top, left, bottom, right = _around(fire, scar, settings.num_steps + _MARGIN_CELLS)
    part: Layers = window(layers, top, left, bottom - top, right - left)
    moved = fire._replace(row=fire.row - top, column=fire.column - left)
    landscape = landscape_of(part, guess_system(layers.values["fuels"]))
    if not landscape.burnable[moved.row, moved.column]:
        raise BadInput(
            f"the fire began in row {fire.row}, column {fire.column}, which does not burn by the fuels of {settings.layers}; "
            "correct Ncell in Ignitions.csv, or the fuels"
        )
    return landscape, moved, scar[top:bottom, left:right]


def report(overlap: Overlap, cell_size_m: float) -> list[str]:
    """Lines with the overlap after several numbers of steps; the best one is marked."""
    hectares = cell_size_m**2 / 1e4
    last, best = len(overlap.jaccard) - 1, overlap.best_step
    lines = [
        f"the real fire burned: {overlap.scar.sum()} cells, {overlap.scar.sum() * hectares:.2f} ha;"
        f" {len(overlap.arrivals)} simulated fires",
        "steps  mean burned, ha  Jaccard (burn probability >= 0.5)  Jaccard of a single fire",
    ]
    for step in sorted({*range(10, last + 1, 10), best, last}):
        mark = "  best" if step == best else ""
        lines.append(
            f"{step:5d}  {overlap.mean_cells[step] * hectares:15.2f}  {overlap.jaccard[step]:33.3f}"
            f"  {overlap.single_jaccard[step]:24.3f}{mark}"
        )
    return lines


def draw(path: Path, landscape: Landscape, fire: RecordedFire, overlap: Overlap) -> None:
    """A picture: the vegetation, the burn probability at the best step, the overlap over steps.

    Raises:
        BadInput: the picture cannot be written.
    """
    from flowrl.fire.pictures import maps  # loads matplotlib

    figure, axes = maps.new_figure(3)
    land, fires, curve = axes[0]
    maps.draw_vegetation(land, landscape)
    maps.draw_outline(land, overlap.scar, _OUTLINE)
    land.set_title("Vegetation, darker where denser")
    probability = overlap.burn_probability(overlap.best_step)
    image = maps.draw_probability(fires, probability, landscape.burnable)
    maps.draw_outline(fires, overlap.scar, _OUTLINE)
    fires.plot([], [], color=_OUTLINE, linewidth=1.6, label="mapped perimeter, on both maps")
    fires.plot(fire.column, fire.row, marker="*", markersize=13, color="#2ca02c", linestyle="none", label="start")
    fires.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, frameon=False)
    fires.set_title(f"Burn probability after {overlap.best_step} steps, {len(overlap.arrivals)} fires")
    figure.colorbar(image, ax=fires, shrink=0.7)
    curve.plot(overlap.jaccard, label="cells with burn probability >= 0.5")
    curve.plot(overlap.single_jaccard, label="a single fire, mean")
    curve.set(xlabel="steps", ylabel="Jaccard index with the mapped scar", ylim=(0, 1), title="Overlap")
    curve.legend(frameon=False)
    maps.save(figure, path)


def _around(fire: RecordedFire, scar: np.ndarray, margin: int) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of a window that holds the scar and what the fire can reach."""
    rows, columns = np.nonzero(scar)
    top, left = min(rows.min(), fire.row - margin), min(columns.min(), fire.column - margin)
    bottom, right = max(rows.max(), fire.row + margin) + 1, max(columns.max(), fire.column + margin) + 1
    return max(0, int(top)), max(0, int(left)), min(scar.shape[0], int(bottom)), min(scar.shape[1], int(right))


if __name__ == "__main__":
    sys.exit(main())
