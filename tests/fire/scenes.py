"""Small landscapes and fires that the tests of the fire room share."""

from __future__ import annotations

import jax
import numpy as np

from flowrl.fire.landscapes.landscape import Density, Landscape, Vegetation, make_landscape
from flowrl.fire.spread.fires import Fires, given_fires


def plain(height: int = 21, width: int = 21, **changed) -> Landscape:
    """Flat, with normal shrubs everywhere."""
    layers = {
        "vegetation": np.full((height, width), Vegetation.SHRUBS),
        "density": np.full((height, width), Density.NORMAL),
        "burnable": np.ones((height, width), bool),
        "elevation_m": np.zeros((height, width)),
        "cell_size_m": 100.0,
    }
    return make_landscape(**(layers | changed))


def rough(seed: int, height: int, width: int) -> Landscape:
    """Every class in every place, hills, and a quarter of the cells that do not burn."""
    rng = np.random.default_rng(seed)
    burnable = rng.random((height, width)) < 0.75
    burnable[height // 2, width // 2] = True
    return plain(
        height,
        width,
        vegetation=rng.integers(0, 3, (height, width)),
        density=rng.integers(0, 3, (height, width)),
        burnable=burnable,
        elevation_m=rng.normal(0, 40, (height, width)),
    )


def fires_in_the_middle(
    landscape: Landscape, num_fires: int, speed: float = 0.0, from_deg: float = 0.0, seed: int = 0
) -> Fires:
    rows, columns = landscape.shape
    return given_fires(jax.random.key(seed), num_fires, rows // 2, columns // 2, speed, from_deg)
