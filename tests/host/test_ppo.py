"""What PPO learns from: each step with the value of the observation that really followed it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from flowrl.host import SequentialVecEnv
from flowrl.host.learning import ppo
from flowrl.host.learning.actions import actions_of
from flowrl.host.learning.distributions import Likelihood, Outputs, likelihoods
from flowrl.host.learning.networks import network_for
from flowrl.host.learning.observations import Layout, Observation
from flowrl.host.learning.ppo import Hyperparameters, Rollout
from flowrl.host.learning.rollout import Collector
from tests.host.games import Count, Masked

HYPER = Hyperparameters(
    gamma=0.5,
    gae_lambda=0.5,
    clip_eps=0.2,
    ent_coef=0.0,
    vf_coef=0.5,
    max_grad_norm=0.5,
    update_epochs=3,
    num_minibatches=2,
)


WAYS_TO_UPDATE = ppo.make_update, ppo.make_stepwise_update


class Certain:
    """A policy that always takes action 0 of 3."""

    log_std = None

    def outputs(self, observation):
        return np.tile(np.float32([50, 0, 0]), (len(observation.vector), 1))


class Reads:
    """A network whose value is ``10 episode + step``, as `Count` shows them."""

    def outputs_and_value(self, params, observation):
        value = observation.vector @ jnp.float32([10, 1])
        return Outputs(jnp.zeros((len(value), 3)), None), value


def judge(outputs, decisions, masks):
    return Likelihood(jnp.zeros(len(decisions)), jnp.zeros(len(decisions)))


def value_of(observation: Observation) -> np.ndarray:
    return observation.vector @ np.float32([10, 1])


def rollout_of(env_fns, num_steps: int, policy=None, learns_from_signs: bool = False) -> Rollout:
    with SequentialVecEnv(env_fns) as env:
        layout, actions = Layout(env.single_observation_space), actions_of(env.single_action_space)
        collector = Collector(env, layout, actions, num_steps, learns_from_signs)
        collector.reset(seed=0)
        return collector.collect(policy or Certain(), value_of, np.random.default_rng(0))


def test_a_truncated_episode_is_worth_its_own_last_observation():
    rollout = rollout_of([lambda: Count(3, cut=True), lambda: Count(3)], 4)
    assert rollout.observation.vector[:, 0].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0]]
    assert rollout.last_observation.vector.tolist() == [[1, 1], [1, 1]]
    assert rollout.reward[:, 0].tolist() == [1, 2, 3, 1]
    assert rollout.continues.tolist() == [[True, True], [True, True], [False, False], [True, True]]
    # Environment 0 is cut in [0, 3], worth 3; environment 1 ends there, which is worth nothing.
    assert rollout.truncation_value.tolist() == [[0, 0], [0, 0], [3, 0], [0, 0]]


def test_hand_derived_advantages_of_a_cut_and_of_an_ended_episode():
    rollout = rollout_of([lambda: Count(3, cut=True), lambda: Count(3)], 4)
    samples = ppo.make_samples(Reads(), judge, None, rollout, HYPER)
    # Values are 0, 1, 2, then 10 in the next episode, whose last observation is worth 11; each next delta counts a quarter.
    # Deltas: 1 + .5*1 - 0, 2 + .5*2 - 1, 3 + .5*3 - 2 (cut) or 3 - 2 (ended), 1 + .5*11 - 10.
    cut = [1.5 + (2 + 2.5 / 4) / 4, 2 + 2.5 / 4, 2.5, -3.5]
    ended = [1.5 + (2 + 1 / 4) / 4, 2 + 1 / 4, 1, -3.5]
    np.testing.assert_allclose(samples.advantage.reshape(4, 2).T, [cut, ended], rtol=1e-6)
    np.testing.assert_allclose(samples.target, samples.advantage + samples.value)


def test_an_episode_goes_on_in_the_next_rollout():
    with SequentialVecEnv([lambda: Count(5)]) as env:
        layout, actions = Layout(env.single_observation_space), actions_of(env.single_action_space)
        collector = Collector(env, layout, actions, num_steps=3)
        collector.reset(seed=0)
        random = np.random.default_rng(0)
        first, second = (collector.collect(Certain(), value_of, random) for _ in range(2))
    assert (second.observation.vector[0] == first.last_observation.vector).all()
    assert second.observation.vector[:, 0, 1].tolist() == [3, 4, 0]


def test_masks_belong_to_the_observation_that_the_decision_was_made_from():
    class Uniform(Certain):
        def outputs(self, observation):
            return np.zeros((len(observation.vector), 3), np.float32)

    rollout = rollout_of([lambda: Masked(4)] * 3, 40, Uniform())
    at = rollout.observation.vector[..., 1].astype(int)
    np.testing.assert_array_equal(rollout.masks, np.arange(3) != (at % 3)[..., None])
    assert np.take_along_axis(rollout.masks, rollout.decision, axis=2).all()


@pytest.mark.parametrize(("signs", "expected"), [(True, [1, 1, 1]), (False, [1, 2, 3])])
def test_rewards_can_be_learned_by_their_sign(signs, expected):
    assert rollout_of([Count], 3, learns_from_signs=signs).reward[:, 0].tolist() == expected


def test_each_epoch_uses_every_sample_once_in_another_order():
    rows = ppo.minibatches(jax.random.key(0), 8, HYPER)
    assert rows.shape == (6, 4)
    epochs = rows.reshape(3, 8)
    assert (np.sort(epochs, axis=1) == np.arange(8)).all() and not (epochs[0] == epochs[1]).all()


def test_an_update_in_steps_is_the_same_as_in_one_program():
    space = spaces.Box(0, 1000, (2,), np.float32)
    layout, actions = Layout(space), actions_of(spaces.Discrete(3))
    network, judge = network_for(layout, actions, 8), likelihoods(actions)
    learner = ppo.init(network, HYPER, jax.random.key(1))
    rollout = rollout_of([lambda: Count(3, cut=True)] * 2, 8)
    arguments = learner, rollout, jax.random.key(2), jnp.float32(0.01)
    (one, statistics), (other, others) = (make(network, judge, HYPER)(*arguments) for make in WAYS_TO_UPDATE)
    for a, b, before in zip(*map(jax.tree.leaves, (one.params, other.params, learner.params))):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        assert not np.array_equal(a, before)
    np.testing.assert_allclose(statistics, others, rtol=1e-4, atol=1e-5)


def test_parts_give_the_same_as_the_whole():
    values = {"a": jnp.arange(12.0).reshape(12, 1), "b": jnp.zeros((12, 0))}
    found = ppo.in_parts(lambda part: part["a"] * 2 + part["b"].shape[1], values, 4)
    np.testing.assert_array_equal(found, values["a"] * 2)
