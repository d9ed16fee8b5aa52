"""When a run tests for its goal."""

from flowrl.training.run.goal import MOST_UPDATES_BETWEEN_TESTS, UPDATES_BETWEEN_TESTS, GoalTest


def test_a_test_is_due_once_the_estimate_reaches_the_goal():
    goal = GoalTest(0.8)
    assert not goal.is_due(1, 0.79)
    assert goal.is_due(2, 0.8)


def test_after_a_failed_test_the_estimate_must_be_higher_by_the_difference():
    goal = GoalTest(0.8)
    goal.failed(10, estimate=0.85, measured=0.75)
    later = 10 + UPDATES_BETWEEN_TESTS
    assert not goal.is_due(later, 0.88)
    assert goal.is_due(later, 0.9)


def test_failed_tests_are_followed_by_longer_and_longer_pauses():
    goal, update = GoalTest(0.8), 0
    pauses = []
    for _ in range(6):
        goal.failed(update, estimate=0.8, measured=0.8)
        pause = next(n for n in range(1, 100) if goal.is_due(update + n, 1.0))
        pauses.append(pause)
        update += pause
    assert pauses == [3, 6, 12, 24, 24, 24] and pauses[-1] == MOST_UPDATES_BETWEEN_TESTS


def test_a_run_can_always_be_tested_again_however_wrong_the_estimate_was():
    goal = GoalTest(0.95)
    goal.failed(0, estimate=1.0, measured=0.0)
    assert goal.is_due(100, 1.0)
