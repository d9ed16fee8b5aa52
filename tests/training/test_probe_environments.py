"""What training learns in worlds with known values, each isolating one part of the loop (all of it is the real one)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.skills.module import TaskFunctions
from tests.training.probes import GAMMA, Probe, done_after, paid, train


def close_to(*expected):
    return pytest.approx(np.array(expected), abs=0.1)


class ConstantReward(Probe):
    def pay(self, world, action):
        return jnp.float32(1)


class RandomSight(Probe):
    def first_sight(self, key):
        return jax.random.rademacher(key, (), jnp.float32)


class RewardIsSeen(RandomSight):
    def pay(self, world, action):
        return world.sight


class RewardComesLater(Probe):
    def next_sight(self, key, world):
        return jnp.float32(1)

    def pay(self, world, action):
        return world.sight


class ActionDecides(Probe):
    def pay(self, world, action):
        return jnp.where(action == 1, 1.0, -1.0)


class ActionHasToFitTheSight(RandomSight):
    def pay(self, world, action):
        return jnp.where((action == 1) == (world.sight > 0), 1.0, -1.0)


class DeathBeforeTheReward(ConstantReward):
    def is_over(self, world):
        return world.pouch.steps == 1


def test_the_critic_learns_a_constant_reward():
    assert train(ConstantReward(), [done_after(1)]).value(0) == close_to(1)


def test_the_critic_learns_a_reward_that_is_seen():
    assert train(RewardIsSeen(), [done_after(1)]).value(-1, 1) == close_to(-1, 1)


def test_the_critic_discounts_a_reward_that_comes_one_step_later():
    assert train(RewardComesLater(), [done_after(2)]).value(0, 1) == close_to(GAMMA, 1)


def test_the_actor_learns_which_action_pays():
    trained = train(ActionDecides(), [done_after(1)])
    assert trained.probability(1, 0) > 0.95
    assert trained.value(0) == close_to(1)


@pytest.mark.parametrize("mixed_precision", [False, True])
def test_the_actor_learns_which_action_pays_where(mixed_precision):
    trained = train(ActionHasToFitTheSight(), [done_after(1)], mixed_precision=mixed_precision)
    assert (trained.probability(1, 1) > 0.95).all() and (trained.probability(0, -1) > 0.95).all()
    assert trained.value(-1, 1) == close_to(1, 1)


def test_running_out_of_steps_is_bootstrapped():
    never_done = TaskFunctions(lambda: False, (), paid, ("inventory_diff",))
    # A reward of 1 forever is worth 1 / (1 - gamma), however short the step budget is.
    assert train(ConstantReward(), [never_done], max_task_steps=2).value(0) == close_to(1 / (1 - GAMMA))


def test_death_is_not_bootstrapped():
    never_done = TaskFunctions(lambda: False, (), paid, ("inventory_diff",))
    assert train(DeathBeforeTheReward(), [never_done]).value(0) == close_to(1)


def test_each_expert_is_credited_only_within_its_own_task():
    # The first task takes one step and pays nothing, the second one step and pays 1: two experts, two values.
    trained = train(RewardComesLater(), [done_after(1), done_after(2)], owners=[0, 1])
    assert trained.value(0, expert=0) == close_to(0)
    assert trained.value(1, expert=1) == close_to(1)


def test_two_experts_learn_opposite_actions_for_the_same_sight():
    # The second expert's task pays for action 0: its reward is the gold of the step turned round.
    opposite = TaskFunctions(
        lambda inventory: inventory.steps >= 2, ("inventory",), lambda inventory_diff: -inventory_diff.gold, ("inventory_diff",)
    )
    trained = train(ActionDecides(), [done_after(1), opposite], owners=[0, 1])
    assert trained.probability(1, 0, expert=0) > 0.95
    assert trained.probability(0, 0, expert=1) > 0.95
