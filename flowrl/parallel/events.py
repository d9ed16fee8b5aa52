"""The inputs (events) and outputs (actions) of the scheduler's core."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flowrl.records.scheduler_state import Status


@dataclass(frozen=True)
class SkillAdded:
    """A new skill. Its dependencies are known already."""

    name: str
    skill_data: dict | None
    dependencies: tuple[str, ...]


@dataclass(frozen=True)
class RehearsalAdded:
    """A rehearsal of what will be in the library when it is launched."""

    name: str
    request: dict


@dataclass(frozen=True)
class RunReport:
    """The outcome of one attempt at a skill, or of its merge."""

    name: str
    attempt: int


@dataclass(frozen=True)
class Launched(RunReport):
    """The attempt was started, in this session."""

    session: str
    run_folder: str


@dataclass(frozen=True)
class LaunchFailed(RunReport):
    """Nothing was started. ``hopeless``: another try would end the same way."""

    error: str
    hopeless: bool = False


@dataclass(frozen=True)
class RunEnded(RunReport):
    """A run left a result: ``outcome`` is completed, failed or cancelled; none of its processes is left.

    ``ended_at``: when the result was written, which may be long before a scheduler reads it. ``too_many_envs``: the
    number of environments, if memory ran out with them. ``hopeless``: another try would only repeat the failure.
    """

    outcome: str
    error: str | None = None
    frames: int | None = None
    goal_reached: bool | None = None
    success_rate: float | None = None
    random_success_rate: float | None = None
    frames_per_success: float | None = None
    achievements: float | None = None
    ended_at: datetime | None = None
    too_many_envs: int | None = None
    hopeless: bool = False


@dataclass(frozen=True)
class RunDied(RunReport):
    """A run ended without a result. ``too_many_envs``: as in RunEnded."""

    error: str
    too_many_envs: int | None = None


@dataclass(frozen=True)
class RunStopped(RunReport):
    """The scheduler itself ended a run, or did not start it after all."""


@dataclass(frozen=True)
class Stopping:
    """The scheduler is about to end all trainings. However those runs end, it costs them no retry."""


@dataclass(frozen=True)
class RunFound:
    """At startup: a live run, or a run's result, was found that the state does not list as running."""

    name: str
    attempt: int
    expert_idx: int
    session: str | None


@dataclass(frozen=True)
class Merged(RunReport):
    """The run is merged into the library."""


@dataclass(frozen=True)
class MergeFailed(RunReport):
    """``train_again``: what was to be merged is damaged, so the run has to go on from an earlier checkpoint."""

    error: str
    train_again: bool = False


@dataclass(frozen=True)
class ContinueRequested:
    """A completed skill is to be trained further, for ``frames`` more; ``to_goal``: at most."""

    name: str
    frames: int
    skill_data: dict
    to_goal: bool = False


@dataclass(frozen=True)
class Paused:
    """No more launches."""


@dataclass(frozen=True)
class Resumed:
    """Launch what can be launched."""


@dataclass(frozen=True)
class RetryRequested:
    """The user wants failed and cancelled skills to be tried again."""


@dataclass(frozen=True)
class Ticked:
    """Time has passed."""


@dataclass(frozen=True)
class Launch:
    """Answered by Launched or LaunchFailed."""

    name: str
    attempt: int


@dataclass(frozen=True)
class Merge:
    """Answered by Merged or MergeFailed."""

    name: str
    attempt: int


@dataclass(frozen=True)
class Announce:
    """A skill has reached a final status."""

    name: str
    status: Status


Action = Launch | Merge | Announce
