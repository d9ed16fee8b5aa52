from __future__ import annotations

from flowrl.training.goal import MOST_UPDATES_BETWEEN_TESTS, UPDATES_BETWEEN_TESTS, GoalTest


def test_a_test_is_due_once_the_estimate_reaches_the_goal():
    goal = GoalTest(0.8)
    assert not goal.is_due(1, 0.79)
    assert goal.is_due(1, 0.8)


def test_a_failed_test_is_not_repeated_at_once():
    goal = GoalTest(0.8)
    goal.failed(10, 0.85, 0.85)
    assert not goal.is_due(10 + UPDATES_BETWEEN_TESTS - 1, 0.99)
    assert goal.is_due(10 + UPDATES_BETWEEN_TESTS, 0.99)


def test_an_estimate_that_promised_too_much_has_to_rise_by_as_much():
    goal = GoalTest(0.8)
    goal.failed(10, 0.85, 0.75)
    assert not goal.is_due(100, 0.89)
    assert goal.is_due(100, 0.91)


def test_tests_become_rarer_but_never_stop():
    goal = GoalTest(0.8)
    update, waits = 0, []
    for _ in range(8):
        goal.failed(update, 0.9, 0.1)
        due = next(later for later in range(update + 1, update + 1000) if goal.is_due(later, 1.0))
        waits.append(due - update)
        update = due
    assert waits == sorted(waits)
    assert waits[-1] == MOST_UPDATES_BETWEEN_TESTS


def test_a_policy_that_always_succeeds_is_tested_whatever_was_measured_before():
    goal = GoalTest(0.95)
    goal.failed(0, 0.96, 0.2)
    assert goal.is_due(1000, 1.0)
