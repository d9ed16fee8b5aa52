"""``scheduler_state.json``: the scheduler's state, its schema, and how it is saved.

The file is written whole at each transition, and the previous one stays beside it (``.prev``). ``python -m
flowrl.parallel.state`` writes the JSON Schema that is shipped with the package.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flowrl.errors import BadInput
from flowrl.files import write_whole
from flowrl.paths import ExperimentPaths
from flowrl.validation import first_fault

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


class StateStore:
    """The state file of one experiment."""

    def __init__(self, paths: ExperimentPaths):
        self.paths = paths

    def load(self) -> tuple[SchedulerState | None, str | None]:
        """The state, or None if there is none yet; and a remark if the previous one had to be used.

        Raises:
            BadInput: the file (and the one before it) cannot be used; nothing was changed.
        """
        current, previous = self.paths.state, self.paths.previous_state
        try:
            return read_state(current), None
        except FileNotFoundError:
            if not previous.exists():
                return None, None
            reason = f"{current} is missing"
        except TornState as error:
            reason = str(error)
        try:
            return read_state(previous), f"{reason}; going on from the previous state, {previous}"
        except (FileNotFoundError, TornState) as error:
            what = "it" if isinstance(error, FileNotFoundError) else "both"  # a torn .prev on its own is refused as well
            raise BadInput(
                f"{reason}, and there is no good {previous.name} beside it; "
                f"restore the file from a copy, or move {what} away: what was trained is found again in the folder"
            ) from None

    def save(self, state: SchedulerState) -> None:
        """Writes the state whole; the one before it becomes ``.prev``."""
        state.updated_at = datetime.now(UTC)
        if _is_whole(self.paths.state):
            _keep_beside(self.paths.state, self.paths.previous_state)
        write_whole(self.paths.state, state.to_text())


class TornState(BadInput):
    """The file is not valid JSON: half written, or damaged."""


def read_state(path: Path) -> SchedulerState:
    """Reads a state file.

    Raises:
        FileNotFoundError: there is none.
        TornState: it is not JSON.
        BadInput: it cannot be read; or it is JSON, and not a state that this version can read.
    """
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"there is no {path}") from None
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror or error}); "
            "make it readable, or move it away: what was trained is found again in the folder"
        ) from None
    except ValueError as error:
        raise TornState(f"{path} is not valid JSON ({error})") from None
    version = data.get("version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise BadInput(
            f"{path} was written by a newer flowrl (state version {version}, this one reads {VERSION}); "
            "update flowrl, or use another --graph_path"
        )
    try:
        return SchedulerState.model_validate(data)
    except ValidationError as error:
        raise BadInput(
            f"{path} is not a scheduler state of flowrl ({first_fault(error)}); "
            "move it away to start over, or use another --graph_path"
        ) from None


def schema_text() -> str:
    """The JSON Schema of the state file."""
    schema = SchedulerState.model_json_schema(mode="serialization")
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "flowrl scheduler_state.json"} | schema
    return json.dumps(schema, indent=2) + "\n"


def _is_whole(path: Path) -> bool:
    # The file's last characters are enough: it is written whole, so a torn file lacks its end.
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - 2))
            return file.read() == b"}\n"
    except OSError:
        return False


def _keep_beside(current: Path, previous: Path) -> None:
    """Hard-links the current file to a second name, so that there is a state file at any moment."""
    link = previous.with_name(f".{previous.name}.tmp")
    link.unlink(missing_ok=True)
    try:
        os.link(current, link)
    except OSError:  # a file system without hard links
        return write_whole(previous, current.read_bytes())
    os.replace(link, previous)


if __name__ == "__main__":
    write_whole(SCHEMA_FILE, schema_text())
