"""Mixed precision compared with the plain products: rounded factors, exact sums; and learning with it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowrl.training.learning import experts, products
from flowrl.training.learning.losses import log_prob_of
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.playing.acting import make_act
from tests.training.columns import LAYOUT, random_observation

LOST = 2.0**-7
"""Two factors are each rounded to 8 bits, which bounds the loss of a product."""


def random_factors(seed, rows=5, inner=7, columns=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, inner)).astype(np.float32), rng.normal(size=(inner, columns)).astype(np.float32)


@jax.jit
def both_ways(left, right, weights):
    return [
        jax.value_and_grad(lambda left, right: jnp.sum(weights * product(left, right)), argnums=(0, 1))(left, right)[1]
        + (product(left, right),)
        for product in (products.mixed, jnp.matmul)
    ]


@given(seed=st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_a_product_and_its_gradients_lose_no_more_than_their_factors_rounding(seed):
    left, right = random_factors(seed)
    weights = np.random.default_rng(seed + 1).normal(size=(5, 3)).astype(np.float32)
    sizes = np.abs(weights) @ np.abs(right).T, np.abs(left).T @ np.abs(weights), np.abs(left) @ np.abs(right)
    for found, plain, size in zip(*both_ways(left, right, weights), sizes, strict=True):
        assert found.dtype == jnp.float32
        assert (np.abs(found - plain) <= LOST * size).all()
        assert (found != plain).any()


def test_sums_are_not_rounded():
    """In bfloat16, 256 + 1 is 256."""
    assert products.mixed(jnp.ones((1, 1001)), jnp.ones((1001, 1))).item() == 1001


def test_acting_and_learning_agree_on_the_policy_in_mixed_precision():
    """Acting adds a kernel's rows as they are, learning rounds them: so an update's first ratios are nearly 1, not quite."""
    network = ExpertNetwork(LAYOUT, 4, 32, mixed_precision=True)
    params = experts.stack([network.init(jax.random.key(0))])
    observation = jax.tree.map(jnp.asarray, random_observation(np.random.default_rng(0), (64,)))
    expert = jnp.zeros(64, jnp.int32)
    decision = jax.jit(make_act(network, 1))(params, observation, observation.columns[0], expert, jax.random.key(1), 0)
    learned = log_prob_of(network.logits(experts.select(params, 0), observation), decision.action)
    ratio = np.exp(learned - decision.log_prob)
    assert 0 < np.abs(ratio - 1).max() < 2**-8


def test_another_product_than_that_of_a_layer_is_refused():
    with pytest.raises(NotImplementedError, match="dimension numbers"):
        products.mixed_dot_general(jnp.ones((2, 3)), jnp.ones((2, 3)), (((1,), (1,)), ((), ())))


def test_a_network_in_mixed_precision_has_the_plain_ones_parameters_and_nearly_its_outputs_and_gradients():
    plain, mixed = (ExpertNetwork(LAYOUT, 4, 32, mixed_precision=mixed) for mixed in (False, True))
    params, rng = plain.init(jax.random.key(0)), np.random.default_rng(0)
    jax.tree.map(np.testing.assert_array_equal, params, mixed.init(jax.random.key(0)))
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf + 0.1 * rng.normal(size=leaf.shape), jnp.float32), params)
    shown = jax.tree.map(jnp.asarray, random_observation(rng, (50,)))

    def outputs(network, params):
        return jnp.concatenate([network.logits(params, shown), network.value(params, shown)[:, None]], axis=1)

    def gradient(network):
        return jax.grad(lambda params: jnp.mean(jnp.square(outputs(network, params))))(params)

    expected, found = outputs(plain, params), outputs(mixed, params)
    assert 0 < np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    for one, other in zip(jax.tree.leaves(gradient(mixed)), jax.tree.leaves(gradient(plain)), strict=True):
        assert one.dtype == jnp.float32
        assert np.linalg.norm(one - other) < 0.02 * np.linalg.norm(other)
