"""A success rate counts the first episodes that were started, each in its own world, to their end."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs import tasks
from flowrl.skills.module import TaskFunctions
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing.environments import random_policy
from flowrl.training.playing.evaluation import evaluate
from tests.training.probes import Pouch, Probe, World, programs_of, stage_of

NUM_ENVS = 16
SLOWEST, BUDGET = 9, 12


class Fate(NamedTuple):
    """The inventory of a world in which everything is settled from the start."""

    steps: jax.Array
    halfway: jax.Array
    """int32: the step after which the first task is done."""
    end: jax.Array
    """int32: the step after which the second task is done, or beyond all budgets."""


class FatefulProbe(Probe):
    """Worlds that decide for themselves how an episode goes; lucky ones are over early."""

    def reset(self, key):
        halfway_key, end_key, luck_key = jax.random.split(key, 3)
        halfway = jax.random.randint(halfway_key, (), 1, 5)
        end = jnp.where(jax.random.bernoulli(luck_key, 0.4), halfway + jax.random.randint(end_key, (), 0, 5), 1000)
        fate = Fate(jnp.int32(0), halfway, end)
        return jnp.zeros(1), fate

    def step(self, key, state, action):
        return jnp.zeros(1), state._replace(steps=state.steps + 1), jnp.bool_(False)

    def observation(self, world):
        return jnp.zeros(1)

    def features(self, state):
        world = World(jnp.float32(0), Pouch(jnp.float32(0), jnp.int32(0)))
        return super().features(world)._replace(inventory=state)


def nothing():
    return 0.0


HALFWAY = TaskFunctions(lambda inventory: inventory.steps >= inventory.halfway, ("inventory",), nothing, ())
END = TaskFunctions(lambda inventory: inventory.steps >= inventory.end, ("inventory",), nothing, ())


@pytest.fixture(scope="module")
def stage():
    adapter = FatefulProbe()
    network = ExpertNetwork(adapter.layout, adapter.num_actions, layer_size=4)
    plan = tasks.plan_arrays([0, 0], [1, 1], BUDGET)
    return stage_of(programs_of(adapter, network, NUM_ENVS, 1, Hyperparameters()), [HALFWAY, END], plan)


def fates(stage, key, num_episodes):
    """The worlds that an evaluation with this key plays in, in order."""
    world_key, _, _ = jax.random.split(key, 3)
    worlds = stage.world.fresh(world_key, max(num_episodes, NUM_ENVS)).state
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:num_episodes], worlds)


@pytest.mark.parametrize("num_episodes", [5, NUM_ENVS, NUM_ENVS + 1, 70])
def test_exactly_the_first_episodes_are_counted(stage, num_episodes):
    key = jax.random.key(num_episodes)
    found = evaluate(stage, random_policy(stage), key, num_episodes)
    fate = fates(stage, key, num_episodes)
    lucky = fate.end <= SLOWEST
    at_once = fate.end == fate.halfway  # both tasks are done by the same step: the second one never began
    assert found.episodes == num_episodes
    assert found.success_rate == pytest.approx(lucky.mean())
    steps = np.where(lucky, fate.end, fate.halfway + BUDGET)
    assert found.frames_per_success == pytest.approx(steps.sum() / lucky.sum())
    assert found.task_rates[0] == 1.0
    assert found.task_rates[1] == pytest.approx((lucky & ~at_once).sum() / (~at_once).sum())
    assert not found.decided_early


def test_the_same_key_gives_the_same_evaluation(stage):
    first, second = (evaluate(stage, random_policy(stage), jax.random.key(1), 30) for _ in range(2))
    assert first == second


def test_an_evaluation_is_given_up_once_the_goal_is_out_of_reach(stage):
    seen = []
    found = evaluate(
        stage, random_policy(stage), jax.random.key(2), 200, 0.95, lambda ended, wanted: seen.append((ended, wanted))
    )
    assert found.decided_early
    assert found.episodes < 200
    assert [ended for ended, _ in seen] == sorted(ended for ended, _ in seen)
    assert {wanted for _, wanted in seen} == {200}


def test_an_evaluation_that_can_still_reach_the_goal_is_not_given_up(stage):
    found = evaluate(stage, random_policy(stage), jax.random.key(3), 60, 0.1)
    assert not found.decided_early
    assert found.episodes == 60
