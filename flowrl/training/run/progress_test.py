"""When to give up a run: its skill was tried for long enough, and hardly ever succeeds.

With a bad reward, or on experts that hardly ever get as far as the new skill, a run would use up its whole budget and learn
nothing. The rule, with ``N`` for `TrainingSettings.frames_without_progress`:

- A run is examined once its new expert has acted in ``N`` frames. Other frames do not count: while the experts before it
  adapt to the plan, the new skill is hardly tried, and in a trial of several rewards most frames belong to the others.
- If the plan rarely gets as far as the new skill, those ``N`` frames may never come. So a run is also examined once all the
  experts of its plan have acted in ``LATEST * N`` frames.
- What decides is a test: fresh episodes of the whole plan, with the experts frozen. The running estimate only says whether a
  test is worth its time. The run is given up if the share of episodes that succeed is at most `HOPELESS_RATE`; or at most
  that of random actions, if that is higher, since such an expert has learned nothing. A skill that succeeds more often than
  `USEFUL_RATE` is never given up, however well random actions do: other skills can build on it.
- A run that passes is examined again after as many frames.

With 512 episodes, a skill whose true rate is 0.01 is given up in 98 of 100 tests, and one whose rate is 0.04 in 1 of 100.
"""

from __future__ import annotations

from flowrl.records.learned import HOPELESS_RATE

USEFUL_RATE = 0.1
"""A skill that succeeds more often is worth having."""

LATEST = 2
"""A run is examined at the latest after so many times the frames that its new expert may use."""


class ProgressTest:
    """Decides after each update whether to test for progress.

    Args:
        patience_frames: in which the new expert may act without progress; 0: no test is ever due.
    """

    def __init__(self, patience_frames: int):
        self._patience_frames = patience_frames
        self.passed(0, 0)

    def is_due(self, own_frames: int, plan_frames: int, estimate: float) -> bool:
        """Whether a test is worth its time.

        Args:
            own_frames: in which the new expert has acted, in all attempts.
            plan_frames: in which any expert of the plan has acted, the new one included.
            estimate: the recent success rate of the plan.
        """
        if self._patience_frames == 0 or estimate > USEFUL_RATE:
            return False
        return own_frames >= self._own_frames_due or plan_frames >= self._plan_frames_due

    def passed(self, own_frames: int, plan_frames: int) -> None:
        """After so many frames the run goes on; it has as many again until the next test."""
        self._own_frames_due = own_frames + self._patience_frames
        self._plan_frames_due = plan_frames + LATEST * self._patience_frames


def highest_hopeless_rate(random_rate: float) -> float:
    """The highest success rate that is no progress, for a plan in which random actions succeed at ``random_rate``."""
    return max(HOPELESS_RATE, min(random_rate, USEFUL_RATE))
