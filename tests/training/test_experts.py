from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowrl.training.learning import experts

ROWS, FEATURES, OUTPUTS = 53, 4, 3


@functools.cache
def compiled_sort(num_experts, block_size):
    return jax.jit(lambda expert, wanted: experts.sort_into_blocks(expert, wanted, num_experts, block_size))


def network(params, inputs):
    return jnp.tanh(inputs @ params["weights"] + params["bias"])


def stacked_params(num_experts, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "weights": jnp.asarray(rng.normal(size=(num_experts, FEATURES, OUTPUTS)), jnp.float32),
        "bias": jnp.asarray(rng.normal(size=(num_experts, OUTPUTS)), jnp.float32),
    }


def inputs():
    return jnp.asarray(np.random.default_rng(1).normal(size=(ROWS, FEATURES)), jnp.float32)


owners = {
    "balanced": lambda k: np.arange(ROWS) % k,
    "skewed": lambda k: np.where(np.arange(ROWS) < ROWS - 2, 0, k - 1),
    "one task": lambda k: np.full(ROWS, k - 1),
}


@pytest.mark.parametrize(("count", "padded"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (9, 16)])
def test_counts_are_padded_to_powers_of_two(count, padded):
    assert experts.padded_count(count) == padded


def test_stacking_pads_and_unstacking_gives_the_experts_back():
    one_by_one = [jax.tree.map(lambda leaf: leaf[k], stacked_params(3)) for k in range(3)]
    stacked = experts.stack(one_by_one)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(stacked)} == {4}
    assert not any(np.any(leaf[3]) for leaf in jax.tree.leaves(stacked))
    for original, back in zip(one_by_one, experts.unstack(stacked, 3), strict=True):
        jax.tree.map(np.testing.assert_array_equal, original, back)


@pytest.mark.parametrize(("num_experts", "block_size"), [(1, 8), (2, 1), (4, 8), (4, 64)])
def test_every_wanted_row_is_in_exactly_one_block_of_its_expert(num_experts, block_size):
    sort = compiled_sort(num_experts, block_size)

    @settings(max_examples=60, deadline=None)
    @given(arrays(np.int32, ROWS, elements=st.integers(0, num_experts - 1)), arrays(bool, ROWS))
    def check(expert, wanted):
        blocks = jax.device_get(sort(expert, wanted))
        used = blocks.rows[: blocks.num_blocks]
        filled = used < ROWS
        assert sorted(used[filled]) == list(np.flatnonzero(wanted))
        owner = np.broadcast_to(blocks.expert[: blocks.num_blocks, None], used.shape)
        np.testing.assert_array_equal(owner[filled], expert[used[filled]])
        partly_filled = blocks.expert[: blocks.num_blocks][~filled.all(axis=1)]
        assert len(set(partly_filled)) == len(partly_filled)
        assert filled.any(axis=1).all()

    check()


@functools.cache
def in_blocks_and_masked(num_experts):
    params = stacked_params(num_experts)

    @jax.jit
    def both(expert, wanted):
        blocks = experts.sort_into_blocks(expert, wanted, num_experts, 8)
        return experts.apply(network, params, inputs(), blocks), experts.masked(network, params, inputs(), expert)

    return both


@pytest.mark.parametrize("distribution", owners)
@pytest.mark.parametrize("num_experts", [1, 2, 4])
def test_blocks_agree_with_computing_everything_and_masking(num_experts, distribution):
    expert = np.asarray(owners[distribution](num_experts), np.int32)
    in_blocks, masked = in_blocks_and_masked(num_experts)(expert, np.ones(ROWS, bool))
    np.testing.assert_allclose(in_blocks, masked, rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(arrays(np.int32, ROWS, elements=st.integers(0, 3)), arrays(bool, ROWS))
def test_blocks_and_mask_agree_for_any_owners_and_rows_not_wanted_give_zero(expert, wanted):
    in_blocks, masked = in_blocks_and_masked(4)(expert, wanted)
    np.testing.assert_allclose(in_blocks, np.where(wanted[:, None], masked, 0), rtol=1e-5, atol=1e-6)


def test_masking_takes_each_rows_own_expert():
    params = stacked_params(2)
    expert = jnp.asarray(owners["balanced"](2), jnp.int32)
    result = experts.masked(network, params, inputs(), expert)
    for row, owner in enumerate(expert):
        own = jax.tree.map(lambda leaf: leaf[owner], params)
        np.testing.assert_allclose(result[row], network(own, inputs()[row : row + 1])[0], rtol=1e-5, atol=1e-6)
