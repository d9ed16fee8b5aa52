"""``result.json``: the outcome of one attempt. A training writes it last, and whole; the scheduler reads it first."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.records.observed import Observed
from flowrl.validation import first_fault

NAME = "result.json"
OUT_OF_MEMORY = "out_of_memory"
NO_PROGRESS = "no_progress"
"""These are the reasons of a failure that the scheduler acts on: it retries the one with fewer environments, and the other
not at all."""
NO_PROGRESS_PREFIX = "no progress: "
"""How the error of a run begins that was given up."""


class Outcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"  # the user pressed Ctrl-C in its pane

    @property
    def is_its_own(self) -> bool:
        """Whether it is final, no matter what happened to the run afterwards: the run was finished, or the user ended
        it."""
        return self is not Outcome.FAILED


@dataclass(frozen=True)
class TaskRate:
    """How often one task of the plan was done, among the fresh episodes that reached it."""

    skill_name: str
    n: int
    success_rate: float | None
    random_success_rate: float | None
    """The random policy's rate on the same task."""


@dataclass(frozen=True)
class RunResult:
    """What ``result.json`` holds; None for what an attempt did not measure."""

    attempt: int
    outcome: Outcome
    skill_name: str = ""
    error: str | None = None
    reason: str | None = None
    """`OUT_OF_MEMORY` or `NO_PROGRESS` if that was the cause of the failure."""
    goal_reached: bool | None = None
    frames: int | None = None
    """Frames that the run has trained, over all its attempts."""
    acted_frames: dict[str, int] | None = None
    """Of these, the frames in which each expert acted, by global index."""
    success_rate: float | None = None
    random_success_rate: float | None = None
    frames_per_success: float | None = None
    tasks: tuple[TaskRate, ...] | None = None
    achievements: float | None = None
    """Of a rehearsal: what its latest episodes unlocked, on average."""
    episode_steps: float | None = None
    """Of a rehearsal: how long its latest episodes were, on average."""
    checkpoint: str | None = None
    """The checkpoint to merge, relative to the run's folder."""
    seconds_to_first_update: float | None = None
    seconds_per_update: float | None = None
    seconds_training: float | None = None
    frames_per_s: float | None = None
    candidates: dict[str, Any] | None = None
    """The results of the trial of several rewards, if there was one."""
    observed: Observed | None = None
    """What the tries at the skill's own task showed, held against what it declares."""

    @property
    def is_its_own(self) -> bool:
        """Whether the run came to this by itself, whatever happened to it afterwards: see `Outcome.is_its_own`."""
        return self.outcome.is_its_own or self.reason == NO_PROGRESS


def write(path: Path, result: RunResult) -> None:
    """Writes the result, whole."""
    write_json(path, dataclasses.asdict(result))


def read(path: Path) -> RunResult:
    """Reads the result.

    Raises:
        FileNotFoundError: there is none.
        BadInput: it is damaged; says how.
    """
    try:
        return _ADAPTER.validate_python(read_json(path))
    except ValidationError as error:
        raise BadInput(
            f"{path} is damaged ({first_fault(error)}); restore it from a copy, or remove it to resume the training"
        ) from error


def find(path: Path, attempt: int | None = None) -> RunResult | None:
    """The result; None if there is none that can be read.

    Args:
        attempt: a result of another attempt does not count; None: any counts.
    """
    try:
        result = read(path)
    except (OSError, BadInput):
        return None
    return result if attempt is None or result.attempt == attempt else None


def frames_in(path: Path) -> int:
    """The frames that a result names; 0 where there is none that can be read, or it names none."""
    result = find(path)
    return (result.frames or 0) if result else 0


_ADAPTER = TypeAdapter(RunResult)
