"""Success tests: fresh episodes with the experts frozen, for the goal, for progress and for the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from flowrl.training.host.fair_lock import FairLock
from flowrl.training.playing import evaluation
from flowrl.training.playing.compressed import Compressed
from flowrl.training.playing.environments import Decide, Playing, Stage, random_policy
from flowrl.training.playing.evaluation import Evaluation
from flowrl.training.playing.programs import KeyPrograms, Keys
from flowrl.training.playing.rollout import learned_policy
from flowrl.training.playing.tries import TryLog
from flowrl.training.run.goal import GoalTest
from flowrl.training.run.progress import UpdateReport
from flowrl.training.run.progress_test import ProgressTest, highest_hopeless_rate
from flowrl.training.run.specification import RunSpecification
from flowrl.training.run.state import RunState, newest_expert
from flowrl.training.run.supervision import Supervision
from flowrl.training.run.updates import budget_allows

TEST_EPISODES = 512
"""Fresh episodes behind a reported success rate."""


class Finding(NamedTuple):
    """A test that has ended a run."""

    evaluation: Evaluation
    no_progress: bool = False
    """The run is given up; else it has reached its goal."""


Test = Callable[[RunState, Playing, UpdateReport], tuple[Finding | None, Playing | None]]
"""Takes the state, the games of the training, which it uses up, and the report of the latest update. Returns what it has
found if that ends the run, else None and the games."""


class SuccessTests:
    """Plays the tests of one run."""

    def __init__(
        self,
        run: RunSpecification,
        stage: Stage,
        keys: Keys,
        key_programs: KeyPrograms,
        turn: FairLock,
        supervision: Supervision,
    ):
        """
        Args:
            turn: held while a test is played, so that nothing large is compiled beside it.
        """
        self._is_declared, self._last_task = run.spec is not None, len(run.plan) - 1
        self._settings, self._stage, self._supervision = run.settings, stage, supervision
        self._keys, self._key_programs, self._turn = keys, key_programs, turn
        self._goal_test = GoalTest(run.settings.success_rate)
        self._progress_test = ProgressTest(run.settings.frames_without_progress)
        self._newest, self._never_done = newest_expert(run), run.never_done
        self._random: Evaluation | None = None

    def due(self, state: RunState, report: UpdateReport, is_estimate_whole: bool) -> Test | None:
        """The test to make after this update, if any. A run that trains to the end of its budget has none."""
        settings = self._settings
        if not settings.stop_at_goal or self._never_done:
            return None
        if self._goal_test.is_due(report.update, self._estimate(report)):
            return self.for_goal
        # To give up a run that ends anyway would save nothing.
        may_save = is_estimate_whole and budget_allows(state, settings.frames_per_update, settings.total_timesteps)
        return self.for_progress if may_save and self._progress_test.is_due(*self._tried(state), report.estimate) else None

    def _estimate(self, report: UpdateReport) -> float:
        """What the goal is about: how often the plan succeeds, or, where only the skill's own expert learns, its own task."""
        return (report.task_rates[-1] or 0.0) if self._settings.hold_dependencies else report.estimate

    def for_goal(self, state: RunState, playing: Playing, report: UpdateReport) -> tuple[Finding | None, Playing | None]:
        """Tests for the goal.

        Args:
            playing: the games of the training; donated, and compressed during the test.

        Returns:
            the episodes' results if they reach the goal, otherwise None and ``playing``.

        Raises:
            Stopped: the run was asked to end; the state has to be in a checkpoint before this is called.
        """
        goal, pane, is_own = self._settings.success_rate, self._supervision.pane, self._settings.hold_dependencies
        estimate, what = self._estimate(report), "tries at the skill's own task" if is_own else "fresh episodes"
        compressed = Compressed(playing)
        found = self._play(state, report.update, "testing for the goal", None if is_own else goal)
        rate = (found.task_rates[-1] or 0.0) if is_own else found.success_rate
        if not found.decided_early and rate >= goal:
            whole = f"{found.success_rate:.3f} of {found.episodes} fresh episodes"
            pane.line(f"goal reached: {rate:.3f} of {what}, {whole}" if is_own else f"goal reached: {whole}")
            return Finding(found), None
        bound = "at most " if found.decided_early else ""
        pane.line(f"goal not reached: {bound}{rate:.3f} of {what} (estimate {estimate:.3f})")
        self._goal_test.failed(report.update, estimate, rate)
        pane.phase(self._supervision.phase)
        return None, compressed.restore()

    def for_progress(self, state: RunState, playing: Playing, report: UpdateReport) -> tuple[Finding | None, Playing | None]:
        """Tests whether the plan succeeds any better than a hopeless one. Arguments, returns, raises: as `for_goal`."""
        compressed = Compressed(playing)
        random_rate = self.of_random_policy().success_rate
        hopeless = highest_hopeless_rate(random_rate)
        rate = report.estimate
        if rate <= hopeless:
            found = self._play(state, report.update, "testing for progress")
            if found.success_rate <= hopeless:
                return Finding(found, no_progress=True), None
            rate = found.success_rate
        pane = self._supervision.pane
        pane.line(f"there is progress: success rate {rate:.3f}, random policy {random_rate:.3f}")
        self._progress_test.passed(*self._tried(state))
        pane.phase(self._supervision.phase)
        return None, compressed.restore()

    def of_experts(self, state: RunState) -> Evaluation:
        """How often the experts succeed."""
        return self._play(state, state.updates + 1, "measuring the success rate")

    def of_random_policy(self) -> Evaluation:
        """How often random actions succeed; measured once."""
        if self._random is None:
            decide = random_policy(self._stage)
            self._random = self._evaluate(decide, self._keys.random_policy, "measuring the random policy")
        return self._random

    def _tried(self, state: RunState) -> tuple[int, int]:
        """The frames in which the new expert has acted, and those in which any expert of the plan has."""
        held = self._settings.hold_dependencies  # what held experts did is not among the frames in which experts learned
        return int(state.acted_frames[self._newest]), state.frames if held else int(state.acted_frames.sum())

    def _play(self, state: RunState, number: int, what: str, give_up_below: float | None = None) -> Evaluation:
        key = self._key_programs.fold_in(self._keys.tests, number)
        decide = learned_policy(self._stage, state.learner.params)
        # What the tries needed and gained is held against what the skill declares, if that is known.
        log = TryLog(self._last_task) if self._is_declared else None
        return self._evaluate(decide, key, what, give_up_below, log)

    def _evaluate(
        self,
        decide: Decide,
        key: jax.Array,
        what: str,
        give_up_below: float | None = None,
        log: TryLog | None = None,
    ) -> Evaluation:
        def show(ended: int, wanted: int) -> None:
            self._supervision.pane.phase(f"{what} {ended}/{wanted}")
            self._supervision.beat()
            self._supervision.stop_if_asked()

        self._supervision.compiling()  # a test may be the first with programs of its shapes
        with self._turn:
            return evaluation.evaluate(self._stage, decide, key, TEST_EPISODES, give_up_below, show, log)
