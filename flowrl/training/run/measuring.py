"""Success tests: fresh episodes with the experts frozen, for the goal and for the result."""

from __future__ import annotations

import jax

from flowrl.training.host.fair_lock import FairLock
from flowrl.training.playing import evaluation
from flowrl.training.playing.compressed import Compressed
from flowrl.training.playing.environments import Decide, Playing, Stage, random_policy
from flowrl.training.playing.evaluation import Evaluation
from flowrl.training.playing.programs import KeyPrograms, Keys
from flowrl.training.playing.rollout import learned_policy
from flowrl.training.run.goal import GoalTest
from flowrl.training.run.progress import UpdateReport
from flowrl.training.run.specification import RunSpecification
from flowrl.training.run.state import RunState
from flowrl.training.run.supervision import Supervision

TEST_EPISODES = 512
"""Fresh episodes behind a reported success rate."""


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
        self._settings, self._stage, self._supervision = run.settings, stage, supervision
        self._keys, self._key_programs, self._turn = keys, key_programs, turn
        self._goal_test = GoalTest(run.settings.success_rate)

    def is_due(self, report: UpdateReport) -> bool:
        """Whether to test for the goal after this update."""
        return self._settings.stop_at_goal and self._goal_test.is_due(report.update, report.estimate)

    def for_goal(self, state: RunState, playing: Playing, report: UpdateReport) -> tuple[Evaluation | None, Playing | None]:
        """Tests for the goal.

        Args:
            playing: the games of the training; donated, and compressed during the test.

        Returns:
            the episodes' results if they reach the goal, otherwise None and ``playing``.

        Raises:
            Stopped: the run was asked to end; the state has to be in a checkpoint before this is called.
        """
        goal, pane = self._settings.success_rate, self._supervision.pane
        compressed = Compressed(playing)
        found = self._play(state, report.update, "testing for the goal", goal)
        if not found.decided_early and found.success_rate >= goal:
            pane.line(f"goal reached: {found.success_rate:.3f} of {found.episodes} fresh episodes")
            return found, None
        bound = "at most " if found.decided_early else ""
        pane.line(f"goal not reached: {bound}{found.success_rate:.3f} of fresh episodes (estimate {report.estimate:.3f})")
        self._goal_test.failed(report.update, report.estimate, found.success_rate)
        pane.phase(self._supervision.phase)
        return None, compressed.restore()

    def of_experts(self, state: RunState) -> Evaluation:
        """How often the experts succeed."""
        return self._play(state, state.updates + 1, "measuring the success rate")

    def of_random_policy(self) -> Evaluation:
        """How often random actions succeed."""
        return self._evaluate(random_policy(self._stage), self._keys.random_policy, "measuring the random policy")

    def _play(self, state: RunState, number: int, what: str, give_up_below: float | None = None) -> Evaluation:
        key = self._key_programs.fold_in(self._keys.tests, number)
        return self._evaluate(learned_policy(self._stage, state.learner.params), key, what, give_up_below)

    def _evaluate(self, decide: Decide, key: jax.Array, what: str, give_up_below: float | None = None) -> Evaluation:
        def show(ended: int, wanted: int) -> None:
            self._supervision.pane.phase(f"{what} {ended}/{wanted}")
            self._supervision.beat()
            self._supervision.stop_if_asked()

        self._supervision.compiling()  # a test may be the first with programs of its shapes
        with self._turn:
            return evaluation.evaluate(self._stage, decide, key, TEST_EPISODES, give_up_below, show)
