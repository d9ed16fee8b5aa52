"""A rehearsal's progress after an update: what its latest episodes unlocked, and how each skill does in them."""

from __future__ import annotations

from typing import NamedTuple

from flowrl.training.run.progress import beginning
from flowrl.training.run.resources import MemoryUse, TimeShares


class SkillUse(NamedTuple):
    """How a skill does while it is played."""

    success: float
    """How often its tasks succeed."""
    steps: float
    """Steps of a task, for each unit of its ``n``."""
    share: float
    """Of all steps of the latest update, those in which it acted."""


class RehearsalReport(NamedTuple):
    """The progress of a rehearsal after an update."""

    update: int
    """Updates so far; the first is 1."""
    frames: int
    total_frames: int
    frames_per_s: float
    seconds_left: float | None
    achievements: float | None
    """Unlocked in an episode, the mean over the latest ones; None until one has ended."""
    num_goals: int
    """Achievements that the game has."""
    episode_steps: float | None
    episodes: int
    """The number of latest episodes that these figures are about."""
    skills: tuple[SkillUse, ...]
    reward: float
    """Mean over the steps of the rollout."""
    entropy: float
    """This and the next ones: mean over the experts, each by the steps in which it acted."""
    policy_loss: float
    value_loss: float
    kl: float
    time: TimeShares | None = None
    """Where the time goes; None until that is known."""
    memory: MemoryUse | None = None

    def described(self) -> str:
        """The update as one line of words and numbers."""
        unlocked = "-" if self.achievements is None else f"{self.achievements:.2f}"
        steps = "-" if self.episode_steps is None else f"{self.episode_steps:.0f}"
        return (
            f"{beginning(self)}; achievements {unlocked} of {self.num_goals} in {steps} steps ({self.episodes} episodes); "
            f"reward {self.reward:.4f}, entropy {self.entropy:.3f}, policy loss {self.policy_loss:.4f}, "
            f"value loss {self.value_loss:.4f}, kl {self.kl:.4f}"
        )
