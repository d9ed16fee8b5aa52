"""Honest success rates.

Counting the episodes that *end* inside a window is biased: successes end early, failures late (a random
policy with a true rate of 0.39 showed 0.99 over the episodes that had ended within 32 steps). There are two remedies
here. A rate that is *shown* counts whole cohorts: all episodes that were started in a stretch of steps, once every one
of them has ended. When to *test* for the goal is decided by an estimate that is corrected for episodes still running,
since a cohort's last episode takes long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

from flowrl.training.playing.rollout import StepOutcome


class CohortRate:
    """The success rate of the latest whole cohort of episodes (or of tries at one task)."""

    def __init__(self, num_envs: int, cohort_size: int):
        self._cohort = np.full(num_envs, -1)
        self._size = cohort_size
        self._current = 0
        self._started: dict[int, int] = {0: 0}
        self._ended: dict[int, int] = {0: 0}
        self._successes: dict[int, int] = {0: 0}
        self.rate: float | None = None
        """The rate of the latest whole cohort; None until one is whole."""
        self.episodes = 0
        """How many episodes that cohort had."""

    def start(self, envs: np.ndarray) -> None:
        """Records that episodes start in these environments (bool ``[B]``)."""
        self._cohort[envs] = self._current
        self._started[self._current] += int(envs.sum())
        if self._started[self._current] >= self._size:
            self._current += 1
            self._started[self._current] = self._ended[self._current] = self._successes[self._current] = 0

    def end(self, envs: np.ndarray, success: np.ndarray) -> None:
        """Records that the episodes of these environments (bool ``[B]``) end, with or without success (bool ``[B]``)."""
        for cohort in np.unique(self._cohort[envs]):
            members = envs & (self._cohort == cohort)
            self._ended[cohort] += int(members.sum())
            self._successes[cohort] += int((members & success).sum())
        self._publish()

    def _publish(self) -> None:
        # Later cohorts often finish before an early one's slowest episode ends, so they are kept in order, oldest first.
        oldest = min(self._started)
        while oldest < self._current and self._ended[oldest] == self._started[oldest]:
            self.rate = self._successes.pop(oldest) / self._started[oldest]
            self.episodes = self._started.pop(oldest)
            del self._ended[oldest]
            oldest += 1


class PlanRates:
    """Cohort rates of whole episodes and of each task of a plan."""

    def __init__(self, num_envs: int, num_tasks: int, cohort_size: int):
        self.episode = CohortRate(num_envs, cohort_size)
        self.tasks = [CohortRate(num_envs, cohort_size) for _ in range(num_tasks)]
        everywhere = np.ones(num_envs, bool)
        self.episode.start(everywhere)
        self.tasks[0].start(everywhere)

    def add(self, outcomes: Iterable[StepOutcome]) -> None:
        """Counts the steps of a rollout, the oldest first."""
        for step in outcomes:
            if step.ended.any():
                self.episode.end(step.ended, step.success)
                self.episode.start(step.ended)
            leaving = step.ended | step.task_done
            if leaving.any():
                self._add_tasks(step, leaving)

    def _add_tasks(self, step: StepOutcome, leaving: np.ndarray) -> None:
        for number, rate in enumerate(self.tasks):
            left = leaving & (step.task == number)
            if left.any():
                rate.end(left, step.task_done)
            entered = leaving & (step.next_task == number)
            if entered.any():
                rate.start(entered)


class RecentSuccess:
    """An estimate of the success rate from recent steps that episodes still running do not bias.

    For each age ``a`` (steps since the start of its episode) the recent steps tell how many episodes were
    at risk, ``r_a``, and how many of them succeeded, ``s_a``, or failed, ``f_a``. The estimate is the
    cumulative incidence of success, ``sum_a S_a s_a / r_a`` with ``S_a = prod_{b<a} (1 - (s_b + f_b) / r_b)``
    (Aalen and Johansen 1978). Whatever has not ended by the oldest age seen counts as failure.
    """

    def __init__(self, num_envs: int, max_age: int, window: int):
        self._age = np.zeros(num_envs, int)
        self._max_age = max_age
        self._windows: deque[np.ndarray] = deque(maxlen=window)

    def add(self, outcomes: Iterable[StepOutcome]) -> None:
        """Counts one rollout; the oldest of ``window`` rollouts is forgotten."""
        counts = np.zeros((3, self._max_age), int)
        for step in outcomes:
            age = np.minimum(self._age, self._max_age - 1)
            np.add.at(counts[0], age, 1)
            np.add.at(counts[1], age[step.success], 1)
            np.add.at(counts[2], age[step.ended & ~step.success], 1)
            self._age = np.where(step.ended, 0, self._age + 1)
        self._windows.append(counts)

    @property
    def is_whole(self) -> bool:
        """Whether the whole window was counted: in an attempt that has just begun, the estimate is too low."""
        return len(self._windows) == self._windows.maxlen

    @property
    def rate(self) -> float:
        """The estimate; 0 before anything was counted."""
        if not self._windows:
            return 0.0
        at_risk, successes, failures = np.sum(self._windows, axis=0)
        known = np.maximum(at_risk, 1)
        surviving = np.cumprod(1 - (successes + failures) / known)
        before = np.concatenate([[1.0], surviving[:-1]])
        return float(np.sum(before * successes / known))
