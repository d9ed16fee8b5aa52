from __future__ import annotations

import numpy as np
import pytest

from flowrl.training.playing.rollout import StepOutcome
from flowrl.training.playing.success import CohortRate, PlanRates, RecentSuccess

ENVS, BUDGET, ROLLOUT = 256, 50, 32
TRUE_RATE = 0.39


class Episodes:
    """Episodes that succeed early or run out of their budget late, with a known rate of success."""

    def __init__(self, seed, rate=TRUE_RATE):
        self.rng = np.random.default_rng(seed)
        self.rate = rate
        self.age = np.zeros(ENVS, int)
        self.end_at, self.succeeds = self.drawn(ENVS)

    def drawn(self, count):
        succeeds = self.rng.random(count) < self.rate
        return np.where(succeeds, self.rng.integers(1, BUDGET // 2, count), BUDGET), succeeds

    def step(self):
        self.age += 1
        ended = self.age == self.end_at
        success = ended & self.succeeds
        self.age[ended] = 0
        self.end_at[ended], self.succeeds[ended] = self.drawn(ended.sum())
        return whole_episode(ended, success)

    def rollout(self, steps=ROLLOUT):
        return [self.step() for _ in range(steps)]


def whole_episode(ended, success):
    """The outcome of a step under a plan of one task."""
    zeros = np.zeros(len(ended), np.int32)
    return StepOutcome(zeros, zeros, success, success, ended, np.zeros(len(ended), np.float32), zeros)


def naive_rate(steps):
    return sum(step.success.sum() for step in steps) / sum(step.ended.sum() for step in steps)


def test_counting_the_episodes_that_ended_is_biased_and_the_estimate_is_not():
    naive, corrected = [], []
    for seed in range(10):
        steps = Episodes(seed).rollout()
        recent = RecentSuccess(ENVS, BUDGET + 1, window=1)
        recent.add(steps)
        naive.append(naive_rate(steps))
        corrected.append(recent.rate)
    assert min(naive) > 0.9
    # Ages beyond the rollout were never seen, and all successes are younger: the estimate is whole already.
    assert abs(np.mean(corrected) - TRUE_RATE) < 0.03


@pytest.mark.parametrize("rate", [0.05, 0.39, 0.8, 0.97])
def test_the_estimate_follows_a_rate_that_stays_as_it_is(rate):
    episodes, recent = Episodes(1, rate), RecentSuccess(ENVS, BUDGET + 1, window=8)
    for _ in range(20):
        recent.add(episodes.rollout())
    assert abs(recent.rate - rate) < 0.03


def test_the_estimate_forgets_what_is_older_than_its_window():
    episodes, recent = Episodes(2, 0.2), RecentSuccess(ENVS, BUDGET + 1, window=8)
    for _ in range(20):
        recent.add(episodes.rollout())
    episodes.rate = 0.9
    for _ in range(10):
        recent.add(episodes.rollout())
    assert abs(recent.rate - 0.9) < 0.03


def test_the_estimate_is_zero_before_anything_was_seen():
    assert RecentSuccess(ENVS, BUDGET, window=2).rate == 0.0


def test_a_cohort_counts_all_episodes_that_were_started_in_it_and_no_other():
    rates, episodes = PlanRates(ENVS, 1, cohort_size=300), Episodes(3)
    number = np.arange(ENVS)  # of the episode that each environment is in, in the order in which they start
    started, results, shown = ENVS, {}, []
    for _ in range(600):
        step = episodes.step()
        rates.add([step])
        for env in np.flatnonzero(step.ended):
            results[number[env]] = bool(step.success[env])
            number[env] = started
            started += 1
        if rates.episode.rate is not None and (not shown or shown[-1] != (rates.episode.rate, rates.episode.episodes)):
            shown.append((rates.episode.rate, rates.episode.episodes))
    # Cohorts follow each other without gaps: the shown ones are the means over stretches of episodes.
    first = 0
    for rate, size in shown:
        assert size >= 300
        members = [results[episode] for episode in range(first, first + size)]
        assert rate == pytest.approx(np.mean(members))
        first += size
    assert len(shown) > 8
    assert abs(np.mean([results[episode] for episode in range(first)]) - TRUE_RATE) < 0.02
    assert rates.tasks[0].rate == rates.episode.rate


def test_a_cohort_is_not_shown_before_its_last_episode_has_ended():
    rate = CohortRate(num_envs=3, cohort_size=3)
    everyone, nobody = np.ones(3, bool), np.zeros(3, bool)
    rate.start(everyone)
    rate.end(np.array([True, True, False]), np.array([True, True, False]))
    rate.start(np.array([True, True, False]))
    assert rate.rate is None
    rate.end(np.array([True, False, False]), nobody)  # the second cohort goes on meanwhile
    assert rate.rate is None
    rate.end(np.array([False, False, True]), nobody)
    assert (rate.rate, rate.episodes) == (pytest.approx(2 / 3), 3)


def test_each_task_has_a_rate_over_the_tries_at_it():
    # Two environments, a plan of two tasks: task 0 always succeeds, task 1 every other time.
    rates = PlanRates(2, 2, cohort_size=2)

    def step(task, next_task, done, success, ended):
        arrays = [np.array(values) for values in (task, next_task, done, success, ended)]
        rates.add([StepOutcome(*arrays, np.zeros(2), np.zeros(2, int))])

    step([0, 0], [1, 1], [True, True], [False, False], [False, False])
    assert (rates.tasks[0].rate, rates.tasks[1].rate, rates.episode.rate) == (1.0, None, None)
    step([1, 1], [0, 0], [True, False], [True, False], [True, True])
    assert (rates.tasks[0].rate, rates.tasks[1].rate, rates.episode.rate) == (1.0, 0.5, 0.5)


def test_a_task_that_was_skipped_has_no_try():
    rates = PlanRates(2, 3, cohort_size=2)
    arrays = [np.array(values) for values in ([0, 0], [2, 2], [True, True], [False, False], [False, False])]
    rates.add([StepOutcome(*arrays, np.zeros(2), np.zeros(2, int))])
    arrays = [np.array(values) for values in ([2, 2], [0, 0], [True, True], [True, True], [True, True])]
    rates.add([StepOutcome(*arrays, np.zeros(2), np.zeros(2, int))])
    assert [task.rate for task in rates.tasks] == [1.0, None, 1.0]
