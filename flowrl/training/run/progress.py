"""A run's progress after an update, and that progress as a line."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from flowrl.pane.figures import duration, rate_text, share
from flowrl.records.tried import Tried
from flowrl.training.run.resources import MemoryUse, TimeShares


class Report(Protocol):
    """A run's progress after an update, as far as every kind of run has it."""

    @property
    def update(self) -> int: ...
    @property
    def frames(self) -> int: ...
    @property
    def total_frames(self) -> int: ...
    @property
    def frames_per_s(self) -> float: ...
    @property
    def seconds_left(self) -> float | None: ...
    @property
    def reward(self) -> float: ...
    @property
    def entropy(self) -> float: ...
    @property
    def policy_loss(self) -> float: ...
    @property
    def value_loss(self) -> float: ...
    @property
    def time(self) -> TimeShares | None: ...
    @property
    def memory(self) -> MemoryUse | None: ...

    def described(self) -> str:
        """The update as one line of words and numbers."""


class UpdateReport(NamedTuple):
    """The progress of a skill's run after an update."""

    update: int
    """Updates so far; the first is 1."""
    frames: int
    """Frames trained so far, those before a resumption included."""
    total_frames: int
    """The frame budget, at which the run ends at the latest."""
    frames_per_s: float
    seconds_left: float | None
    """Seconds until the frame budget is used up; None while that is unknown."""
    success_rate: float | None
    """The rate of the latest whole cohort of episodes; None until one is whole."""
    estimate: float
    """Recent success rate, corrected for episodes still running."""
    task_rates: tuple[float | None, ...]
    """For each task, the rate of the latest whole cohort of tries at it."""
    reward: float
    """Mean over the steps of the rollout."""
    entropy: float
    policy_loss: float
    value_loss: float
    kl: float
    candidate_rates: tuple[float, ...] = ()
    """The recent success rate of each reward on trial, corrected in the same way; empty without a trial."""
    tried: Tried | None = None
    """What the skill's own expert does; None where the game names no actions, or before it has acted."""
    time: TimeShares | None = None
    """Where the time goes; None until that is known."""
    memory: MemoryUse | None = None

    def described(self) -> str:
        """The update as one line of words and numbers."""
        tasks = " ".join(map(rate_text, self.task_rates))
        on_trial = f", rewards {' '.join(map(rate_text, self.candidate_rates))}" if self.candidate_rates else ""
        return (
            f"{beginning(self)}; success {rate_text(self.success_rate)} (recent {self.estimate:.2f}), tasks {tasks}{on_trial}; "
            f"reward {self.reward:.4f}, entropy {self.entropy:.3f}, policy loss {self.policy_loss:.4f}, "
            f"value loss {self.value_loss:.4f}, kl {self.kl:.4f}{f'; {self.tried.described()}' if self.tried else ''}"
        )


def beginning(report: Report) -> str:
    """How the line about an update begins: its number, frames and speed."""
    left = "" if report.seconds_left is None else f", {duration(report.seconds_left)} left"
    return (
        f"update {report.update}: {report.frames:,} of {report.total_frames:,} frames "
        f"({share(report.frames, report.total_frames)}), {report.frames_per_s:,.0f} frames/s{left}"
    )
