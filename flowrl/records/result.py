"""``result.json``: what became of one attempt. The training writes it last and whole; the scheduler believes it first."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json

NAME = "result.json"
OUT_OF_MEMORY = "out_of_memory"
"""The one ``reason`` of a failure that the scheduler acts on."""


class Outcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"  # a person pressed Ctrl-C in its pane

    @property
    def is_its_own(self) -> bool:
        """Whether it stands whatever was done to the run afterwards: it was done, or a person had ended it."""
        return self is not Outcome.FAILED


@dataclass(frozen=True)
class TaskRate:
    """How often one task of the plan was done in fresh episodes, of those that reached it."""

    skill_name: str
    n: int
    success_rate: float | None
    random_success_rate: float | None
    """The random policy's, on the same task."""


@dataclass(frozen=True)
class RunResult:
    """What ``result.json`` holds; None where an attempt has nothing to say."""

    attempt: int
    outcome: Outcome
    skill_name: str = ""
    error: str | None = None
    reason: str | None = None
    """The kind of a failure, where it is `OUT_OF_MEMORY`."""
    goal_reached: bool | None = None
    frames: int | None = None
    """Frames that the run has trained, over all its attempts."""
    acted_frames: dict[str, int] | None = None
    """Of these, the frames in which each expert acted, by global index."""
    success_rate: float | None = None
    random_success_rate: float | None = None
    frames_per_success: float | None = None
    tasks: tuple[TaskRate, ...] | None = None
    checkpoint: str | None = None
    """The checkpoint to merge, relative to the run's folder."""
    seconds_to_first_update: float | None = None
    seconds_per_update: float | None = None
    seconds_training: float | None = None
    frames_per_s: float | None = None
    candidates: dict[str, Any] | None = None
    """What the trial of several rewards has shown, where there was one."""


def write(path: Path, result: RunResult) -> None:
    """Writes the result, whole."""
    write_json(path, dataclasses.asdict(result))


def read(path: Path) -> RunResult:
    """Reads the result.

    Raises:
        FileNotFoundError: there is none.
        BadInput: it is damaged; says what is wrong with it.
    """
    try:
        return _ADAPTER.validate_python(read_json(path))
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "the whole"
        raise BadInput(
            f"{path} is damaged ({place}: {fault['msg']}); restore it from a copy, or remove it to train on"
        ) from error


def find(path: Path, attempt: int | None = None) -> RunResult | None:
    """The result, or None where there is none that can be read.

    Args:
        attempt: a result of another attempt does not count; None: any counts.
    """
    try:
        result = read(path)
    except (OSError, BadInput):
        return None
    return result if attempt is None or result.attempt == attempt else None


_ADAPTER = TypeAdapter(RunResult)
