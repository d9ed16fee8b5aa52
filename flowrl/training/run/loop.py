"""A run's loop: restore, then update until the goal, the budget or no progress, then measure."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from flowrl.records.learned import why_not_learned
from flowrl.records.result import RunResult
from flowrl.training.run.measuring import Finding
from flowrl.training.run.moments import Moments
from flowrl.training.run.parts import Parts, first_games, ordinary, restored
from flowrl.training.run.result import given_up, observed_of, result, unmeasured
from flowrl.training.run.specification import RunSpecification
from flowrl.training.run.state import RunState, newest_expert
from flowrl.training.run.supervision import Supervision
from flowrl.training.run.updates import budget_allows


def train(run: RunSpecification, supervision: Supervision) -> RunResult:
    """Trains to the goal or to the frame budget, or gives up a run that makes no progress.

    Returns:
        the run's result; a run that was given up has failed.

    Raises:
        Stopped: the run was asked to end.
        FlowrlError: learning failed (a reward or a loss is not a number).
        KeyboardInterrupt: the user pressed Ctrl-C; what was learned until then is in a checkpoint.
    """
    parts = ordinary(run, supervision)
    with parts.kept as kept:
        state, finding = to_goal_or_budget(parts, restored(parts))
        checkpoint = kept.save(state)
        return measured(parts, state, finding, checkpoint)


def to_goal_or_budget(parts: Parts, state: RunState) -> tuple[RunState, Finding | None]:
    """Makes updates until a test shows the goal or no progress, or another update would exceed the budget.

    Returns:
        the state at that point, and the finding of the test that ended the run, if one did.
    """
    settings, kept, supervision = parts.run.settings, parts.kept, parts.supervision
    playing, finding = first_games(parts), None
    moments = Moments(parts.run.paths, newest_expert(parts.run), settings.frames_per_update)
    moments.look(state)
    while finding is None and budget_allows(state, settings.frames_per_update, settings.total_timesteps):
        with in_turn(parts, state), supervision.one_update():
            state, playing, made = parts.updates.make(state, playing)
        parts.background.go_on(state.learner.params, playing)
        report = parts.reporter.report(state, made)
        test = parts.tests.due(state, report, parts.reporter.recent.is_whole)
        if test or supervision.lifetime.asked_to_stop:
            kept.save(state)  # a test may take minutes, and be stopped
        else:
            kept.save_now_and_then(state)
        moments.look(state)
        supervision.stop_if_asked()
        if test:
            finding, playing = test(state, playing, report)
        parts.reporter.record(report, made.losses, finding and finding.evaluation)
        supervision.beat()
    return state, finding


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


def measured(parts: Parts, state: RunState, finding: Finding | None, checkpoint: str) -> RunResult:
    """Makes the measurements that are still missing, and assembles the result."""
    if parts.run.never_done:
        parts.supervision.pane.line(f"{state.frames:,} frames; the skill is never done, so no success rate is measured")
        return unmeasured(parts.run, parts.experts, state, checkpoint, parts.supervision.clock)
    found = finding.evaluation if finding else parts.tests.of_experts(state)
    by_chance = parts.tests.of_random_policy()
    parts.supervision.pane.line(
        f"success rate {found.success_rate:.3f}, random policy {by_chance.success_rate:.3f} "
        f"({found.episodes} fresh episodes each), {state.frames:,} frames"
    )
    if remark := why_not_learned(parts.run.skill_name, by_chance.success_rate):
        parts.supervision.pane.line(remark)
    ended = result(parts.run, parts.experts, state, found, by_chance, checkpoint, parts.supervision.clock)
    ended = dataclasses.replace(ended, observed=observed_of(parts.run, found, parts.programs.source.adapter))
    for line in ended.observed.lines if ended.observed else ():
        parts.supervision.pane.line(line)
    if finding is None or not finding.no_progress:
        return ended
    return given_up(parts.run, ended, parts.reporter.tried)
