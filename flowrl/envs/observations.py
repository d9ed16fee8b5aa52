"""What an agent sees, held small: the numbers of the few ones among thousands of zeros.

Nearly all of a game's observation is one-hot: for each cell in view, which block, which item, which creature.
An `Observation` keeps the numbers of the columns that are 1 and the few numbers that are not one-hot; a
`Layout` expands it to the game's own observation, bit for bit. Craftax's 8,268 floats (33 kB) become 826 bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Observation(NamedTuple):
    """What agents see (any leading axes, the same for both fields)."""

    columns: jax.Array
    """uint16 ``[..., num_fields]``: for each field the one-hot column that is 1; the number of one-hot columns
    where the field shows nothing. No column stands in two fields of one observation."""
    scalars: jax.Array
    """float32 ``[..., num_scalars]``: the last numbers of the game's observation, as they are."""


class Layout(NamedTuple):
    """How a game's observation is made up: one-hot columns first, other numbers last."""

    num_columns: int
    """One-hot columns."""
    num_fields: int
    """Columns that can be 1 at the same time, at most."""
    num_scalars: int

    @property
    def size(self) -> int:
        """Numbers in the game's own observation."""
        return self.num_columns + self.num_scalars

    def expand(self, observation: Observation) -> jax.Array:
        """The game's own observation, float32 ``[N, size]``, from fields ``[N, ...]``."""
        rows = jnp.arange(observation.columns.shape[0])[:, None]
        blank = jnp.zeros((observation.columns.shape[0], self.num_columns))
        one_hot = blank.at[rows, observation.columns.astype(jnp.int32)].set(1.0, mode="drop")
        return jnp.concatenate([one_hot, observation.scalars], axis=1)


def dense(values: jax.Array) -> Observation:
    """An observation without one-hot columns, from its values ``[..., num_scalars]``."""
    return Observation(jnp.zeros((*values.shape[:-1], 0), jnp.uint16), values.astype(jnp.float32))


class Creatures(NamedTuple):
    """Where the ``M`` creatures of a state are; dead ones still have a place."""

    position: jax.Array
    """int32 ``[M, 2]``: row and column on the map."""
    alive: jax.Array
    """bool ``[M]``."""
    channel: jax.Array
    """int32 ``[M]``: the channel that shows them."""


def creature_cells(creatures: Creatures, player_position: jax.Array, view: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Where creatures are shown in a view, as the games draw them.

    The games write a 1 for a living creature in view and a 0 for any other, one after the other into one array.
    So a creature can erase one before it: a dead one on the same cell, or one outside the view by less than the
    view's own size, whose negative place counts from the other end. This is the games' rule, kept for exactness.

    Args:
        creatures: in the order in which the game draws them.
        view: rows and columns.

    Returns:
        cell int32 ``[M]`` (row by row), and whether the creature is shown (bool ``[M]``).
    """
    dims = jnp.asarray(view)
    local = creatures.position - player_position + dims // 2
    in_view = ((local >= 0) & (local < dims)).all(axis=1) & creatures.alive
    wrapped = jnp.where(local < 0, local + dims, local)
    writes = ((wrapped >= 0) & (wrapped < dims)).all(axis=1)
    cell = wrapped[:, 0] * view[1] + wrapped[:, 1]
    same = (cell[:, None] == cell[None]) & (creatures.channel[:, None] == creatures.channel[None])
    later = jnp.arange(len(cell))[None] > jnp.arange(len(cell))[:, None]
    erased = (same & later & writes[None]).any(axis=1)
    return jnp.where(in_view, cell, 0), in_view & ~erased
