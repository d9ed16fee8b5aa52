"""Creatures: where they are, and where the games draw them into an observation."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Creatures(NamedTuple):
    """Where the ``M`` creatures of a state are; dead ones still have a place."""

    position: jax.Array
    """int32 ``[M, 2]``: row and column on the map."""
    alive: jax.Array
    """bool ``[M]``."""
    channel: jax.Array
    """int32 ``[M]``: the channel that shows them."""


def cells_in_view(creatures: Creatures, player_position: jax.Array, view: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Where living creatures are in a view around the player.

    Args:
        view: rows and columns.

    Returns:
        cell int32 ``[M]`` (row by row; 0 for those that are not in view), and whether the creature is in view (bool ``[M]``).
    """
    local, in_view = _local(creatures, player_position, view)
    return jnp.where(in_view, local[:, 0] * view[1] + local[:, 1], 0), in_view


def creature_cells(creatures: Creatures, player_position: jax.Array, view: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Where creatures are shown in a view, as the games draw them.

    The games write a 1 for each living creature in view and a 0 for any other, one after the other into one array. So a
    creature can erase an earlier one: a dead one on the same cell, or one outside the view by less than the view's
    size, whose negative index wraps around. This is the games' behaviour, reproduced exactly.

    Args:
        creatures: in the order in which the game draws them.
        view: rows and columns.

    Returns:
        cell int32 ``[M]`` (row by row), and whether the creature is shown (bool ``[M]``).
    """
    dims = jnp.asarray(view)
    local, in_view = _local(creatures, player_position, view)
    wrapped = jnp.where(local < 0, local + dims, local)
    writes = ((wrapped >= 0) & (wrapped < dims)).all(axis=1)
    cell = wrapped[:, 0] * view[1] + wrapped[:, 1]
    same = (cell[:, None] == cell[None]) & (creatures.channel[:, None] == creatures.channel[None])
    later = jnp.arange(len(cell))[None] > jnp.arange(len(cell))[:, None]
    erased = (same & later & writes[None]).any(axis=1)
    return jnp.where(in_view, cell, 0), in_view & ~erased


def _local(creatures: Creatures, player_position: jax.Array, view: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Row and column in the view, and whether a living creature is there."""
    dims = jnp.asarray(view)
    local = creatures.position - player_position + dims // 2
    return local, ((local >= 0) & (local < dims)).all(axis=1) & creatures.alive
