"""The nearest block and the nearest creature of each type around the player."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.craftax.creatures import Creatures, cells_in_view
from flowrl.envs.craftax.facts import NOT_IN_VIEW


def nearest_blocks(view: jax.Array, visible: jax.Array, num_block_types: int) -> jax.Array:
    """Offsets of the nearest block of each type, by walking distance (L1); of equals, the first in reading order.

    Args:
        view: int32 ``[rows, columns]`` block types around the player, who stands in the middle.
        visible: bool ``[rows, columns]``; a block in the dark is not in view.
        num_block_types: how many types there are.

    Returns:
        int32 ``[num_block_types, 2, 1]``; both offsets are ``NOT_IN_VIEW`` if there is none.
    """
    types = jnp.arange(num_block_types, dtype=view.dtype)[:, None]
    matches = (view.reshape(1, -1) == types) & visible.reshape(1, -1)
    return _nearest(matches, jnp.arange(view.size, dtype=jnp.int32), view.shape)


def nearest_creatures(creatures: Creatures, channels: np.ndarray, player_position: jax.Array, visible: jax.Array) -> jax.Array:
    """Offsets of the nearest living creature of each type, by steps to walk (L1), the first in reading order of equals.

    Args:
        creatures: all around the player; those of other types are left out.
        channels: int32 ``[C]``, the channel of each type.
        player_position: int32 ``[2]``, row and column on the map.
        visible: bool ``[rows, columns]``; a creature in the dark is not in view.

    Returns:
        int32 ``[C, 2, 1]``; both offsets are ``NOT_IN_VIEW`` where there is none.
    """
    cell, in_view = cells_in_view(creatures, player_position, visible.shape)
    matches = (creatures.channel == channels[:, None]) & in_view & visible.reshape(-1)[cell]
    return _nearest(matches, cell, visible.shape)


def _nearest(matches: jax.Array, cells: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """The offsets of the nearest of ``cells`` (int32 ``[N]``) for each row of ``matches`` (bool ``[K, N]``)."""
    rows, columns = shape
    row_offset = cells // columns - rows // 2
    column_offset = cells % columns - columns // 2
    # One integer holds distance and cell, so that a plain minimum finds both (argmin is slow on a CPU).
    rank = (jnp.abs(row_offset) + jnp.abs(column_offset)) * (rows * columns) + cells
    nowhere = jnp.iinfo(jnp.int32).max
    best = jnp.min(jnp.where(matches, rank, nowhere), axis=1)
    cell = best % (rows * columns)
    offsets = jnp.stack([cell // columns - rows // 2, cell % columns - columns // 2], axis=1)
    return jnp.where((best < nowhere)[:, None], offsets, NOT_IN_VIEW).astype(jnp.int32)[:, :, None]
