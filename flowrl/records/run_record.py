"""``run.json``: what one run is to do. Together with the other files of its folder it makes the run reproducible."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.paths import RunPaths
from flowrl.records.rehearsal_settings import RehearsalSettings
from flowrl.records.training_settings import RunSettings
from flowrl.validation import first_fault

VERSION = 1
NAME = "run.json"
_LEFT_OUT = ("asked_num_envs", "rehearsal", "never_done", "init_from", "init_tried", "launches")
"""Entries that a file lacks where they are None, false or empty."""


@dataclass(frozen=True)
class PlannedTask:
    """One task of the execution plan."""

    skill_name: str
    n: int
    global_expert_idx: int
    local_expert_idx: int
    max_task_steps: int | None = None
    """The skill's own limit, or the one that follows its successes; None if the setting applies."""


@dataclass(frozen=True)
class RunExpert:
    """One expert of a run, as it was when the run was prepared."""

    skill_name: str
    global_expert_idx: int
    local_expert_idx: int
    total_frames: int = 0
    acted_frames: int = 0


@dataclass(frozen=True)
class Slot:
    """A run's share of the machine: cores, a GPU, and a fraction of the GPU's memory."""

    cores: tuple[int, ...] | None = None
    gpu: str | None = None
    memory_fraction: float | None = None


@dataclass(frozen=True)
class Launch:
    """The launch of an attempt, and how far the attempts before it had come by then."""

    attempt: int
    frames: int = 0
    """Of the newest checkpoint."""
    trial_frames: int = 0
    """Of the newest checkpoint of a trial of several rewards."""

    def reached(self, of_trial: bool) -> int:
        """The frames of the newest checkpoint, of the run or of its trial."""
        return self.trial_frames if of_trial else self.frames


@dataclass(frozen=True)
class RunRecord:
    """What ``run.json`` holds."""

    version: int
    skill_name: str
    """The skill that is trained; in a rehearsal, its own name."""
    global_expert_idx: int | None
    """Of the skill's own expert; None in a rehearsal."""
    attempt: int
    """The newest attempt; 0 before the first launch."""
    env_name: str
    settings: RunSettings
    experiment: str
    """The experiment's folder, absolute."""
    plan: tuple[PlannedTask, ...]
    gate: tuple[dict[str, Any], ...]
    """The gate's reports: on the code of each task, then on each further reward on trial."""
    experts: tuple[RunExpert, ...]
    """By local index."""
    slot: Slot = Slot()
    asked_num_envs: int | None = None
    """The number of environments that was asked for, if an earlier attempt ran out of memory with it."""
    rehearsal: RehearsalSettings | None = None
    """How episodes are played and paid; None for the run of a skill."""
    never_done: bool = False
    """Whether there is nothing to succeed at: the run has no success rates, and trains to the end of its budget."""
    init_from: str | None = None
    """The skill whose expert the new expert started as a copy of; None: it started fresh, or is trained further."""
    init_tried: tuple[str | None, ...] = ()
    """The skills whose experts are tried as its start, the best candidate first; None: a fresh one. Empty without a trial."""
    launches: tuple[Launch, ...] = ()
    """Of every attempt, the first one first; empty in a record of an earlier version."""

    def for_attempt(self, launch: Launch, slot: Slot, num_envs: int | None) -> RunRecord:
        """The record of an attempt that is about to start.

        Args:
            num_envs: environments, if an earlier attempt ran out of memory with more; None: as in the settings.
        """
        earlier = tuple(other for other in self.launches if other.attempt < launch.attempt)
        record = dataclasses.replace(self, attempt=launch.attempt, slot=slot, launches=(*earlier, launch))
        if num_envs is None or num_envs >= self.settings.num_envs:
            return record
        asked = max(self.asked_num_envs or 0, self.settings.num_envs)
        return dataclasses.replace(record, settings=self.settings.with_num_envs(num_envs), asked_num_envs=asked)

    def has_got_further(self, run: RunPaths) -> bool:
        """Whether the newest attempt has left a checkpoint with more frames than there were when it was launched."""
        launch = next((launch for launch in self.launches if launch.attempt == self.attempt), None)
        checkpoints = ((run, False), (run.trial, True))
        return launch is not None and any(paths.checkpointed_frames > launch.reached(trial) for paths, trial in checkpoints)

    def newer_than(self, attempt: int, frames: int, of_trial: bool = False) -> int | None:
        """The attempt that had been launched when a checkpoint was written; None if it came in time.

        A process may live on where nobody can see it, as on a node that has lost its network, while the next attempt is
        under way. What it writes from then on does not count.

        Args:
            attempt: the one that wrote the checkpoint.
            frames: those of the checkpoint; an attempt only ever adds to them.
            of_trial: whether the checkpoint is that of a trial of several rewards.
        """
        later = (launch for launch in self.launches if launch.attempt > attempt)
        return next((launch.attempt for launch in later if frames > launch.reached(of_trial)), None)


def write(path: Path, record: RunRecord) -> None:
    """Writes the record, whole. Optional fields that are None or false are left out."""
    data = dataclasses.asdict(record)
    data["plan"] = [_without_none(task) for task in data["plan"]]
    write_json(path, {name: value for name, value in data.items() if value or name not in _LEFT_OUT})


def read(path: Path) -> RunRecord:
    """Reads the record.

    Raises:
        FileNotFoundError: there is none.
        BadInput: it is damaged, or has another version; says how.
    """
    data = read_json(path)
    version = data.get("version") if isinstance(data, dict) else None
    if version != VERSION:
        raise BadInput(
            f"{path} has version {version!r}, and this flowrl reads version {VERSION}; train the run with the flowrl that "
            "prepared it, or move its folder away to train the skill again"
        )
    try:
        settings = RunSettings.of(data["settings"])
        return _ADAPTER.validate_python(data | {"settings": settings})
    except (ValidationError, BadInput, AttributeError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is damaged ({_reason(error)}); restore it from a copy, or move its folder away") from error


def attempt(path: Path) -> int:
    """The newest attempt, even in a record of another version or with damaged entries; 1 if it names none.

    Raises:
        FileNotFoundError: there is no record.
        BadInput: it is not JSON.
    """
    data = read_json(path)
    found = data.get("attempt") if isinstance(data, dict) else None
    return found if isinstance(found, int) else 1


def find(path: Path) -> RunRecord | None:
    """The record; None if there is none that can be read."""
    try:
        return read(path)
    except (OSError, BadInput):
        return None


def missing_in_library(path: Path, skill_folder: Path) -> BadInput:
    """What to raise about a skill of the library without its record."""
    return BadInput(
        f"{path} is missing: it says how the skill was trained; restore it from a copy, train the skill again (a migrated "
        f"one has no {NAME} before that), or move {skill_folder} away"
    )


def check_game(record: RunRecord, env_name: str, skill_folder: Path) -> None:
    """Accepts a skill of the library that was trained on the experiment's game.

    Raises:
        BadInput: it was trained on another one.
    """
    if record.env_name != env_name:
        raise BadInput(
            f"{record.skill_name} in {skill_folder} was trained on {record.env_name}, and the experiment's game is {env_name}; "
            "move the folder away, or name the right experiment"
        )


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return first_fault(error).with_value
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


_ADAPTER = TypeAdapter(RunRecord)
