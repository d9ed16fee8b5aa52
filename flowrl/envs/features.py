"""What a skill's code may ask for: the features of one game state, and of one step.

`Features` is what is read off a single state; `TaskInputs` is what a step from one state to the next
offers to ``task_is_done`` and ``task_reward``, under the names that their parameters use. All of it
travels as NamedTuples of fixed shape, so that the large compiled programs (the game, the features, the
networks) do not depend on any skill's code.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

NOT_IN_VIEW = 30
"""Row and column offset of a block type that is nowhere in view."""

HEALTH_WEIGHT = 0.1
"""Penalty for each point of health lost in a step (the game's own reward uses the same weight)."""


class Features(NamedTuple):
    """What is read off one game state (add a leading ``[B]`` where batched)."""

    inventory: Any
    """The game's own inventory struct of int32."""
    closest_blocks: jax.Array
    """int32 ``[num_block_types, 2, 1]``: row and column offset of the nearest block of each type in view."""
    player_level: jax.Array
    """int32 scalar: the floor, 0 is the overworld."""
    monsters_killed: jax.Array
    """int32 ``[num_levels]``: monsters killed on each floor; ``[0]`` where the game does not count them."""
    player_intrinsics: jax.Array
    """int32 ``[4]`` or ``[5]``: health, food, drink, energy, and mana where the game has it."""
    achievements: jax.Array
    """bool ``[num_achievements]``."""


class TaskInputs(NamedTuple):
    """What one step offers to a skill's two functions; each field is a parameter name."""

    inventory: Any
    inventory_diff: Any
    closest_blocks: jax.Array
    closest_blocks_prev: jax.Array
    player_level: jax.Array
    player_level_diff: jax.Array
    monsters_killed: jax.Array
    monsters_killed_diff: jax.Array
    player_intrinsics: jax.Array
    player_intrinsics_diff: jax.Array
    achievements: jax.Array
    achievements_diff: jax.Array
    health_penalty: jax.Array
    n: jax.Array


def nearest_blocks(view: jax.Array, visible: jax.Array, num_block_types: int) -> jax.Array:
    """Offsets of the nearest block of each type, by steps to walk (L1), the first in reading order of equals.

    Args:
        view: int32 ``[rows, columns]`` block types around the player, who stands in the middle.
        visible: bool ``[rows, columns]``; a block in the dark is not in view.
        num_block_types: how many types there are.

    Returns:
        int32 ``[num_block_types, 2, 1]``; both offsets are ``NOT_IN_VIEW`` where there is none.
    """
    rows, columns = view.shape
    cells = jnp.arange(rows * columns, dtype=jnp.int32)
    row_offset = cells // columns - rows // 2
    column_offset = cells % columns - columns // 2
    # One integer holds distance and cell, so that a plain minimum finds both (argmin is slow on a CPU).
    rank = (jnp.abs(row_offset) + jnp.abs(column_offset)) * cells.size + cells
    nowhere = jnp.iinfo(jnp.int32).max
    types = jnp.arange(num_block_types, dtype=view.dtype)[:, None]
    matches = (view.reshape(1, -1) == types) & visible.reshape(1, -1)
    best = jnp.min(jnp.where(matches, rank, nowhere), axis=1)
    cell = best % cells.size
    offsets = jnp.stack([cell // columns - rows // 2, cell % columns - columns // 2], axis=1)
    return jnp.where((best < nowhere)[:, None], offsets, NOT_IN_VIEW).astype(jnp.int32)[:, :, None]


def task_inputs(before: Features, after: Features, n: jax.Array | int) -> TaskInputs:
    """What the step from ``before`` to ``after`` offers to a skill's code, for one environment.

    ``health_penalty`` is ``HEALTH_WEIGHT`` times the health that was lost, as a number that is never positive.
    """
    intrinsics_diff = after.player_intrinsics - before.player_intrinsics
    return TaskInputs(
        inventory=after.inventory,
        inventory_diff=jax.tree.map(jnp.subtract, after.inventory, before.inventory),
        closest_blocks=after.closest_blocks,
        closest_blocks_prev=before.closest_blocks,
        player_level=after.player_level,
        player_level_diff=after.player_level - before.player_level,
        monsters_killed=after.monsters_killed,
        monsters_killed_diff=after.monsters_killed - before.monsters_killed,
        player_intrinsics=after.player_intrinsics,
        player_intrinsics_diff=intrinsics_diff,
        achievements=after.achievements,
        achievements_diff=after.achievements & ~before.achievements,
        health_penalty=HEALTH_WEIGHT * jnp.minimum(intrinsics_diff[0], 0).astype(jnp.float32),
        n=jnp.asarray(n, jnp.int32),
    )
