"""Areas to place breaks in: synthetic ones, and windows of somebody's layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from flowrl.errors import BadInput
from flowrl.fire.landscapes.landscape import Landscape
from flowrl.fire.landscapes.layers import Layers, landscape_of, window
from flowrl.fire.landscapes.rasters import Georeference
from flowrl.fire.landscapes.synthetic import Recipe, make_synthetic

CANOPY = ("canopy_cover", "canopy_base_height", "canopy_height", "canopy_bulk_density")
"""Layers that the fire model does not use, but an agent sees."""
LEAST_BURNABLE = 0.5
"""A window of somebody's layers is taken if at least this share of it burns."""
_TRIES = 200


class FireArea(NamedTuple):
    """A landscape, and what else is known of it.

    Attributes:
        landscape: what burns; all areas of a batch have the same shape.
        canopy: float32 ``[4, H, W]``, the layers of :data:`CANOPY`, each as a share of its highest value; 0 where unknown.
        georeference: where it lies; None if nobody says.
        name: for messages and files.
    """

    landscape: Landscape
    canopy: np.ndarray
    georeference: Georeference | None
    name: str


def made_areas(num_areas: int, side: int, seed: int) -> list[FireArea]:
    """Synthetic landscapes of ``side`` x ``side`` cells; number ``i`` is that of the seed ``seed + i``."""
    recipe = Recipe(height=side, width=side)
    return [area_of(make_synthetic(seed + number, recipe), f"synthetic {seed + number}") for number in range(num_areas)]


def area_of(landscape_data: Any, name: str = "area") -> FireArea:
    """An area from what a user has: an area, a landscape, or layers (`read_folder`).

    Raises:
        BadInput: it is something else, or the layers make no landscape.
    """
    if isinstance(landscape_data, FireArea):
        return landscape_data
    if isinstance(landscape_data, Landscape):
        return FireArea(landscape_data, np.zeros((len(CANOPY), *landscape_data.shape), np.float32), None, name)
    if isinstance(landscape_data, Layers):
        landscape = landscape_of(landscape_data)
        return FireArea(landscape, _canopy(landscape_data, landscape.shape), landscape_data.georeference, name)
    raise BadInput(
        f"a landscape must be a FireArea, a Landscape or Layers, found {type(landscape_data).__name__}; for data of your own, "
        "write create_environment in a subclass of VectorizedFireEnv"
    )


class Windows(NamedTuple):
    """Windows of somebody's layers.

    Attributes:
        areas: at random places that do not overlap if there is room.
        test_areas: at other places, which share no cell with ``areas``.
    """

    areas: list[FireArea]
    test_areas: list[FireArea]


def windows_of(
    layers: Layers,
    num_areas: int,
    side: int,
    seed: int,
    fuel_system: str | None = None,
    *,
    num_test_areas: int = 0,
    cell_size_m: float | None = None,
) -> Windows:
    """Windows of ``side`` x ``side`` cells, of which at least half burns.

    Args:
        num_areas, num_test_areas: how many; fewer if no more are found.
        fuel_system, cell_size_m: as in `landscape_of`.

    Raises:
        BadInput: the layers are smaller than a window, or no window has enough that burns.
    """
    rows, columns = next(iter(layers.values.values())).shape
    if side > min(rows, columns):
        raise BadInput(
            f"grid_size {side} is more than the layers have: {rows} x {columns} cells; give at most {min(rows, columns)}"
        )
    whole = landscape_of(layers, fuel_system, cell_size_m)
    canopy = _canopy(layers, whole.shape)
    possible = _places(rows - side + 1, columns - side + 1, side, seed)
    burning = [place for place in dict.fromkeys(possible) if _burning_share(whole, place, side) >= LEAST_BURNABLE]
    if not burning:
        raise BadInput(f"no window of {side} x {side} cells has {LEAST_BURNABLE:.0%} that burns; give another grid_size")
    places = burning[:num_areas]
    apart = [place for place in burning if not any(_overlap(place, taken, side) for taken in places)]
    return Windows(
        *([_cut(layers, whole, canopy, place, side) for place in chosen] for chosen in (places, apart[:num_test_areas]))
    )


def _burning_share(whole: Landscape, place: tuple[int, int], side: int) -> float:
    row, column = place
    return float(whole.burnable[row : row + side, column : column + side].mean())


def _overlap(place: tuple[int, int], other: tuple[int, int], side: int) -> bool:
    return abs(place[0] - other[0]) < side and abs(place[1] - other[1]) < side


def _places(rows: int, columns: int, side: int, seed: int) -> list[tuple[int, int]]:
    """Corners of windows to try: first those of a grid without overlaps, in random order, then any."""
    rng = np.random.default_rng(seed)
    apart = [(row, column) for row in range(0, rows, side) for column in range(0, columns, side)]
    anywhere = zip(rng.integers(rows, size=_TRIES).tolist(), rng.integers(columns, size=_TRIES).tolist())
    return [apart[number] for number in rng.permutation(len(apart))] + list(anywhere)


def _cut(layers: Layers, whole: Landscape, canopy: np.ndarray, place: tuple[int, int], side: int) -> FireArea:
    row, column = place
    part = slice(row, row + side), slice(column, column + side)
    cells = Landscape(*(values[part] for values in whole[:-1]), whole.cell_size_m)
    georeference = window(layers, row, column, side, side).georeference
    return FireArea(cells, canopy[:, *part], georeference, f"window at row {row}, column {column}")


def _canopy(layers: Layers, shape: tuple[int, int]) -> np.ndarray:
    return np.stack([_share_of_highest(layers.values.get(name), shape) for name in CANOPY])


def _share_of_highest(values: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    if values is None or not np.isfinite(values).any() or np.nanmax(values) <= 0:
        return np.zeros(shape, np.float32)
    return np.clip(np.nan_to_num(values) / np.nanmax(values), 0, 1).astype(np.float32)


def same_shape(areas: Sequence[FireArea]) -> tuple[int, int]:
    """Rows and columns of all areas.

    Raises:
        BadInput: there is no area, or they differ.
    """
    if not areas:
        raise BadInput("no landscapes were given; give at least one")
    first = areas[0]
    for area in areas[1:]:
        if area.landscape.shape != first.landscape.shape:
            raise BadInput(
                f"landscapes must have one shape: {first.name} has {first.landscape.shape}, {area.name} {area.landscape.shape}"
            )
    return first.landscape.shape
