from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flowrl.envs.craftax.sampling import BLOCK, choice, quick_choice, weighted_index

DRAWS = 20_000


@functools.cache
def compiled(draw, size):
    cells = jnp.arange(size)
    return jax.jit(jax.vmap(lambda key, weights: draw(key, cells, p=weights), in_axes=(0, None)))


def drawn(draw, weights, seed=0):
    weights = jnp.asarray(weights)
    return np.asarray(compiled(draw, weights.size)(jax.random.split(jax.random.key(seed), DRAWS), weights))


def masks(size):
    """Weights as the games have them: few or many allowed cells, as yes and no, ones, or normalised."""
    rng = np.random.default_rng(size)
    scattered = rng.random(size) < 0.05
    patch = np.zeros(size, bool)
    patch[size // 3 : size // 3 + 70] = True
    single = np.arange(size) == size - 1
    numbers = np.where(rng.random(size) < 0.3, rng.random(size) ** 4, 0).astype(np.float32)
    return {
        "yes and no": scattered,
        "patch": patch.astype(np.float32),
        "normalised": (scattered / scattered.sum()).astype(np.float32),
        "one cell": single.astype(np.float32),
        "any numbers": numbers,
    }


CASES = [
    pytest.param(weights, id=f"{name}-{size}") for size in (2 * BLOCK, 1000, 4096) for name, weights in masks(size).items()
]


@pytest.mark.parametrize("weights", CASES)
def test_draws_are_those_of_jax_and_never_a_cell_of_weight_zero(weights):
    ours, theirs = drawn(choice, weights), drawn(jax.random.choice, weights)
    assert np.mean(ours == theirs) > 0.999
    assert np.asarray(weights)[ours].all()


def test_draws_follow_the_weights():
    weights = np.zeros(300, np.float32)
    weights[[3, 63, 64, 200, 299]] = [1, 2, 3, 4, 10]
    counts = np.bincount(drawn(choice, weights, seed=1), minlength=300)[weights > 0]
    assert counts.sum() == DRAWS
    assert stats.chisquare(counts, weights[weights > 0] / weights.sum() * DRAWS).pvalue > 0.001


def test_no_fraction_finds_a_cell_of_weight_zero():
    """Fractions right at the edges of cells, where rounding decides, with many empty blocks in between."""
    rng = np.random.default_rng(0)
    find = jax.jit(jax.vmap(weighted_index, in_axes=(None, 0)))
    for _ in range(100):
        weights = np.where(rng.random(4096) < rng.choice([0.002, 0.01, 0.05]), rng.random(4096) ** 4, 0)
        weights = (weights / weights.sum()).astype(np.float32)
        edges = np.cumsum(weights.astype(np.float64))[weights > 0]
        near = np.concatenate([edges + shift * 3e-8 for shift in range(-6, 7)])
        fractions = np.resize(np.clip(np.append(near, [1e-30, 1.0]), 1e-30, 1), 3000).astype(np.float32)
        assert weights[np.asarray(find(jnp.asarray(weights), jnp.asarray(fractions)))].all()


@pytest.mark.parametrize("odd", [np.nan, 0.0, np.inf])
def test_weights_that_are_none_give_some_cell_and_no_crash(odd):
    ours = drawn(choice, np.full(4096, odd, np.float32))
    assert ((ours >= 0) & (ours < 4096)).all()


def test_the_shape_is_kept():
    cells, weights = jnp.arange(200) * 10, jnp.ones(200)
    for shape in ((), (1,)):
        found = choice(jax.random.key(0), cells, shape=shape, p=weights)
        assert (found.shape, found.dtype) == (shape, cells.dtype)
        np.testing.assert_array_equal(found, jax.random.choice(jax.random.key(0), cells, shape=shape, p=weights))


@pytest.mark.parametrize(
    ("cells", "options"),
    [
        pytest.param(jnp.arange(300), {}, id="no weights"),
        pytest.param(300, {"p": jnp.ones(300)}, id="a number of cells"),
        pytest.param(jnp.arange(300), {"p": jnp.ones(300), "shape": (4,)}, id="many draws"),
        pytest.param(jnp.arange(300), {"p": jnp.ones(300), "shape": (4,), "replace": False}, id="without replacement"),
        pytest.param(jnp.arange(600).reshape(300, 2), {"p": jnp.ones(300)}, id="rows"),
        pytest.param(jnp.arange(20), {"p": jnp.arange(20.0)}, id="few cells"),
    ],
)
def test_other_draws_are_left_to_jax(cells, options):
    key = jax.random.key(0)
    np.testing.assert_array_equal(choice(key, cells, **options), jax.random.choice(key, cells, **options))


def test_outside_the_context_jax_is_untouched():
    plain = jax.random.choice
    with quick_choice():
        assert jax.random.choice is choice
    assert jax.random.choice is plain
