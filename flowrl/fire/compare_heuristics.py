"""``python -m flowrl.fire.compare_heuristics``: known ways of placing fuel breaks, side by side."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flowrl.config import parse
from flowrl.errors import ALL_COMPLETED, INTERRUPTED, BadInput, FlowrlError
from flowrl.fire.landscapes.fuels import guess_system
from flowrl.fire.landscapes.landscape import Landscape
from flowrl.fire.landscapes.layers import NEEDED, landscape_of, read_folder, window
from flowrl.fire.landscapes.synthetic import Recipe, make_synthetic
from flowrl.fire.pictures.paths import check_picture
from flowrl.machine import free_memory
from flowrl.ranges import AT_LEAST_ONE, FINITE, FRACTION, NOT_NEGATIVE, POSITIVE, check_ranges

if TYPE_CHECKING:
    from flowrl.fire.heuristics.comparison import Judged

PROG = "python -m flowrl.fire.compare_heuristics"


@dataclass(frozen=True)
class ComparisonSettings:
    """Lets known heuristics place fuel breaks, and prints what held-out fires burn then."""

    layers: Path | None = None
    """A folder with the layers of a landscape; synthetic landscapes without it."""
    fuel_system: Literal["auto", "fbfm40", "canadian"] = "auto"
    """How the fuel layer codes its fuels."""
    cell_size: float | None = None
    """Side of a cell in metres, for layers that do not say it, such as numpy arrays."""
    crop: tuple[int, int, int, int] | None = None
    """Only this window of the layers: first row, first column, rows, columns."""
    num_landscapes: int = 6
    """Synthetic landscapes."""
    size: int = 20
    """Rows and columns of a synthetic landscape."""
    num_steps: int = 60
    """Steps that a fire burns."""
    budget: float = 0.05
    """Cells of break, as a share of the cells that burn."""
    fires: int = 1024
    """Held-out fires for each landscape, and as many to plan with."""
    wind_speed: float = 6.0
    """Mean speed of the wind, m/s."""
    wind_from: float = 270.0
    """Prevailing wind: where it comes from, in degrees clockwise from north."""
    wind_spread: float = 20.0
    """Standard deviation of its direction, degrees."""
    seed: int = 0
    """Of landscapes and fires."""
    output: Path | None = None
    """A picture of the breaks in the first landscape: a file that ends in .png, .pdf or .svg."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    try:
        settings = parse(ComparisonSettings, list(sys.argv[1:] if arguments is None else arguments), PROG)
        _check(settings)
        landscapes = landscapes_of(settings)
        _check_memory(settings, landscapes[0])
        from flowrl.fire.heuristics.comparison import Setting, WindClimate, compare, table  # imports JAX

        climate = WindClimate(settings.wind_speed, settings.wind_from, settings.wind_spread)
        setting = Setting(settings.num_steps, climate, settings.budget, settings.fires, settings.fires)
        size = " x ".join(map(str, landscapes[0].shape))
        count = "1 landscape" if len(landscapes) == 1 else f"{len(landscapes)} landscapes"
        print(f"{count} of {size}, {settings.fires} held-out fires each, {settings.num_steps} steps")
        results = compare(landscapes, settings.seed, setting)
        print("\n".join(table(results)))
        if settings.output is not None:
            draw(settings.output, landscapes[0], {name: judged[0] for name, judged in results.items()})
            print(f"picture: {settings.output}")
    except FlowrlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return ALL_COMPLETED


def landscapes_of(settings: ComparisonSettings) -> list[Landscape]:
    """The landscapes that the flags ask for.

    Raises:
        BadInput: there are none such.
    """
    if settings.layers is None:
        recipe = Recipe(height=settings.size, width=settings.size)
        return [make_synthetic(settings.seed + number, recipe) for number in range(settings.num_landscapes)]
    layers = read_folder(settings.layers, NEEDED)
    # By all codes of the layer: a window may hold only such as both systems have.
    system = guess_system(layers.values["fuels"]) if settings.fuel_system == "auto" else settings.fuel_system
    if settings.crop is not None:
        layers = window(layers, *settings.crop)
    return [landscape_of(layers, system, settings.cell_size)]


def draw(path: Path, landscape: Landscape, judged: Mapping[str, Judged]) -> None:
    """A picture: the vegetation of a landscape, and the breaks of each heuristic over what burns then.

    Raises:
        BadInput: the picture cannot be written.
    """
    from flowrl.fire.pictures import maps  # loads matplotlib

    columns = -(-(len(judged) + 1) // 2)
    figure, grid = maps.new_figure(columns, 2, side=3.6)
    land, *others = grid.ravel()
    maps.draw_vegetation(land, landscape)
    land.set_title("vegetation, darker where denser")
    image = None
    for axes, (name, one) in zip(others, judged.items(), strict=False):
        image = maps.draw_probability(axes, one.burn_probability, landscape.burnable)
        maps.draw_breaks(axes, one.breaks)
        axes.set_title(f"{name}: burned {one.burned_share:.3f}")
    for axes in others[len(judged) :]:
        axes.set_axis_off()
    figure.colorbar(image, ax=grid, shrink=0.5, label="burn probability; breaks are blue")
    maps.save(figure, path)


def _check(settings: ComparisonSettings) -> None:
    check_picture(settings.output)
    check_ranges(
        settings,
        {
            AT_LEAST_ONE: ("num_landscapes", "size", "num_steps", "fires"),
            FRACTION: ("budget",),
            POSITIVE: ("cell_size",),
            NOT_NEGATIVE: ("wind_speed", "wind_spread", "seed"),
            FINITE: ("wind_from",),
        },
    )


def _check_memory(settings: ComparisonSettings, landscape: Landscape) -> None:
    """
    Raises:
        BadInput: the fires would not fit into the memory that is free.
    """
    from flowrl.fire.heuristics.protection_value import BYTES_PER_CELL  # imports JAX

    rows, columns = landscape.shape
    needed, free = settings.fires * rows * columns * BYTES_PER_CELL, free_memory()
    smaller = "a smaller --size" if settings.layers is None else "--crop"
    if needed > free:
        raise BadInput(
            f"{settings.fires:,} fires in {rows} x {columns} cells need {needed / 1e9:.1f} GB of memory, and "
            f"{free / 1e9:.1f} GB are free; give {smaller}, or fewer --fires"
        )


if __name__ == "__main__":
    sys.exit(main())
