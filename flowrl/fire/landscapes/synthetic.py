"""Landscapes that are made up: hills, woods and lakes from correlated random fields."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowrl.errors import BadInput
from flowrl.fire.landscapes.landscape import Density, Landscape, Vegetation, make_landscape


class Recipe(NamedTuple):
    """What a made landscape is like.

    Attributes:
        height, width: cells.
        cell_size_m: metres.
        correlation_cells: how far things of one kind reach, in cells.
        relief_m: standard deviation of the elevation, metres.
        not_burnable: the share of water and rock, in [0, 1).
        vegetation, density: the shares of the classes among all cells; they are made to add up to 1.
    """

    height: int = 20
    width: int = 20
    cell_size_m: float = 100.0
    correlation_cells: float = 3.0
    relief_m: float = 60.0
    not_burnable: float = 0.1
    vegetation: tuple[float, float, float] = (0.35, 0.4, 0.25)
    density: tuple[float, float, float] = (0.35, 0.4, 0.25)


USUAL = Recipe()


def make_synthetic(seed: int, recipe: Recipe = USUAL) -> Landscape:
    """A landscape from a seed; the same seed gives the same landscape.

    Elevation, vegetation, density and water come from four independent Gaussian fields. Shares are exact up to a cell,
    because classes are cut at the field's own quantiles.

    Raises:
        BadInput: the recipe is impossible.
    """
    _check(recipe)
    rng = np.random.default_rng(seed)
    shape = (recipe.height, recipe.width)
    elevation = correlated_field(rng, shape, 2 * recipe.correlation_cells) * recipe.relief_m
    vegetation = _classes(correlated_field(rng, shape, recipe.correlation_cells), recipe.vegetation)
    density = _classes(correlated_field(rng, shape, recipe.correlation_cells), recipe.density)
    water = correlated_field(rng, shape, recipe.correlation_cells)
    burnable = _classes(water, (recipe.not_burnable, 1 - recipe.not_burnable)) == 1
    return make_landscape(vegetation, density, burnable, elevation - elevation.min(), recipe.cell_size_m)


def correlated_field(rng: np.random.Generator, shape: tuple[int, int], correlation_cells: float) -> np.ndarray:
    """A Gaussian random field of mean 0 and standard deviation 1 over the grid.

    White noise is smoothed by a Gaussian of standard deviation ``correlation_cells``, in frequencies: the correlation of two
    cells falls as ``exp(-d^2 / (4 correlation_cells^2))`` with their distance. The noise covers more than the grid, so that
    opposite edges are not alike, as they would be on a torus.

    Returns:
        float64 ``[H, W]``.
    """
    margin = int(np.ceil(6 * correlation_cells))
    rows, columns = shape[0] + margin, shape[1] + margin
    squares = np.fft.fftfreq(rows)[:, None] ** 2 + np.fft.rfftfreq(columns)[None, :] ** 2
    smoothing = np.exp(-2 * (np.pi * correlation_cells) ** 2 * squares)
    noise = np.fft.rfft2(rng.standard_normal((rows, columns)))
    field = np.fft.irfft2(noise * smoothing, s=(rows, columns))[: shape[0], : shape[1]]
    return (field - field.mean()) / max(field.std(), np.finfo(float).tiny)


def _classes(field: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    """Classes 0, 1, ... with the given shares: the lowest values of the field are class 0."""
    ranks = np.empty(field.size, int)
    ranks[np.argsort(field, axis=None)] = np.arange(field.size)
    bounds = np.round(np.cumsum(shares) / np.sum(shares) * field.size)
    return np.searchsorted(bounds, ranks, side="right").reshape(field.shape)


def _check(recipe: Recipe) -> None:
    if min(recipe.height, recipe.width) < 1:
        raise BadInput(f"a landscape needs at least one row and column, but {recipe.height} x {recipe.width} was asked for")
    if not 0 <= recipe.not_burnable < 1:
        raise BadInput(f"the share that does not burn must be at least 0 and below 1, but is {recipe.not_burnable}")
    if not recipe.correlation_cells > 0 or not recipe.relief_m >= 0:
        raise BadInput(
            f"the correlation length must be positive and the relief not negative, but are {recipe.correlation_cells} cells"
            f" and {recipe.relief_m} m"
        )
    for name, kind in (("vegetation", Vegetation), ("density", Density)):
        shares = getattr(recipe, name)
        if len(shares) != len(kind) or min(shares) < 0 or sum(shares) <= 0:
            raise BadInput(f"{name} needs {len(kind)} shares that are not negative and not all 0, but got {shares}")
