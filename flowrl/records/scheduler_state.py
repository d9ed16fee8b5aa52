"""What ``scheduler_state.json`` holds: the scheduler's state, its types, and its schema.

``python -m flowrl.records.scheduler_state`` writes the JSON Schema that is shipped with the package.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from flowrl.files import write_whole
from flowrl.validation import schema_of

VERSION = 1
SCHEMA_FILE = Path(__file__).with_name("scheduler_state.schema.json")


class Status(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    BLOCKED = "blocked"


FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.BLOCKED})
USELESS = frozenset({Status.FAILED, Status.CANCELLED, Status.BLOCKED})


class Stage(StrEnum):
    """The stage of a running skill. Saved before it is acted on, so a restarted scheduler knows what may have happened."""

    LAUNCHING = "launching"
    TRAINING = "training"
    MERGING = "merging"


class SkillEntry(BaseModel):
    """One skill, as the scheduler sees it."""

    model_config = ConfigDict(extra="forbid")

    skill_name: str = Field(min_length=1)
    status: Status = Status.WAITING
    dependencies: list[str] = Field(default_factory=list, description="Skills that must be completed before this one.")
    expert_idx: int | None = Field(None, ge=0, description="Global expert index; assigned at the first launch for good.")
    tmux_session: str | None = None
    run_folder: str | None = Field(None, description="Relative to the experiment's folder.")
    attempt: int = Field(0, ge=0, description="Number of the latest launch; only a result with this number counts.")
    started_at: datetime | None = Field(None, description="Start of the latest attempt.")
    completed_at: datetime | None = Field(None, description="When the current final status was reached.")
    retry_count: int = Field(0, ge=0)
    num_envs: int | None = Field(None, ge=1, description="Number of environments, if memory ran out with the number asked for.")
    frames: int | None = Field(None, ge=0, description="Environment steps that the run trained.")
    goal_reached: bool | None = None
    success_rate: float | None = None
    random_success_rate: float | None = None
    frames_per_success: float | None = Field(None, ge=0, description="Steps of all the reported episodes per success.")
    never_done: bool = Field(False, description="There is nothing to succeed at; --max_nodes does not count it.")
    error: str | None = None
    blocked_by: list[str] = Field(default_factory=list, description="The failed or cancelled skills that it needs.")
    stage: Stage | None = Field(None, description="Stage of a running skill; a failed one that is trained stays 'merging'.")
    slot: int | None = Field(None, ge=0)
    stopping: bool = Field(False, description="The scheduler is ending its training, which does not count as a failure.")
    retry_at: datetime | None = Field(None, description="It is not launched before this time.")
    minutes: float | None = Field(None, ge=0, description="Time in training: the ended attempts together.")
    extra_timesteps: int | None = Field(
        None, gt=0, description="Frames that a completed skill is being trained further; its expert stays as it is until then."
    )
    to_goal: bool = Field(False, description="It is trained further only until it reaches its goal.")
    skill_data: dict[str, Any] | None = Field(None, description="The skill itself, until the library has it.")

    @property
    def is_rehearsal(self) -> bool:
        return isinstance(self, RehearsalEntry)

    @property
    def is_usable(self) -> bool:
        """Whether its expert is in the library: completed, perhaps being trained further."""
        return self.status is Status.COMPLETED or self.extra_timesteps is not None


class RehearsalEntry(SkillEntry):
    """One rehearsal, as the scheduler sees it: a run like any other, without an expert of its own."""

    skill_name: str = Field(pattern=r"^rehearsal_[0-9]+$", description="Its name.")
    num_skills: int = Field(0, ge=0, description="Skills in the library when it was launched first.")
    achievements: float | None = Field(None, description="Unlocked by its latest episodes, on average.")


class SchedulerState(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = VERSION
    updated_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    max_parallel: int = Field(1, ge=1)
    currently_running: list[str] = Field(default_factory=list)
    next_expert_idx: int = Field(0, ge=0)
    proposer: dict[str, Any] = Field(default_factory=dict, description="The proposer's kind, cost and last error.")
    skills: list[SkillEntry] = Field(default_factory=list)
    rehearsals: list[RehearsalEntry] = Field(default_factory=list)

    @property
    def entries(self) -> list[SkillEntry]:
        """All skills and rehearsals."""
        return [*self.skills, *self.rehearsals]

    def to_data(self) -> dict[str, Any]:
        """Plain values, as in the file."""
        return self.model_dump(mode="json")

    def to_text(self) -> str:
        """The file's text: indented JSON."""
        return self.model_dump_json(indent=2) + "\n"


def schema_text() -> str:
    """The JSON Schema of the state file."""
    return schema_of(SchedulerState, "flowrl scheduler_state.json")


if __name__ == "__main__":
    write_whole(SCHEMA_FILE, schema_text())
