"""Worlds that are played several times: learning from them is as good as from fresh worlds."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs import tasks
from flowrl.envs.worlds import Turnover
from flowrl.skills.module import TaskFunctions
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing.environments import begin, play_step, random_policy, refresh_worlds
from flowrl.training.playing.evaluation import evaluate
from flowrl.training.playing.rollout import outcome
from flowrl.training.playing.world import WORLDS_AT_ONCE
from tests.training.probes import Probe, programs_of, stage_of

NUM_ENVS, BANK, REUSE, NUM_STEPS = 64, 128, 4, 8
BUDGET = 6
"""Steps of an episode, and the farthest that gold lies."""

NUM_FRESH = 1024


class FarGold(Probe):
    """Gold lies one to six steps away, as the world has it; action 1 is a step towards it. Episodes in easy worlds are
    short."""

    def first_sight(self, key):
        return jax.random.randint(key, (), 1, BUDGET + 1).astype(jnp.float32)

    def pay(self, world, action):
        return (action / world.sight).astype(jnp.float32)


FIND_GOLD = TaskFunctions(lambda inventory: inventory.gold > 0.999, ("inventory",), lambda: 0.0, ())
BY_CHANCE = np.mean([sum(math.comb(BUDGET, k) for k in range(d, BUDGET + 1)) / 2**BUDGET for d in range(1, BUDGET + 1)])
"""The true success rate of the random policy: at least ``d`` of six coins show heads."""


@pytest.fixture(scope="module")
def stage():
    game = FarGold()
    network = ExpertNetwork(game.layout, game.num_actions, layer_size=4)
    programs = programs_of(game, network, NUM_ENVS, 1, Hyperparameters())
    return stage_of(programs, [FIND_GOLD], tasks.plan_arrays([0], [1], BUDGET))


def successes_in_bank_worlds(stage, num_rollouts):
    """Whether each episode succeeded, of all that began early enough to be over by now; and how many worlds there were."""
    policy, turnover = random_policy(stage), Turnover(REUSE, BANK // 4, BANK, WORLDS_AT_ONCE)
    playing, num_worlds, outcomes = begin(stage, jax.random.key(0), BANK), BANK, []
    for rollout in range(num_rollouts):
        act_key, step_key, world_key = jax.random.split(jax.random.fold_in(jax.random.key(1), rollout), 3)
        steps = []
        for number in range(NUM_STEPS):
            after, verdict, _ = play_step(stage, playing, policy(playing, act_key, number), step_key, number)
            steps.append(outcome(playing, verdict, after))
            playing = after
        outcomes += jax.device_get(steps)
        count = turnover.due(sum(int(step.ended.sum()) for step in outcomes[-NUM_STEPS:]))
        playing = refresh_worlds(stage, playing, world_key, count)
        num_worlds += count
    begun, found = np.zeros(NUM_ENVS, int), []
    for number, step in enumerate(outcomes, 1):
        counted = step.ended & (begun <= len(outcomes) - BUDGET)  # else those that succeed would be counted, and others not
        found += step.success[counted].tolist()
        begun[step.ended] = number
    return np.array(found), num_worlds


def test_the_success_rate_in_bank_worlds_is_that_in_fresh_worlds(stage):
    found, num_worlds = successes_in_bank_worlds(stage, num_rollouts=50)
    assert len(found) > 3.5 * num_worlds  # worlds are used again indeed
    fresh = evaluate(stage, random_policy(stage), jax.random.key(2), num_episodes=NUM_FRESH)
    # Four standard errors: a right bank fails with one seed in 16,000. Episodes in one world are alike, so that a world
    # counts as one episode, however many it starts: the largest error that there can be.
    spread = BY_CHANCE * (1 - BY_CHANCE)
    assert found.mean() == pytest.approx(fresh.success_rate, abs=4 * math.sqrt(spread / num_worlds + spread / NUM_FRESH))
    assert fresh.success_rate == pytest.approx(BY_CHANCE, abs=4 * math.sqrt(spread / NUM_FRESH))
