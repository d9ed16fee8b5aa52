"""Many experts in one program, each sample paid for once.

The experts' parameters are stacked along a first axis of ``K``. Each sample belongs to one expert. Rather
than computing every expert on every sample and masking (`masked`, the plain reference), samples are sorted
into *blocks* that belong to a single expert, and each block is computed with that expert's parameters
alone: the cost follows the number of samples, not samples times experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.training.learning.networks import Params


class Blocks(NamedTuple):
    """Rows of a batch of ``N``, sorted into blocks of one expert each."""

    rows: jax.Array
    """int32 ``[max_blocks, block_size]``: row numbers; ``N`` pads the last block of an expert."""
    expert: jax.Array
    """int32 ``[max_blocks]``: the block's expert."""
    num_blocks: jax.Array
    """int32 scalar: how many blocks are in use; they come first."""


def padded_count(num_experts: int) -> int:
    """The next power of two, so that a few programs serve any number of experts."""
    return 1 << (num_experts - 1).bit_length()


def stack(experts: Sequence[Params]) -> Params:
    """Parameters of ``K`` experts as one tree with a first axis of ``padded_count(K)`` (padding is zeros)."""
    padding = padded_count(len(experts)) - len(experts)

    def join(*leaves):
        # Stacked on the host: on the device, each shape would compile another small program.
        leaves = [*map(np.asarray, leaves)]
        return jax.device_put(np.stack([*leaves, *[np.zeros_like(leaves[0])] * padding]))

    return jax.tree.map(join, *experts)


def unstack(stacked: Any, num_experts: int) -> list[Any]:
    """The first ``num_experts`` entries of a stacked tree, one tree of numpy arrays per expert."""
    stacked = jax.device_get(stacked)
    return [select(stacked, index) for index in range(num_experts)]


def select(stacked: Any, index: jax.Array | int) -> Any:
    """One expert's entry of a stacked tree."""
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def sort_into_blocks(expert: jax.Array, wanted: jax.Array, num_experts: int, block_size: int) -> Blocks:
    """Sorts the wanted rows of a batch by expert.

    Args:
        expert: int32 ``[N]``, below ``num_experts``.
        wanted: bool ``[N]``; other rows are in no block.
        num_experts, block_size: static.

    Every wanted row is in exactly one block; each expert has at most one block that is not full.
    """
    num_rows = expert.shape[0]
    max_blocks = num_rows // block_size + num_experts
    owner = jnp.where(wanted, expert, num_experts)
    order = jnp.argsort(owner, stable=True).astype(jnp.int32)
    counts = jnp.sum(owner[None] == jnp.arange(num_experts)[:, None], axis=1)
    first_row = jnp.cumsum(counts) - counts
    blocks_of = -(-counts // block_size)
    last_block = jnp.cumsum(blocks_of)

    block = jnp.arange(max_blocks)
    block_expert = jnp.minimum(jnp.sum(last_block[None] <= block[:, None], axis=1), num_experts - 1)
    block_in_expert = block - (last_block - blocks_of)[block_expert]
    place = block_in_expert[:, None] * block_size + jnp.arange(block_size)
    in_use = (place < counts[block_expert][:, None]) & (block < last_block[-1])[:, None]
    position = jnp.minimum(first_row[block_expert][:, None] + place, num_rows - 1)
    rows = jnp.where(in_use, order[position], num_rows)
    return Blocks(rows.astype(jnp.int32), block_expert.astype(jnp.int32), last_block[-1].astype(jnp.int32))


def apply(function: Callable[[Params, Any], jax.Array], stacked: Params, inputs: Any, blocks: Blocks) -> jax.Array:
    """``function(params of the row's expert, row)`` for every row in a block; rows in no block give 0.

    Args:
        function: maps one expert's parameters and inputs ``[block_size, ...]`` to outputs ``[block_size, ...]``.
        stacked: parameters ``[K, ...]``.
        inputs: ``[N, ...]``, an array or a tree of them.

    Returns:
        ``[N, ...]``.
    """
    num_rows = jax.tree.leaves(inputs)[0].shape[0]

    def taken(rows):
        return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="clip"), inputs)

    block_inputs = jax.eval_shape(lambda: taken(blocks.rows[0]))
    block_output = jax.eval_shape(function, jax.eval_shape(select, stacked, 0), block_inputs)
    outputs = jnp.zeros((num_rows, *block_output.shape[1:]), block_output.dtype)

    def one_block(number, outputs):
        rows = blocks.rows[number]
        result = function(select(stacked, blocks.expert[number]), taken(rows))
        return outputs.at[rows].set(result, mode="drop")

    return jax.lax.fori_loop(0, blocks.num_blocks, one_block, outputs)


def one_by_one(function: Callable[[jax.Array, Any], tuple[Any, Any]], stacked: Any, wanted: jax.Array) -> tuple[Any, Any]:
    """Changes the wanted experts, one after the other; the others keep their entries bit for bit, and cost nothing.

    Args:
        function: maps an expert's number and its entry of ``stacked`` to the new entry, and to anything else of fixed shape.
        stacked: a tree with a first axis of ``K`` experts.
        wanted: bool ``[K]``.

    Returns:
        the new tree, and the other outputs ``[K, ...]``; 0 for experts that were not wanted.
    """
    blank = jax.eval_shape(function, jnp.int32(0), jax.eval_shape(select, stacked, 0))[1]
    others = jax.tree.map(lambda leaf: jnp.zeros((len(wanted), *leaf.shape), leaf.dtype), blank)
    order = jnp.argsort(~wanted, stable=True)

    def one(place, carried):
        number = order[place]
        found = function(number, select(carried[0], number))
        return jax.tree.map(lambda every, own: jax.lax.dynamic_update_index_in_dim(every, own, number, 0), carried, found)

    return jax.lax.fori_loop(0, jnp.sum(wanted), one, (stacked, others))


def masked(function: Callable[[Params, Any], jax.Array], stacked: Params, inputs: Any, expert: jax.Array) -> jax.Array:
    """The plain reference of :func:`apply`: every expert on every row, then the row's own is kept."""
    everything = jax.vmap(function, in_axes=(0, None))(stacked, inputs)
    return everything[expert, jnp.arange(expert.shape[0])]
