from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowrl.training.learning.returns import following_values, generalized_advantages, vtrace

STEPS, ENVS = 7, 3
OF_RLAX = json.loads(Path(__file__).with_name("rlax_vtrace.json").read_text())["cases"]
"""Made by rlax_oracle.py."""


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


@jax.jit
def traced(rewards, values, last_values, continues, truncation_values, ratios, gamma, vtrace_lambda, max_ratio):
    following = following_values(values, last_values, continues, truncation_values)
    return vtrace(rewards, values, following, continues, ratios, gamma, vtrace_lambda, max_ratio)


@pytest.mark.parametrize(
    ("continues", "truncation_value", "max_ratio", "targets", "advantages"),
    [
        # Deltas 1, 1.75, 2.5 as above, weighted .5, 1, 1; what comes later counts .5 times .5, 1, 1.
        pytest.param([True, True, True], 0, 1, [1.75, 4.0, 4.0], [2.5, 3.0, 2.5], id="one episode all along"),
        pytest.param([True, True, True], 0, 2, [2.1875, 5.75, 4.0], [3.375, 3.0, 2.5], id="a likelier action counts double"),
        # The second step ends the episode: its delta is 2 - 1.
        pytest.param([True, False, True], 0, 1, [1.25, 2.0, 4.0], [1.5, 1.0, 2.5], id="cut where the episode ends"),
        # It is cut in a state worth 4: its delta is 2 + .5*4 - 1.
        pytest.param([True, False, True], 4, 1, [1.75, 4.0, 4.0], [2.5, 3.0, 2.5], id="a truncation is bootstrapped"),
    ],
)
def test_hand_derived_vtrace(continues, truncation_value, max_ratio, targets, advantages):
    rewards, values, ratios = (np.float32([numbers]).T for numbers in ([1, 2, 3], [0.5, 1, 1.5], [0.5, 2, 1]))
    cut = np.float32([[0], [truncation_value], [0]])
    found = traced(rewards, values, np.float32([2]), np.array([continues]).T, cut, ratios, 0.5, 1.0, max_ratio)
    np.testing.assert_allclose(found.targets[:, 0], targets, rtol=1e-6)
    np.testing.assert_allclose(found.advantages[:, 0], advantages, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(rollouts(), arrays(np.float32, (STEPS, ENVS), elements=st.floats(0, 4, width=32)), fractions, fractions)
def test_the_papers_sum_gives_the_same_vtrace(rollout, ratios, gamma, vtrace_lambda):
    """Equation 1 as it stands, from each step to the end: a sum of products of the traces between."""
    rewards, values, last_values, continues, truncation_values = rollout
    max_ratio = 2.0
    targets, advantages = np.zeros((STEPS, ENVS)), np.zeros((STEPS, ENVS))
    for env in range(ENVS):

        def value_after(step, values_then):
            if not continues[step, env]:
                return truncation_values[step, env]
            return last_values[env] if step == STEPS - 1 else values_then[step + 1, env]

        def delta(step):
            return rewards[step, env] + gamma * value_after(step, values) - values[step, env]

        def trace(step):
            return vtrace_lambda * min(1.0, ratios[step, env]) if continues[step, env] else 0.0

        for start in range(STEPS):
            total = values[start, env]
            for step in range(start, STEPS):
                product = np.prod([trace(between) for between in range(start, step)])
                total += gamma ** (step - start) * product * min(max_ratio, ratios[step, env]) * delta(step)
            targets[start, env] = total
        for step in range(STEPS):
            # Between the value that the critic expects and the target, as far as lambda says.
            mixed = vtrace_lambda * value_after(step, targets) + (1 - vtrace_lambda) * value_after(step, values)
            advantages[step, env] = rewards[step, env] + gamma * mixed - values[step, env]
    found = traced(*rollout, ratios, gamma, vtrace_lambda, max_ratio)
    np.testing.assert_allclose(found.targets, targets, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.advantages, advantages, rtol=1e-3, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(rollouts(), fractions, fractions)
def test_vtrace_of_our_own_steps_is_generalised_advantage_estimation(rollout, gamma, gae_lambda):
    expected = compiled(*rollout, gamma, gae_lambda)
    found = traced(*rollout, np.ones((STEPS, ENVS), np.float32), gamma, gae_lambda, 1.0)
    np.testing.assert_allclose(found.advantages, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.targets, expected + rollout[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", OF_RLAX, ids=[f"case {number}" for number in range(len(OF_RLAX))])
def test_rlax_gives_the_same_vtrace_and_the_same_advantages(case):
    def column(name):
        return np.float32(case[name])[:, None]

    continues = np.array(case["continues"])[:, None]
    rollout = column("rewards"), column("values"), np.float32([case["last_value"]]), continues, column("truncation_values")
    found = traced(*rollout, column("ratios"), case["gamma"], case["lambda"], case["max_ratio"])
    close = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(found.targets - column("values"), column("errors"), **close)
    np.testing.assert_allclose(found.advantages + column("values"), column("q_estimate"), **close)
    weighted = np.minimum(case["max_ratio"], column("ratios")) * found.advantages
    np.testing.assert_allclose(weighted, column("pg_advantage"), **close)
    advantages = compiled(*rollout, case["gamma"], case["lambda"])
    np.testing.assert_allclose(advantages, column("generalized_advantages"), **close)
