"""The gradient of one expert, from its own samples of a minibatch.

Within a minibatch the samples of an expert lie side by side. They are computed in blocks: a large block reads the
parameters, and adds up the gradient, less often; of the last one a part is computed for nothing. So there are blocks
of a few sizes, each compiled up to twice: for the first block, and for those that follow. Where experts have few samples each, most have one block, whose gradient is all there is: it is never added to
zeros. `masked_gradient` is the plain reference: it computes every sample, and gives those of others no weight.
"""

from __future__ import annotations

import functools
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
OTHER_BLOCKS = 1 / 2, 1 / 4, 1 / 16, 1 / 32
"""The sizes of the others, as parts of the largest."""
SMALLEST_BLOCK = 8
"""However small an expert's share of the minibatch is."""
SMALLEST_BLOCK_OFF_CPU = 256
"""A GPU takes as long for fewer samples."""
FULL_ENOUGH = 7 / 8
"""The part of a block that has to be filled, unless it is the smallest."""

Loss = Callable[[Params, Any, jax.Array], tuple[jax.Array, Any]]
"""``(params, samples [n, ...], weights [n]) -> (weighted sum of the samples' losses, the same of whatever else is told)``."""

Draw = Callable[[jax.Array], Any]
"""Samples ``[n, ...]`` at places ``[n]`` of a minibatch; places beyond its end may give any."""


def gradient(
    loss: Loss, params: Params, draw: Draw, begin: jax.Array, end: jax.Array, sizes: Sequence[int], most: int
) -> tuple[Params, Any]:
    """The gradient of the mean loss of the samples from ``begin`` to before ``end``, and the means of what else is told.

    Args:
        begin, end: int32 scalars, ``begin < end``.
        sizes: of blocks, as `block_sizes` gives them; static.
        most: samples that there may be from ``begin`` to ``end``; static.
    """
    fewest = _fewest(sizes)

    def of_block(size, first):
        places = first + jnp.arange(size)
        return jax.grad(loss, has_aux=True)(params, draw(places), (places < end) / (end - begin))

    def one_more(size):
        def add(carried):
            first, totals = carried
            return first + size, jax.tree.map(jnp.add, totals, of_block(size, first))

        return add

    number_of_first = jnp.argmax(end - begin >= jnp.asarray(fewest))
    first_block = jax.lax.switch(number_of_first, [functools.partial(of_block, size) for size in sizes], begin)
    carried = begin + jnp.asarray(sizes)[number_of_first], first_block
    most_left = _most_left(sizes, most)
    for size, at_least in zip(sizes, fewest):
        if most_left >= at_least:
            carried = jax.lax.while_loop(lambda at, at_least=at_least: end - at[0] >= at_least, one_more(size), carried)
    return carried[1]


def _fewest(sizes: Sequence[int]) -> list[int]:
    """How many samples there have to be for a block of each size."""
    return [*(int(FULL_ENOUGH * size) + 1 for size in sizes[:-1]), 1]


def _most_left(sizes: Sequence[int], most: int) -> int:
    """Of up to ``most`` samples, those that the first block may leave for others."""
    most_for = [most, *(fewest - 1 for fewest in _fewest(sizes)[:-1])]
    return max(min(most, bound) - size for bound, size in zip(most_for, sizes))


def masked_gradient(loss: Loss, params: Params, draw: Draw, begin: jax.Array, end: jax.Array, num_rows: int) -> tuple[Params, Any]:
    """The plain reference of `gradient`: all ``num_rows`` samples of the minibatch, of which others count nothing."""
    places = jnp.arange(num_rows)
    weights = ((begin <= places) & (places < end)) / (end - begin)
    return jax.grad(loss, has_aux=True)(params, draw(places), weights)


def block_sizes(num_rows: int, num_experts: int) -> list[int]:
    """The sizes of the blocks in which an expert's samples of a minibatch are computed, the largest first.

    Each is to be compiled, so there are few: what is small anyway has one. An expert's share of the minibatch fills one.
    """
    on_cpu = jax.default_backend() == "cpu"
    largest = min(LARGEST_BLOCK if on_cpu else LARGEST_BLOCK_OFF_CPU, _power_of_two(num_rows))
    if num_experts == 1 and num_rows % largest == 0:
        return [largest]
    if num_rows < LARGEST_BLOCK:
        return [min(largest, SMALL_BLOCK)]
    smallest = min(largest, SMALLEST_BLOCK if on_cpu else SMALLEST_BLOCK_OFF_CPU)
    share = _power_of_two(max(1, num_rows // num_experts))
    parts = (int(part * largest) for part in OTHER_BLOCKS)
    return sorted({size for size in (largest, *parts, share) if smallest <= size <= largest}, reverse=True)


def _power_of_two(number: int) -> int:
    """The largest that is not above ``number``."""
    return 1 << number.bit_length() - 1
