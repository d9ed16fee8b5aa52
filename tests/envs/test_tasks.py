"""The rules of an episode, with hand-made skills in a world of three numbers."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs import tasks
from flowrl.envs.craftax.facts import HEALTH_PENALTY, INVENTORY, PLAYER_INTRINSICS
from flowrl.envs.features import features_type
from flowrl.envs.tasks import Progress
from flowrl.skills.module import TaskFunctions


class Pockets(NamedTuple):
    """An inventory."""

    wood: jax.Array
    stone: jax.Array
    gem: jax.Array


Features = features_type((INVENTORY, PLAYER_INTRINSICS, HEALTH_PENALTY))


def features(wood=0, stone=0, gem=0, health=9):
    """Features of a batch; each argument is a number for every environment, or one for all."""
    wood, stone, gem, health = np.broadcast_arrays(*map(np.atleast_1d, (wood, stone, gem, health)))
    return Features(Pockets(*map(jnp.int32, (wood, stone, gem))), jnp.int32(health)[:, None])


def collect_wood_is_done(inventory, n):
    return inventory.wood >= n


def collect_wood_reward(inventory_diff, n):
    return inventory_diff.wood * 1.0 + 0.01 * n


def collect_stone_is_done(inventory, n):
    return jnp.array([inventory.stone >= n])  # not quite a scalar, as code from elsewhere may be


def collect_stone_reward(health_penalty, inventory_diff):
    return 10.0 * inventory_diff.stone + health_penalty


def find_gem_is_done(inventory):
    return inventory.gem >= 1


def find_gem_reward():
    return 5


WOOD = TaskFunctions(collect_wood_is_done, ("inventory", "n"), collect_wood_reward, ("inventory_diff", "n"))
STONE = TaskFunctions(collect_stone_is_done, ("inventory", "n"), collect_stone_reward, ("health_penalty", "inventory_diff"))
GEM = TaskFunctions(find_gem_is_done, ("inventory",), find_gem_reward, ())
BUDGET = 10
PLAN = tasks.plan_arrays(experts=[4, 2, 7], counts=[3, 2, 1], max_task_steps=BUDGET)
judge = jax.jit(tasks.make_judge([WOOD, STONE, GEM]))


def progress(task, steps=0):
    task, steps = np.broadcast_arrays(np.atleast_1d(task), np.atleast_1d(steps))
    return Progress(jnp.int32(task), jnp.int32(steps))


def judged(before, after, task, steps=0, game_over=False):
    """The verdict and the progress after one step of one environment, as plain numbers."""
    verdict, moved = judge(before, after, jnp.array([game_over]), progress(task, steps), PLAN)
    return jax.tree.map(lambda leaf: leaf[0].item(), (verdict, moved))


def check(verdict, **expected):
    flags = {"task_done": False, "died": False, "truncated": False, "success": False, "ended": False}
    found = verdict._asdict()
    assert {name: found[name] for name in flags} == flags | expected


def test_a_task_may_have_its_own_budget():
    plan = tasks.plan_arrays(experts=[0, 1], counts=[2, 3], max_task_steps=[10, 100])
    assert plan.budget.tolist() == [20, 300]


def test_plan_arrays_hold_experts_counts_and_a_budget_for_each_unit_of_a_count():
    assert PLAN.expert.tolist() == [4, 2, 7]
    assert PLAN.n.tolist() == [3, 2, 1]
    assert PLAN.budget.tolist() == [30, 20, 10]


def test_a_step_within_a_task_goes_on():
    verdict, moved = judged(features(), features(wood=1), task=0, steps=4)
    check(verdict)
    assert (moved.task, moved.steps) == (0, 5)


def test_the_active_task_alone_pays_and_knows_its_own_n():
    change = (features(health=9), features(wood=1, stone=1, health=7))
    assert judged(*change, task=0)[0].reward == pytest.approx(1.03)
    assert judged(*change, task=1)[0].reward == pytest.approx(9.8)
    assert judged(*change, task=2)[0].reward == pytest.approx(5.0)


def test_a_task_that_is_done_gives_way_to_the_next_one():
    verdict, moved = judged(features(wood=2), features(wood=3), task=0, steps=17)
    check(verdict, task_done=True)
    assert (moved.task, moved.steps) == (1, 0)


def test_n_comes_from_the_plan():
    check(judged(features(), features(wood=2), task=0)[0])
    check(judged(features(), features(stone=1), task=1)[0])
    check(judged(features(), features(stone=2), task=1)[0], task_done=True)


def test_a_task_that_is_done_already_is_skipped():
    verdict, moved = judged(features(wood=2, stone=2), features(wood=3, stone=2), task=0)
    check(verdict, task_done=True)
    assert moved.task == 2


def test_an_earlier_task_does_not_come_back():
    verdict, moved = judged(features(), features(stone=2), task=1)  # the wood is gone meanwhile
    check(verdict, task_done=True)
    assert moved.task == 2


def test_a_later_task_that_is_done_does_not_end_the_active_one():
    verdict, moved = judged(features(), features(gem=1), task=0, steps=3)
    check(verdict)
    assert (moved.task, moved.steps) == (0, 4)


def test_completing_the_last_task_is_a_success():
    check(judged(features(), features(gem=1), task=2)[0], task_done=True, success=True, ended=True)


def test_completing_a_task_after_which_none_is_open_is_a_success():
    after = features(wood=3, stone=2, gem=1)
    check(judged(features(), after, task=0)[0], task_done=True, success=True, ended=True)


@pytest.mark.parametrize(("task", "budget"), [(0, 30), (1, 20), (2, 10)])
def test_running_out_of_a_tasks_steps_is_a_truncation(task, budget):
    check(judged(features(), features(), task, steps=budget - 2)[0])
    check(judged(features(), features(), task, steps=budget - 1)[0], truncated=True, ended=True)


def test_a_task_done_with_its_last_step_is_done_in_time():
    verdict, moved = judged(features(), features(wood=3), task=0, steps=29)
    check(verdict, task_done=True)
    assert (moved.task, moved.steps) == (1, 0)


def test_dying_ends_the_episode():
    check(judged(features(), features(wood=1), task=0, game_over=True)[0], died=True, ended=True)


def test_dying_on_the_way_is_death_even_when_a_task_was_done():
    check(judged(features(), features(wood=3), task=0, game_over=True)[0], task_done=True, died=True, ended=True)


def test_success_beats_death_in_the_same_step():
    check(judged(features(), features(gem=1), task=2, game_over=True)[0], task_done=True, success=True, ended=True)


def test_dying_with_the_last_step_is_death_and_no_truncation():
    check(judged(features(), features(), task=2, steps=9, game_over=True)[0], died=True, ended=True)


def test_environments_are_judged_each_by_itself():
    before, after = features(), features(wood=[3, 0, 0, 0], gem=[0, 1, 0, 0])
    verdict, moved = judge(
        jax.tree.map(lambda leaf: jnp.repeat(leaf, 4, axis=0), before),
        after,
        jnp.array([False, False, True, False]),
        progress([0, 2, 1, 1], [5, 5, 5, 19]),
        PLAN,
    )
    assert verdict.task_done.tolist() == [True, True, False, False]
    assert verdict.success.tolist() == [False, True, False, False]
    assert verdict.died.tolist() == [False, False, True, False]
    assert verdict.truncated.tolist() == [False, False, False, True]
    assert verdict.ended.tolist() == [False, True, True, True]
    assert verdict.reward.dtype == jnp.float32
    assert moved.task.tolist()[0] == 1


def test_episodes_start_and_restart_at_the_first_task():
    begun = tasks.start(2)
    assert (begun.task.tolist(), begun.steps.tolist()) == ([0, 0], [0, 0])
    again = tasks.restart(progress([2, 1, 0], [4, 5, 6]), jnp.array([True, False, True]))
    assert (again.task.tolist(), again.steps.tolist()) == ([0, 1, 0], [0, 5, 0])
