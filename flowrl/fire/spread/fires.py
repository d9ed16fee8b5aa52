"""Fires to be: where each starts, in which wind, and the random numbers by which it spreads."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Fires(NamedTuple):
    """``N`` fires, fixed before any of them burns.

    The same fires can be let loose on one landscape under many sets of breaks: whatever differs then is due to the breaks.

    Attributes:
        row, column: int32 ``[N]``, the cell where each starts.
        wind_speed_m_s: float32 ``[N]``, m/s.
        wind_from_deg: float32 ``[N]``, where the wind comes from, in degrees clockwise from north.
        key: random keys ``[N]``, by which each spreads.
    """

    row: jax.Array
    column: jax.Array
    wind_speed_m_s: jax.Array
    wind_from_deg: jax.Array
    key: jax.Array

    @property
    def num_fires(self) -> int:
        return self.key.shape[0]


class WindClimate(NamedTuple):
    """The winds that blow while a landscape may burn.

    Attributes:
        mean_speed_m_s: mean of the speed. Speeds have a Weibull distribution of shape 2, as is usual for wind.
        from_deg: the prevailing direction, where the wind comes from, in degrees clockwise from north.
        spread_deg: standard deviation of the direction, which is normal around the prevailing one.
    """

    mean_speed_m_s: float = 6.0
    from_deg: float = 270.0
    spread_deg: float = 20.0


FIRE_WINDS = WindClimate()
"""A steady wind from the west."""


@partial(jax.jit, static_argnames="num_fires")
def draw_fires(key: jax.Array, burnable: jax.Array, num_fires: int, climate: WindClimate = FIRE_WINDS) -> Fires:
    """Fires that start in burnable cells, each equally likely, in winds of a climate.

    Fire ``i`` depends on ``key`` and ``i`` only: a larger number of fires begins with the same ones.

    Args:
        key: a random key.
        burnable: bool ``[H, W]``, at least one of them True (:func:`~flowrl.fire.landscapes.landscape.make_landscape`
            sees to that). Breaks do not belong here: a fire that would start in one does not start.
    """
    cumulative = jnp.cumsum(jnp.ravel(jnp.asarray(burnable)))

    def draw(fire_key):
        cell_key, speed_key, direction_key, spread_key = jax.random.split(fire_key, 4)
        place = jax.random.randint(cell_key, (), 0, cumulative[-1])
        cell = jnp.searchsorted(cumulative, place, side="right")
        # Weibull of shape 2 and scale s has the mean s gamma(3/2) = s sqrt(pi) / 2.
        scale = 2.0 * climate.mean_speed_m_s / jnp.sqrt(jnp.pi)
        speed = jax.random.weibull_min(speed_key, scale, 2.0)
        direction = climate.from_deg + climate.spread_deg * jax.random.normal(direction_key)
        return cell, speed, direction % 360.0, spread_key

    cells, speeds, directions, spread_keys = jax.vmap(draw)(_fire_keys(key, num_fires))
    rows, columns = jnp.divmod(cells.astype(jnp.int32), burnable.shape[1])
    return Fires(rows, columns, speeds, directions, spread_keys)


@partial(jax.jit, static_argnames="num_fires")
def given_fires(key: jax.Array, num_fires: int, row, column, wind_speed_m_s, wind_from_deg) -> Fires:
    """Fires whose start and wind are known; only how they spread is drawn.

    Args:
        key: a random key.
        row, column, wind_speed_m_s, wind_from_deg: as in :class:`Fires`, one value for each fire or one for all.
    """

    def broadcast(values, dtype):
        return jnp.broadcast_to(jnp.asarray(values, dtype), (num_fires,))

    return Fires(
        broadcast(row, jnp.int32),
        broadcast(column, jnp.int32),
        broadcast(wind_speed_m_s, jnp.float32),
        broadcast(wind_from_deg, jnp.float32),
        _fire_keys(key, num_fires),
    )


def _fire_keys(key: jax.Array, num_fires: int) -> jax.Array:
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(num_fires))
