"""A landscape as the fire model sees it: how well each cell burns, and how high it lies."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from flowrl.errors import BadInput


class Vegetation(IntEnum):
    """The kinds of vegetation of Alexandridis et al. (2008), from the one that carries fire worst to the best."""

    AGRICULTURE = 0
    SHRUBS = 1
    PINE = 2


class Density(IntEnum):
    """How closely the vegetation stands (Alexandridis et al. 2008)."""

    SPARSE = 0
    NORMAL = 1
    DENSE = 2


class Landscape(NamedTuple):
    """A grid of square cells; row 0 is the northern edge, column 0 the western one.

    Several landscapes of one shape may be one batch (:func:`stack`): every field then has a leading axis ``B``.

    Attributes:
        vegetation: int8 ``[H, W]``, a :class:`Vegetation` for each cell; meaningless where nothing burns.
        density: int8 ``[H, W]``, a :class:`Density` for each cell; meaningless where nothing burns.
        burnable: bool ``[H, W]``, False for water, rock, towns and cells without data.
        elevation_m: float32 ``[H, W]``, metres.
        cell_size_m: float32 ``[]``, the side of a cell in metres.
    """

    vegetation: np.ndarray
    density: np.ndarray
    burnable: np.ndarray
    elevation_m: np.ndarray
    cell_size_m: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.burnable.shape[-2:]


def make_landscape(vegetation, density, burnable, elevation_m, cell_size_m: float) -> Landscape:
    """A landscape of checked numpy arrays.

    Args:
        vegetation, density: classes ``[H, W]``, looked at only where ``burnable``.
        burnable: bool ``[H, W]``.
        elevation_m: ``[H, W]``, metres; cells without a value (NaN) do not burn.
        cell_size_m: metres.

    Raises:
        BadInput: shapes differ, a class is unknown, the cell size is not positive, or nothing burns.
    """
    layers = {"vegetation": vegetation, "density": density, "burnable": burnable, "elevation": elevation_m}
    shapes = {name: np.shape(values) for name, values in layers.items()}
    if len(set(shapes.values())) > 1 or len(np.shape(burnable)) != 2:
        raise BadInput(f"a landscape needs layers of one shape [rows, columns], but got {_listed(shapes)}")
    elevation = np.asarray(elevation_m, np.float32)
    burnable = np.asarray(burnable, bool) & np.isfinite(elevation)
    vegetation, density = np.where(burnable, vegetation, 0), np.where(burnable, density, 0)
    if not cell_size_m > 0:
        raise BadInput(f"the side of a cell must be a positive number of metres, but is {cell_size_m}")
    if not burnable.any():
        raise BadInput(f"nothing burns in this landscape: none of its {burnable.size} cells is burnable and has an elevation")
    for name, classes, kind in (("vegetation", vegetation, Vegetation), ("density", density, Density)):
        if classes.min() < 0 or classes.max() >= len(kind):
            raise BadInput(f"{name} classes are 0 to {len(kind) - 1}, but found {classes.min()} to {classes.max()}")
    # A cell without data has no slope of its own; the mean keeps it from looking like a cliff.
    elevation = np.where(np.isfinite(elevation), elevation, elevation[burnable].mean())
    return Landscape(
        vegetation.astype(np.int8), density.astype(np.int8), burnable, elevation.astype(np.float32), np.float32(cell_size_m)
    )


def stack(landscapes: Sequence[Landscape]) -> Landscape:
    """Landscapes of one shape as one batch: each field with a leading axis.

    Raises:
        BadInput: there are none, or their shapes differ.
    """
    shapes = sorted({landscape.shape for landscape in landscapes})
    if len(shapes) != 1:
        raise BadInput(f"a batch needs landscapes of one shape, but got {shapes or 'none'}")
    return Landscape(*(np.stack(values) for values in zip(*landscapes, strict=True)))


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in shapes.items())
