"""A run's loop: restore, then update until the goal or the budget, then measure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from flowrl.records.result import RunResult
from flowrl.training.playing.evaluation import Evaluation
from flowrl.training.run.parts import Parts, first_games, ordinary, restored
from flowrl.training.run.result import result
from flowrl.training.run.specification import RunSpecification
from flowrl.training.run.state import RunState
from flowrl.training.run.supervision import Supervision
from flowrl.training.run.updates import budget_allows


def train(run: RunSpecification, supervision: Supervision) -> RunResult:
    """Trains to the goal or to the frame budget.

    Returns:
        the run's result.

    Raises:
        Stopped: the run was asked to end.
        FlowrlError: learning failed (a reward or a loss is not a number).
        KeyboardInterrupt: the user pressed Ctrl-C; what was learned until then is in a checkpoint.
    """
    parts = ordinary(run, supervision)
    with parts.kept as kept:
        state, reached = to_goal_or_budget(parts, restored(parts))
        checkpoint = kept.save(state)
        return measured(parts, state, reached, checkpoint)


def to_goal_or_budget(parts: Parts, state: RunState) -> tuple[RunState, Evaluation | None]:
    """Makes updates until a test shows the goal, or another update would exceed the budget.

    Returns:
        the state at that point, and the test that has shown the goal, if any.
    """
    settings, kept, supervision = parts.run.settings, parts.kept, parts.supervision
    playing, reached = first_games(parts), None
    while reached is None and budget_allows(state, settings.frames_per_update, settings.total_timesteps):
        with in_turn(parts, state), supervision.one_update():
            state, playing, made = parts.updates.make(state, playing)
        parts.background.go_on(state.learner.params, playing)
        report = parts.reporter.report(state, made)
        test_is_due = parts.tests.is_due(report)
        if test_is_due or supervision.lifetime.asked_to_stop:
            kept.save(state)  # a test may take minutes, and be stopped
        else:
            kept.save_now_and_then(state)
        supervision.stop_if_asked()
        if test_is_due:
            reached, playing = parts.tests.for_goal(state, playing, report)
        parts.reporter.record(report, made.losses, reached)
        supervision.beat()
    return state, reached


@contextlib.contextmanager
def in_turn(parts: Parts, state: RunState) -> Iterator[None]:
    """Waits while an update is compiled for later runs (see `compile_ahead`).

    Raises:
        Stopped: the run was asked to end while waiting; ``state`` is saved.
    """
    turn, supervision = parts.turn, parts.supervision
    if has_to_wait := turn.is_taken:
        supervision.compiling()
    with turn:
        if has_to_wait and supervision.lifetime.asked_to_stop:
            parts.kept.save(state)
            supervision.stop_if_asked()
        yield


def measured(parts: Parts, state: RunState, reached: Evaluation | None, checkpoint: str) -> RunResult:
    """Makes the measurements that are still missing, and assembles the result."""
    found = reached or parts.tests.of_experts(state)
    by_chance = parts.tests.of_random_policy()
    parts.supervision.pane.line(
        f"success rate {found.success_rate:.3f}, random policy {by_chance.success_rate:.3f} "
        f"({found.episodes} fresh episodes each), {state.frames:,} frames"
    )
    return result(parts.run, parts.experts, state, found, by_chance, checkpoint, parts.supervision.clock)
