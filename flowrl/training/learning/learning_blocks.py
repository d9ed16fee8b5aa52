"""The gradient of one expert, from its own samples of a minibatch.

Within a minibatch the samples of an expert are adjacent; their number varies. They are computed in blocks of the
largest size, after one block that is just large enough for the rest. Each block has a fixed cost: it reads the
parameters, and adds its gradient to the sum. So an expert whose samples fit into one block gets one, and no sum.
`masked_gradient` is the plain reference: it computes every sample, and gives those of other experts no weight.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from flowrl.training.learning.networks import Params

LARGEST_BLOCK = 1024
LARGEST_BLOCK_OFF_CPU = 8192
"""Many small blocks in a row would leave a GPU idle."""
SMALL_BLOCK = 128
"""For a minibatch that would not fill a large block."""
FEW_SIZES = 3 / 4, 1 / 2, 1 / 4
"""Sizes of the other blocks, as fractions of the largest: for experts that fill many of these, and where
compiling is slow. (Each size takes a second and 50 MB to compile.)"""
MANY_SIZES = 3 / 4, 17 / 32, 1 / 2, 3 / 8, 9 / 32, 1 / 4, 1 / 8, 1 / 16, 1 / 32
"""For experts that have one block. Where environments are shared evenly, counts scatter around a half or a quarter, so
there is a size a little above each."""

Loss = Callable[[Params, Any, jax.Array], tuple[jax.Array, Any]]
"""``(params, samples [n, ...], weights [n]) -> (weighted sum of the samples' losses, weighted sums of other
statistics)``."""

Draw = Callable[[jax.Array], Any]
"""Samples ``[n, ...]`` at places ``[n]`` of a minibatch; places beyond its end may give any value."""


def gradient(
    loss: Loss, params: Params, draw: Draw, begin: jax.Array, end: jax.Array, sizes: Sequence[int], most: int
) -> tuple[Params, Any]:
    """The gradient of the mean loss of the samples from ``begin`` to before ``end``, and the means of the other statistics.

    Args:
        begin, end: int32 scalars, ``begin < end``.
        sizes: block sizes, from `block_sizes`, the largest first; static.
        most: the largest possible ``end - begin``; static.
    """
    largest, count = sizes[0], end - begin
    num_more = jnp.maximum(0, -(-(count - largest) // largest))
    for_first = count - num_more * largest

    def of_block(size, first):
        places = first + jnp.arange(size)
        return jax.grad(loss, has_aux=True)(params, draw(places), (places < end) / count)

    number_of_first = jnp.sum(for_first <= jnp.asarray(sizes)) - 1
    first_block = jax.lax.switch(number_of_first, [functools.partial(of_block, size) for size in sizes], begin)
    if most <= largest:
        return first_block
    rest = begin + jnp.asarray(sizes)[number_of_first]

    def one_more(number, totals):
        return jax.tree.map(jnp.add, totals, of_block(largest, rest + number * largest))

    return jax.lax.fori_loop(0, num_more, one_more, first_block)


def masked_gradient(
    loss: Loss, params: Params, draw: Draw, begin: jax.Array, end: jax.Array, num_rows: int
) -> tuple[Params, Any]:
    """The plain reference of `gradient`: all ``num_rows`` samples of the minibatch; those of others have no weight."""
    places = jnp.arange(num_rows)
    weights = ((begin <= places) & (places < end)) / (end - begin)
    return jax.grad(loss, has_aux=True)(params, draw(places), weights)


def block_sizes(num_rows: int, num_experts: int) -> list[int]:
    """The sizes of the blocks in which an expert's samples of a minibatch are computed, the largest first.

    Each size has to be compiled, so a small minibatch gets only one.
    """
    on_cpu = jax.default_backend() == "cpu"
    largest = min(LARGEST_BLOCK if on_cpu else LARGEST_BLOCK_OFF_CPU, _power_of_two(num_rows))
    if num_experts == 1 and num_rows % largest == 0:
        return [largest]
    if num_rows < LARGEST_BLOCK:
        return [min(largest, SMALL_BLOCK)]
    parts = MANY_SIZES if on_cpu and num_rows <= num_experts * largest else FEW_SIZES
    return sorted({largest, *(max(1, int(part * largest)) for part in parts)}, reverse=True)


def _power_of_two(number: int) -> int:
    """The largest that is not above ``number``."""
    return 1 << number.bit_length() - 1
