from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowrl.training.learning.returns import following_values, generalized_advantages

STEPS, ENVS = 7, 3


@jax.jit
def compiled(rewards, values, last_values, continues, truncation_values, gamma, gae_lambda):
    following = following_values(values, last_values, continues, truncation_values)
    return generalized_advantages(rewards, values, following, continues, gamma, gae_lambda)


def advantages(rewards, values, last_value, continues, truncation_values, gamma, gae_lambda):
    """One environment's advantages, from plain lists."""

    def column(numbers):
        return jnp.asarray(numbers, jnp.float32)[:, None]

    continues = jnp.asarray(continues)[:, None]
    last_values = jnp.float32([last_value])
    return compiled(column(rewards), column(values), last_values, continues, column(truncation_values), gamma, gae_lambda)[:, 0]


@pytest.mark.parametrize(
    ("continues", "truncation_values", "expected"),
    [
        # deltas 1 + .5*1 - .5 = 1, 2 + .5*1.5 - 1 = 1.75, 3 + .5*2 - 1.5 = 2.5; each next one counts a quarter
        pytest.param([True, True, True], [0, 0, 0], [1.59375, 2.375, 2.5], id="one task all along"),
        # the second step completes the task: its delta is 2 - 1, and nothing after it counts for it
        pytest.param([True, False, True], [0, 0, 0], [1.25, 1.0, 2.5], id="cut where the task changes"),
        # the second step runs out of its budget in a state worth 4: its delta is 2 + .5*4 - 1
        pytest.param([True, False, True], [0, 4, 0], [1.75, 3.0, 2.5], id="a truncation is bootstrapped"),
        # the last step ends the episode: what comes after it (worth 2) is another episode's
        pytest.param([True, True, False], [0, 0, 0], [1.53125, 2.125, 1.5], id="cut at the end of the rollout"),
    ],
)
def test_hand_derived_advantages(continues, truncation_values, expected):
    result = advantages([1, 2, 3], [0.5, 1, 1.5], 2, continues, truncation_values, gamma=0.5, gae_lambda=0.5)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


numbers = st.floats(-5, 5, width=32)
fractions = st.floats(0, 1, width=32)


@st.composite
def rollouts(draw):
    grid = arrays(np.float32, (STEPS, ENVS), elements=numbers)
    continues = draw(arrays(bool, (STEPS, ENVS)))
    truncated = draw(arrays(bool, (STEPS, ENVS))) & ~continues
    truncation_values = np.where(truncated, draw(grid), np.float32(0))
    last_values = draw(arrays(np.float32, ENVS, elements=numbers))
    return draw(grid), draw(grid), last_values, continues, truncation_values


@settings(max_examples=60, deadline=None)
@given(rollouts(), fractions, fractions)
def test_a_plain_loop_gives_the_same(rollout, gamma, gae_lambda):
    rewards, values, last_values, continues, truncation_values = rollout
    expected = np.zeros((STEPS, ENVS))
    for env in range(ENVS):
        advantage = 0.0
        for step in reversed(range(STEPS)):
            following_value = last_values[env] if step == STEPS - 1 else values[step + 1, env]
            if continues[step, env]:
                delta = rewards[step, env] + gamma * following_value - values[step, env]
                advantage = delta + gamma * gae_lambda * advantage
            else:
                advantage = rewards[step, env] + gamma * truncation_values[step, env] - values[step, env]
            expected[step, env] = advantage
    np.testing.assert_allclose(compiled(*rollout, gamma, gae_lambda), expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(rollouts(), fractions)
def test_with_lambda_one_advantage_and_value_add_up_to_the_discounted_return(rollout, gamma):
    rewards, values, last_values, continues, truncation_values = rollout
    expected = np.zeros((STEPS, ENVS))
    for env in range(ENVS):
        for start in range(STEPS):
            discount = 1.0
            for step in range(start, STEPS):
                expected[start, env] += discount * rewards[step, env]
                discount *= gamma
                if not continues[step, env]:
                    expected[start, env] += discount * truncation_values[step, env]
                    break
            else:
                expected[start, env] += discount * last_values[env]
    np.testing.assert_allclose(compiled(*rollout, gamma, 1.0) + values, expected, rtol=1e-3, atol=1e-3)


def test_arrays_of_different_shapes_are_refused():
    with pytest.raises(AssertionError):
        generalized_advantages(jnp.zeros((3, 2)), jnp.zeros((3, 1)), jnp.zeros((3, 2)), jnp.ones((3, 2), bool), 0.9, 0.9)
