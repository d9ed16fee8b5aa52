"""How open the player's place is: where something could walk up from."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

REACH = 4
"""Steps. In the open 40 cells are within reach, at the end of a tunnel 4."""


def ways_in(view: jax.Array, closed: Sequence[int]) -> jax.Array:
    """int32 scalar: the cells in view from which something could walk to the player within `REACH` steps.

    Args:
        view: int32 ``[rows, columns]``: block types around the player, who stands in the middle.
        closed: the types that nothing walks on.
    """
    free = ~jnp.isin(view, np.array(closed, np.int32))
    reached = jnp.zeros(view.shape, bool).at[view.shape[0] // 2, view.shape[1] // 2].set(True)
    for _ in range(REACH):
        around = jnp.pad(reached, 1)
        beside = around[:-2, 1:-1] | around[2:, 1:-1] | around[1:-1, :-2] | around[1:-1, 2:]
        reached = reached | (free & beside)
    return reached.sum(dtype=jnp.int32) - 1
