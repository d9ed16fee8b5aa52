"""One environment or many: functions written for a batch, offered for a single environment, with ``jax.vmap`` for the rest.

Experts act in blocks (`flowrl.training.learning.experts`) and a planner chooses only where a task is due. An ordinary
``vmap`` of a single environment's step would give up both: it would gather a copy of an expert for each environment, and
plan everywhere at every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap


def one_of(batch_function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A function of a batch as a function of one environment; its ``vmap`` is the function of the batch.

    Args:
        batch_function: of what all environments share, and of a tree of arrays ``[B, ...]``; returns a tree of arrays
            ``[B, ...]``.
    """

    def alone(shared, each):
        found = batch_function(shared, jax.tree.map(lambda leaf: leaf[None], each))
        return jax.tree.map(lambda leaf: leaf[0], found)

    function = custom_vmap(alone)

    @function.def_vmap
    def together(size, is_batched, shared, each):
        shared_is_batched, each_is_batched = is_batched
        if any(jax.tree.leaves(shared_is_batched)):  # several libraries side by side
            found = jax.vmap(alone, in_axes=jax.tree.map(_axis, is_batched))(shared, each)
        else:
            found = batch_function(
                shared, jax.tree.map(lambda leaf, has_axis: _rows(leaf, has_axis, size), each, each_is_batched)
            )
        return found, jax.tree.map(lambda _: True, found)

    return function


def _axis(is_batched: bool) -> int | None:
    return 0 if is_batched else None


def _rows(leaf: jax.Array, has_axis: bool, size: int) -> jax.Array:
    return leaf if has_axis else jnp.broadcast_to(leaf, (size, *leaf.shape))
