"""Gradients by blocks, against computing every sample and giving those of others no weight."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowrl.training.learning import learning_blocks

ROWS = 40


def loss(params, samples, weights):
    """Of a small regression; also tells the mean error."""
    inputs, target = samples
    error = jnp.tanh(inputs @ params["weights"]) + params["bias"] - target
    return jnp.sum(weights * error**2), {"error": jnp.sum(weights * error)}


@functools.cache
def both(sizes, most):
    @jax.jit
    def run(params, samples, begin, end):
        def draw(places):
            return jax.tree.map(lambda leaf: leaf.at[places].get(mode="clip"), samples)

        blocks = learning_blocks.gradient(loss, params, draw, begin, end, sizes, most)
        return blocks, learning_blocks.masked_gradient(loss, params, draw, begin, end, ROWS)

    return run


KINDS = [((8, 4, 2, 1), ROWS), ((16, 4), ROWS), ((3,), ROWS), ((100,), ROWS), ((16, 8, 4, 2), 16), ((8,), 8), ((8, 4, 2, 1), 5)]
"""Sizes of blocks, and the most samples."""


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_a_gradient_by_blocks_is_the_masked_one(kind, data):
    sizes, most = kind
    count, seed = data.draw(st.integers(1, min(most, ROWS))), data.draw(st.integers(0, 2**31))
    begin = data.draw(st.integers(0, ROWS - count))
    rng = np.random.default_rng(seed)
    samples = jnp.asarray(rng.normal(size=(ROWS, 3)), jnp.float32), jnp.asarray(rng.normal(size=ROWS), jnp.float32)
    params = {"weights": jnp.asarray(rng.normal(size=3), jnp.float32), "bias": jnp.float32(0.5)}
    blocks, masked = both(sizes, most)(params, samples, begin, begin + count)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), blocks, masked)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(blocks[0]))


@pytest.mark.parametrize("sizes", [(8, 4, 2, 1), (16, 8, 4), (8,)])
def test_the_first_block_is_just_large_enough_and_all_others_are_full(sizes):
    def counting(params, samples, weights):
        total, _ = loss(params, samples, weights)
        return total, jnp.float32(len(weights))

    params = {"weights": jnp.ones(3), "bias": jnp.float32(0)}
    draw = lambda places: (jnp.ones((len(places), 3)), jnp.ones(len(places)))  # noqa: E731
    run = jax.jit(lambda end: learning_blocks.gradient(counting, params, draw, 0, end, sizes, ROWS)[1])
    for count in range(1, ROWS + 1):
        rest = (count - 1) % sizes[0] + 1
        assert run(count) == count - rest + min(size for size in sizes if size >= rest)


@pytest.mark.parametrize(
    ("sizes", "most", "bodies"),
    [((1024,), 1024, 1), ((1024,), 8192, 2), ((1024, 512, 256), 1024, 3), ((1024, 512, 256), 8192, 4)],
)
def test_no_more_is_compiled_than_may_be_needed(sizes, most, bodies):
    seen = []

    def counted(params, samples, weights):
        seen.append(weights.shape)
        return loss(params, samples, weights)

    params = {"weights": jnp.zeros(3), "bias": jnp.float32(0)}
    draw = lambda places: (jnp.ones((len(places), 3)), jnp.ones(len(places)))  # noqa: E731
    jax.eval_shape(lambda begin, end: learning_blocks.gradient(counted, params, draw, begin, end, sizes, most), 0, 1)
    assert len(seen) == bodies


@pytest.mark.parametrize(
    ("num_rows", "num_experts", "expected"),
    [
        (8192, 1, [1024]), (8192, 4, [1024, 768, 512, 256]),
        (8192, 8, [1024, 768, 544, 512, 384, 288, 256, 128, 64, 32]),
        (1024, 2, [1024, 768, 544, 512, 384, 288, 256, 128, 64, 32]),
        (1500, 1, [1024, 768, 512, 256]), (512, 4, [128]), (512, 1, [512]), (16, 8, [16]), (12, 1, [8]),
    ],
)  # fmt: skip
def test_there_are_more_block_sizes_if_each_expert_has_one_block(num_rows, num_experts, expected):
    assert learning_blocks.block_sizes(num_rows, num_experts) == expected


def test_a_gpu_is_given_larger_blocks(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert learning_blocks.block_sizes(32_768, 1) == [8192]
    assert learning_blocks.block_sizes(32_768, 8) == [8192, 6144, 4096, 2048]
