"""How likely a fire passes from a burning cell to each of its eight neighbours.

The model of Alexandridis, Vakalis, Siettos and Bafas (2008), "A cellular automata model for forest fire spread prediction:
the case of the wildfire that swept through Spetses Island in 1990", Applied Mathematics and Computation 204, 191-201:

    p = p_h (1 + p_veg) (1 + p_den) p_w p_s, clipped to [0, 1]
    p_w = exp(c1 V) exp(c2 V (cos theta - 1))
    p_s = exp(a theta_s)

``p_veg`` and ``p_den`` belong to the cell that may catch fire. ``V`` is the speed of the wind in m/s, ``theta`` the angle
between the way the fire moves and the way the wind blows, ``theta_s`` the slope in degrees from the burning cell to the
other, positive uphill: ``atan(rise / distance)``, where the distance to a diagonal neighbour is sqrt(2) sides of a cell.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from flowrl.fire.landscapes.landscape import Landscape
from flowrl.fire.spread.directions import AZIMUTHS_DEG, LENGTHS, OFFSETS, at_source


class Constants(NamedTuple):
    """The constants of the model, as its authors fitted them to the fire of Spetses.

    Attributes:
        p_h: how likely fire passes to a cell of normal shrubs on flat ground without wind.
        a: of slope, for each degree.
        c1, c2: of wind, for each m/s.
        vegetation: ``p_veg`` of agriculture, shrubs, pine.
        density: ``p_den`` of sparse, normal, dense vegetation.
    """

    p_h: float = 0.58
    a: float = 0.078
    c1: float = 0.045
    c2: float = 0.131
    vegetation: tuple[float, float, float] = (-0.3, 0.0, 0.4)
    density: tuple[float, float, float] = (-0.4, 0.0, 0.3)


ALEXANDRIDIS_2008 = Constants()
"""The published values."""


def wind_factors(speed_m_s: jax.Array, from_deg: jax.Array, constants: Constants = ALEXANDRIDIS_2008) -> jax.Array:
    """``p_w`` for each direction that a fire may move in.

    Args:
        speed_m_s: ``[...]``, m/s.
        from_deg: ``[...]``, where the wind comes from, in degrees clockwise from north, as weather services give it.

    Returns:
        float ``[..., 8]``, in the order of :data:`~flowrl.fire.spread.directions.OFFSETS`.
    """
    speed, towards = jnp.asarray(speed_m_s)[..., None], jnp.asarray(from_deg)[..., None] + 180.0
    with_wind = jnp.cos(jnp.deg2rad(AZIMUTHS_DEG - towards))
    return jnp.exp(constants.c1 * speed) * jnp.exp(constants.c2 * speed * (with_wind - 1.0))


def slope_factors(elevation_m: jax.Array, cell_size_m: jax.Array, constants: Constants = ALEXANDRIDIS_2008) -> jax.Array:
    """``p_s`` into each cell, for each direction that a fire may come in.

    Args:
        elevation_m: ``[H, W]``, metres.
        cell_size_m: ``[]``, metres.

    Returns:
        float ``[8, H, W]``; meaningless where the fire would come from outside.
    """
    elevation = jnp.asarray(elevation_m)
    rises = jnp.stack([elevation - at_source(elevation, direction) for direction in range(len(OFFSETS))])
    degrees = jnp.rad2deg(jnp.arctan(rises / (cell_size_m * LENGTHS[:, None, None])))
    return jnp.exp(constants.a * degrees)


def calm_probabilities(landscape: Landscape, constants: Constants = ALEXANDRIDIS_2008) -> jax.Array:
    """What does not depend on the wind, ``p_h (1 + p_veg) (1 + p_den) p_s``, not yet clipped.

    Returns:
        float ``[8, H, W]``: into each cell, for each direction that a fire may come in; 0 where the cell does not burn, or
        the fire would come from a cell that does not burn or from outside.
    """
    vegetation, density = jnp.asarray(constants.vegetation), jnp.asarray(constants.density)
    fuel = (1.0 + vegetation[landscape.vegetation]) * (1.0 + density[landscape.density])
    burnable = jnp.asarray(landscape.burnable)
    sources = jnp.stack([at_source(burnable, direction) for direction in range(len(OFFSETS))])
    slopes = slope_factors(landscape.elevation_m, landscape.cell_size_m, constants)
    return jnp.where(burnable & sources, constants.p_h * fuel * slopes, 0.0)


@jax.jit
def passing_probabilities(
    landscape: Landscape, speed_m_s: jax.Array, from_deg: jax.Array, constants: Constants = ALEXANDRIDIS_2008
) -> jax.Array:
    """``p`` into each cell, for each direction that a fire may come in.

    Args:
        landscape: one landscape.
        speed_m_s, from_deg: ``[...]``, the wind as in :func:`wind_factors`.

    Returns:
        float ``[..., 8, H, W]`` in [0, 1].
    """
    winds = wind_factors(speed_m_s, from_deg, constants)
    return jnp.clip(calm_probabilities(landscape, constants) * winds[..., None, None], 0.0, 1.0)
