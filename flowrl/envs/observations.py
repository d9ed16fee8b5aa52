"""What an agent sees, in compact form: the indices of the few ones among thousands of zeros.

Nearly all of a game's observation is one-hot: for each cell in view, which block, which item, which creature.
An `Observation` keeps the indices of the columns that are 1 and the few numbers that are not one-hot; a `Layout`
expands it to the game's own observation, bit for bit. 8,268 floats (33 kB) become 826 bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Observation(NamedTuple):
    """What agents see (any leading axes, the same for both fields)."""

    columns: jax.Array
    """uint16 ``[..., num_fields]``: for each field the one-hot column that is 1; the number of one-hot columns if the
    field shows nothing. No column is in two fields of one observation."""
    scalars: jax.Array
    """float32 ``[..., num_scalars]``: the last numbers of the game's observation, unchanged."""


class Layout(NamedTuple):
    """The layout of a game's observation: one-hot columns first, other numbers last."""

    num_columns: int
    """The number of one-hot columns."""
    num_fields: int
    """The most columns that can be 1 at the same time."""
    num_scalars: int

    @property
    def size(self) -> int:
        """The number of values in the game's own observation."""
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
