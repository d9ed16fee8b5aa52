"""A run that makes no progress is given up: the rule, and real trainings of a tiny game."""

from __future__ import annotations

import dataclasses
import re
from enum import Enum
from math import comb

import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowrl.records.learned import HOPELESS_RATE
from flowrl.records.result import NO_PROGRESS, Outcome
from flowrl.training.run import measuring, parts
from flowrl.training.run.measuring import TEST_EPISODES
from flowrl.training.run.progress_test import LATEST, USEFUL_RATE, ProgressTest, highest_hopeless_rate
from flowrl.training.run.supervision import Stopped
from tests.training.test_loop import PAY, Alive, Gold, specification, train

PATIENCE = 500_000
FRAMES = st.integers(0, 10**9)
RATES = st.floats(0, 1)
MISLEADING = "def task_reward(inventory_diff):\n    return 5.0 * (inventory_diff.gold == 0)\n"
UPDATE = 16 * 8
WINDOW = 32 * UPDATE
"""Frames in which the running estimate becomes whole."""


# The rule.


def test_a_run_is_tested_once_its_own_expert_has_acted_long_enough():
    progress = ProgressTest(PATIENCE)
    assert not progress.is_due(PATIENCE - 1, PATIENCE - 1, 0.0)
    assert progress.is_due(PATIENCE, PATIENCE, 0.0)


def test_while_the_experts_before_it_adapt_to_the_plan_a_skill_is_given_time_but_not_for_ever():
    progress = ProgressTest(PATIENCE)
    assert not progress.is_due(PATIENCE // 100, LATEST * PATIENCE - 1, 0.0)
    assert progress.is_due(PATIENCE // 100, LATEST * PATIENCE, 0.0)


def test_a_run_that_passes_has_as_many_frames_again():
    progress = ProgressTest(PATIENCE)
    progress.passed(PATIENCE, PATIENCE + 100)
    assert not progress.is_due(2 * PATIENCE - 1, 2 * PATIENCE, 0.0)
    assert progress.is_due(2 * PATIENCE, 2 * PATIENCE, 0.0)
    assert progress.is_due(PATIENCE, (1 + LATEST) * PATIENCE + 100, 0.0)


@given(FRAMES, FRAMES, RATES)
def test_without_a_limit_no_run_is_tested(own, others, estimate):
    assert not ProgressTest(0).is_due(own, own + others, estimate)


@given(st.integers(1, 10**8), FRAMES, FRAMES, st.floats(USEFUL_RATE, 1, exclude_min=True))
def test_a_skill_that_is_of_use_is_not_tested(patience, own, others, estimate):
    assert not ProgressTest(patience).is_due(own, own + others, estimate)


@given(st.integers(1, 10**8), FRAMES, FRAMES, FRAMES, FRAMES, RATES)
def test_a_test_that_is_due_stays_due_until_the_run_passes(patience, own, others, more_own, more_others, estimate):
    progress = ProgressTest(patience)
    if progress.is_due(own, own + others, estimate):
        assert progress.is_due(own + more_own, own + others + more_own + more_others, estimate)
        progress.passed(own, own + others)
        assert not progress.is_due(own, own + others, estimate)


@pytest.mark.parametrize(
    ("by_chance", "hopeless"), [(0.0, HOPELESS_RATE), (0.02, HOPELESS_RATE), (0.05, 0.05), (0.96, USEFUL_RATE)]
)
def test_what_random_actions_reach_is_no_progress_unless_it_is_of_use(by_chance, hopeless):
    assert highest_hopeless_rate(by_chance) == hopeless


@given(RATES, RATES)
def test_the_more_chance_does_the_more_is_no_progress(one, other):
    lower, higher = sorted([one, other])
    assert HOPELESS_RATE <= highest_hopeless_rate(lower) <= highest_hopeless_rate(higher) <= USEFUL_RATE


@pytest.mark.parametrize(("rate", "least", "most"), [(0.0, 1.0, 1.0), (0.01, 0.98, 1.0), (0.04, 0.0, 0.01), (0.1, 0.0, 1e-9)])
def test_a_test_gives_up_what_is_hopeless_and_hardly_anything_else(rate, least, most):
    """As its docstring says; exactly, by the binomial distribution."""
    successes = range(int(HOPELESS_RATE * TEST_EPISODES) + 1)
    given_up = sum(comb(TEST_EPISODES, k) * rate**k * (1 - rate) ** (TEST_EPISODES - k) for k in successes)
    assert least <= given_up <= most


# Real trainings.


NEVER = "def task_is_done(inventory, n):\n    return inventory.gold < 0\n"
"""For a skill that nobody can learn."""


@pytest.fixture(autouse=True)
def tiny_game(monkeypatch):
    monkeypatch.setattr(parts, "make_adapter", lambda env_name: Gold())
    monkeypatch.setattr(measuring, "TEST_EPISODES", 128)


def test_a_run_with_a_hopeless_reward_is_given_up_with_its_figures_and_the_remedy(tmp_path):
    run = specification(tmp_path, MISLEADING, no_progress_frames=4096, total_timesteps=400_000)
    result = train(run)
    assert (result.outcome, result.reason, result.goal_reached) == (Outcome.FAILED, NO_PROGRESS, False)
    assert 4096 <= result.frames < 400_000 and result.acted_frames == {"7": result.frames}
    assert result.success_rate <= USEFUL_RATE < result.random_success_rate
    assert result.error.startswith(f"no progress: Find_Gold succeeds in {result.success_rate:.3f} of fresh episodes")
    assert f"after {result.frames:,} frames" in result.error and "--no_progress_frames above 4,096" in result.error
    assert "\n" not in result.error and "builds on" not in result.error
    assert (run.paths.folder / result.checkpoint).exists()


def test_a_run_that_is_given_up_says_what_its_expert_tries_where_the_game_names_actions(tmp_path, monkeypatch):
    monkeypatch.setattr(Gold, "scope", {"jnp": jnp, "Action": Enum("Action", ["NOOP", "DIG"], start=0)})
    kinds = dataclasses.replace(Gold.facts, action_kinds={"dig": ("DIG",), "wait": ("NOOP",)})
    monkeypatch.setattr(Gold, "facts", kinds)
    result = train(specification(tmp_path, done=NEVER, no_progress_frames=WINDOW, total_timesteps=400_000))
    assert re.search(r"of them its own expert's \(it tries dig [0-9.]+%, wait [0-9.]+%\); give it another reward", result.error)


def test_a_run_that_makes_progress_is_not_given_up(tmp_path):
    run = specification(tmp_path, PAY, success_rate=1.0, no_progress_frames=1, total_timesteps=WINDOW + 4 * UPDATE)
    result = train(run)
    assert (result.outcome, result.reason) == (Outcome.COMPLETED, None)


def test_where_the_estimate_is_too_low_the_test_lets_the_run_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("flowrl.training.playing.success.RecentSuccess.rate", 0.0)
    run = specification(tmp_path, PAY, success_rate=1.0, no_progress_frames=WINDOW, total_timesteps=2 * WINDOW - UPDATE)
    result = train(run)
    assert result.outcome is Outcome.COMPLETED
    assert run.paths.log.read_text().count("there is progress: success rate ") == 1


@pytest.mark.parametrize("how", [{"no_progress_frames": 0}, {"no_progress_frames": 1, "stop_at_goal": False}])
def test_a_run_that_is_not_to_be_given_up_uses_its_budget(tmp_path, how):
    result = train(specification(tmp_path, done=NEVER, total_timesteps=WINDOW + 4 * UPDATE, **how))
    assert (result.outcome, result.frames, result.success_rate) == (Outcome.COMPLETED, WINDOW + 4 * UPDATE, 0.0)


def test_a_run_that_has_used_its_budget_ends_below_its_goal_as_ever(tmp_path):
    result = train(specification(tmp_path, done=NEVER, no_progress_frames=WINDOW, total_timesteps=WINDOW))
    assert (result.outcome, result.frames, result.goal_reached) == (Outcome.COMPLETED, WINDOW, False)


@pytest.mark.parametrize("held", [False, True])
def test_a_skill_that_its_plan_never_reaches_is_given_up_later_and_its_dependencies_are_named(tmp_path, held):
    plan, patience = (("Find_Little", 1, 0), ("Find_Gold", 2, 1)), WINDOW
    how = {"no_progress_frames": patience, "total_timesteps": 400_000, "hold_dependencies": held, "done": NEVER}
    run = specification(tmp_path, plan=plan, params=(None, None), **how)
    result = train(run)
    assert result.reason == NO_PROGRESS
    assert result.frames == LATEST * patience and result.acted_frames["7"] == 0
    assert f"after {result.frames:,} frames, 0 of them its own expert's" in result.error
    assert result.error.endswith(", or train the skills that it builds on further")


def test_a_resumed_run_keeps_its_frames_and_is_judged_once_its_estimate_is_whole(tmp_path):
    how = {"done": NEVER, "no_progress_frames": WINDOW + 4 * UPDATE, "total_timesteps": 400_000}
    with pytest.raises(Stopped):
        train(specification(tmp_path, **how), Alive(beats=10))
    result = train(specification(tmp_path, attempt=2, **how))
    assert result.reason == NO_PROGRESS and result.frames == 11 * UPDATE + WINDOW
    again = train(specification(tmp_path, attempt=3, **how))
    assert again.reason == NO_PROGRESS and again.frames == result.frames + WINDOW
    more = train(specification(tmp_path, attempt=4, **how | {"no_progress_frames": 4 * WINDOW}))
    assert more.reason == NO_PROGRESS and more.frames == 4 * WINDOW


def test_a_skill_that_is_never_done_is_trained_to_its_end_and_nothing_is_measured(tmp_path):
    run = specification(tmp_path, total_timesteps=60 * UPDATE, no_progress_frames=UPDATE, success_rate=0.0)
    result = train(dataclasses.replace(run, never_done=True))
    assert (result.outcome, result.frames, result.error) == (Outcome.COMPLETED, 60 * UPDATE, None)
    assert result.goal_reached is result.success_rate is result.random_success_rate is result.tasks is None
    assert result.checkpoint and result.acted_frames == {"7": 60 * UPDATE}
