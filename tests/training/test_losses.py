from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.training.learning import losses

EPS = 0.2


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "slope"),
    [
        (1.0, 1.0, -1.0, -1.0),
        (1.1, 2.0, -2.2, -2.2),
        pytest.param(1.5, 1.0, -1.2, 0.0, id="too far up: a good action is not pushed further"),
        pytest.param(1.5, -1.0, 1.5, 1.5, id="too far up: a bad action is pushed back"),
        pytest.param(0.5, 1.0, -0.5, -0.5, id="too far down: a good action is pushed back"),
        pytest.param(0.5, -1.0, 0.8, 0.0, id="too far down: a bad action is not pushed further"),
    ],
)
def test_policy_loss_clips_both_sides(ratio, advantage, expected, slope):
    def loss(log_prob):
        return losses.clipped_policy_loss(log_prob, jnp.float32([-1.0]), jnp.float32([advantage]), EPS)[0]

    log_prob = jnp.float32([np.log(ratio) - 1.0])
    np.testing.assert_allclose(loss(log_prob), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.grad(loss)(log_prob)[0], slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("ratio", "weight"), [(0.5, 0.5), (1.0, 1.0), pytest.param(3.0, 2.0, id="at most the largest")])
def test_steps_of_another_policy_count_by_how_likely_they_are_now(ratio, weight):
    def loss(log_prob):
        return losses.weighted_policy_loss(log_prob, jnp.float32([-1.0]), jnp.float32([-3.0]), 2.0)[0]

    log_prob = jnp.float32([np.log(ratio) - 1.0])
    np.testing.assert_allclose(loss(log_prob), 3 * weight * log_prob[0], rtol=1e-5)
    np.testing.assert_allclose(jax.grad(loss)(log_prob)[0], 3 * weight, rtol=1e-5)  # the weight itself is not learned from


@pytest.mark.parametrize(
    ("value", "target", "expected", "slope"),
    [
        pytest.param(1.1, 0.0, 0.605, 1.1, id="near the old value"),
        pytest.param(2.0, 2.0, 0.32, 0.0, id="too far up, and there: the clipped value 1.2 counts"),
        pytest.param(2.0, 0.0, 2.0, 2.0, id="too far up, and wrong: it is pulled back"),
        pytest.param(0.0, 2.0, 2.0, -2.0, id="too far down, and wrong: it is pulled back"),
        pytest.param(0.0, 0.0, 0.32, 0.0, id="too far down, and there: the clipped value 0.8 counts"),
    ],
)
def test_value_loss_stays_near_the_old_value(value, target, expected, slope):
    def loss(value):
        return losses.clipped_value_loss(value, jnp.float32([1.0]), jnp.float32([target]), EPS)[0]

    np.testing.assert_allclose(loss(jnp.float32([value])), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.grad(loss)(jnp.float32([value]))[0], slope, rtol=1e-5, atol=1e-6)


def test_entropy_of_known_distributions():
    logits = jnp.log(jnp.float32([[0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.125, 0.125], [1.0, 1e-30, 1e-30, 1e-30]]))
    np.testing.assert_allclose(losses.entropy(logits), np.log(2) * np.array([2.0, 1.75, 0.0]), atol=1e-6)


def test_log_prob_is_the_chosen_actions():
    logits = jnp.log(jnp.float32([[1, 3], [1, 3], [8, 2]]))
    result = losses.log_prob_of(logits, jnp.int32([0, 1, 0]))
    np.testing.assert_allclose(np.exp(result), [0.25, 0.75, 0.8], rtol=1e-6)


def test_approximate_kl_has_the_right_mean_and_is_never_negative():
    old, new = np.float32([0.6, 0.3, 0.1]), np.float32([0.2, 0.2, 0.6])
    kl = losses.approximate_kl(jnp.log(new), jnp.log(old))
    assert (np.asarray(kl) >= 0).all()
    np.testing.assert_allclose(np.sum(old * kl), np.sum(old * np.log(old / new)), rtol=1e-5)
    np.testing.assert_array_equal(losses.approximate_kl(jnp.log(old), jnp.log(old)), 0)


def test_the_density_and_entropy_of_independent_normal_distributions():
    mean, std, value = np.float32([[0.0, 1.0]]), np.float32([1.0, 2.0]), np.float32([[1.0, -3.0]])
    density = np.exp(-0.5 * ((value - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    found = losses.gaussian_log_prob(mean, jnp.log(std), value)
    np.testing.assert_allclose(np.exp(found), density.prod(axis=1), rtol=1e-5)
    expected = sum(0.5 * np.log(2 * np.pi * np.e * deviation**2) for deviation in std)
    np.testing.assert_allclose(losses.gaussian_entropy(jnp.log(std)), expected, rtol=1e-6)
