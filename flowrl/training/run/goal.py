"""When to stop training and test for the goal.

A test (512 fresh episodes with the experts frozen) costs as much as several updates, and its verdict is
what counts. The running estimate says when a test is worth its cost. If the estimate was higher than what the test
found, the next test waits until the estimate is higher by that difference.
"""

from __future__ import annotations

UPDATES_BETWEEN_TESTS = 3
"""A failed test is followed by at least this many updates, and by twice as many after every further one."""

MOST_UPDATES_BETWEEN_TESTS = 24


class GoalTest:
    """Decides after each update whether to test."""

    def __init__(self, goal: float):
        self.goal = goal
        self._overestimate = 0.0
        self._wait = UPDATES_BETWEEN_TESTS
        self._not_before = 0

    def is_due(self, update: int, estimate: float) -> bool:
        """Whether the estimate after this update is worth a test."""
        return update >= self._not_before and estimate - self._overestimate >= self.goal

    def failed(self, update: int, estimate: float, measured: float) -> None:
        """Records that a test after this update found ``measured``, below the goal (an upper bound, if it stopped
        early)."""
        self._overestimate = max(0.0, min(estimate - measured, 1 - self.goal - 0.01))
        self._not_before = update + self._wait
        self._wait = min(2 * self._wait, MOST_UPDATES_BETWEEN_TESTS)
