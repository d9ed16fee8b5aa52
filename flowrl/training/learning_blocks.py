"""The gradient of one expert, from its own samples of a minibatch.

Within a minibatch the samples of an expert lie side by side. They are computed in blocks: a large block reads the
parameters, and adds up the gradient, less often; of the last one a part is computed for nothing. So there are blocks
of a few sizes. `masked_gradient` is the plain reference: it computes every sample, and gives those of others no weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from flowrl.training.networks import Params

LARGEST_BLOCK = 1024
LARGEST_BLOCK_OFF_CPU = 8192
"""A GPU is kept waiting by many small blocks, one after the other."""
SMALL_BLOCK = 128
"""Of a minibatch that would not fill a large one."""
SMALLEST_BLOCKS = 16, 64
"""The bounds of the smallest size of a block."""
FULL_ENOUGH = 7 / 8
"""The part of a block that has to be filled, unless it is the smallest."""

Loss = Callable[[Params, Any, jax.Array], tuple[jax.Array, Any]]
"""``(params, samples [n, ...], weights [n]) -> (weighted sum of the samples' losses, the same of whatever else is told)``."""

Draw = Callable[[jax.Array], Any]
"""Samples ``[n, ...]`` at places ``[n]`` of a minibatch; places beyond its end may give any."""


def gradient(loss: Loss, params: Params, draw: Draw, begin: jax.Array, end: jax.Array, sizes: Sequence[int]) -> tuple[Params, Any]:
    """The gradient of the mean loss of the samples from ``begin`` to before ``end``, and the means of what else is told.

    Args:
        begin, end: int32 scalars.
        sizes: of blocks, as `block_sizes` gives them; static.
    """

    def block_of(size):
        def one_block(carried):
            first, totals = carried
            places = first + jnp.arange(size)
            found = jax.grad(loss, has_aux=True)(params, draw(places), (places < end) / (end - begin))
            return first + size, jax.tree.map(jnp.add, totals, found)

        return one_block

    _, told = jax.eval_shape(lambda: loss(params, draw(jnp.arange(1)), jnp.ones(1)))
    carried = begin, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (params, told))
    for size in sizes:
        filled = 0 if size == sizes[-1] else int(FULL_ENOUGH * size)
        carried = jax.lax.while_loop(lambda at, filled=filled: end - at[0] > filled, block_of(size), carried)
    return carried[1]


def masked_gradient(loss: Loss, params: Params, draw: Draw, begin: jax.Array, end: jax.Array, num_rows: int) -> tuple[Params, Any]:
    """The plain reference of `gradient`: all ``num_rows`` samples of the minibatch, of which others count nothing."""
    places = jnp.arange(num_rows)
    weights = ((begin <= places) & (places < end)) / (end - begin)
    return jax.grad(loss, has_aux=True)(params, draw(places), weights)


def block_sizes(num_rows: int, num_experts: int) -> list[int]:
    """The sizes of the blocks in which an expert's samples of a minibatch are computed, the largest first.

    Each is a quarter of the one before, and there is one that an expert's share of the minibatch fills. Each is a loop to be
    compiled: what is small anyway has one.
    """
    bound = LARGEST_BLOCK if jax.default_backend() == "cpu" else LARGEST_BLOCK_OFF_CPU
    largest = min(bound, _power_of_two(num_rows))
    if num_experts == 1 and num_rows % largest == 0:
        return [largest]
    if num_rows < LARGEST_BLOCK:
        return [min(largest, SMALL_BLOCK)]
    share = max(1, num_rows // num_experts)
    least, most = SMALLEST_BLOCKS
    smallest = max(least, min(most, _power_of_two(max(1, share // 8))))
    quarters = (largest >> 2 * number for number in range(largest.bit_length()))
    return sorted({size for size in (*quarters, _power_of_two(share), smallest) if smallest <= size <= largest}, reverse=True)


def _power_of_two(number: int) -> int:
    """The largest that is not above ``number``."""
    return 1 << number.bit_length() - 1
