"""What the library holds, read from its folders: these are right about completed skills even if the state file is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from flowrl.errors import BadInput
from flowrl.files import read_json
from flowrl.paths import SKILL_DATA, ExperimentPaths, RunPaths
from flowrl.records import result as run_result
from flowrl.records import run_record
from flowrl.records.rehearsal_settings import RehearsalRequest
from flowrl.records.result import Outcome, RunResult
from flowrl.records.run_record import RunRecord
from flowrl.records.scheduler_state import RehearsalEntry, SkillEntry, Status

_NO_PART_OF_A_REQUEST = ("total_timesteps", "stop_at_goal")
"""Training settings of a rehearsal that are not asked for as such."""


def skills_in_library(paths: ExperimentPaths) -> dict[str, int]:
    """The skills whose expert is in the library: name to global expert index."""
    found = sorted(paths.library().items())
    return {name: index for index, name in found if paths.expert_params(index, name).exists()}


def skill_data_in_library(paths: ExperimentPaths, index: int | None, name: str) -> dict[str, Any]:
    """A completed skill's data, as it was archived; ``{"skill_name": name}`` if it was not."""
    if index is None:
        return {"skill_name": name}
    return _read(paths.skill_folder(index, name) / SKILL_DATA) or {"skill_name": name}


def library_entry(paths: ExperimentPaths, index: int, name: str) -> SkillEntry:
    """The state of a completed skill, from the records that stay with it."""
    folder = paths.skill_folder(index, name)
    record, result = run_record.find(folder / run_record.NAME), run_result.find(folder / run_result.NAME)
    result = result or RunResult(0, Outcome.COMPLETED)
    merged_at = datetime.fromtimestamp(paths.expert_params(index, name).stat().st_mtime, UTC)
    return SkillEntry(
        skill_name=name,
        status=Status.COMPLETED,
        expert_idx=index,
        dependencies=_others(record, name),
        attempt=result.attempt,
        completed_at=merged_at,
        frames=result.frames,
        goal_reached=result.goal_reached,
        success_rate=result.success_rate,
        random_success_rate=result.random_success_rate,
        frames_per_success=result.frames_per_success,
        never_done=record is not None and record.never_done,
    )


@dataclass(frozen=True)
class PreparedRun:
    """A run folder that is complete: its skill's data, the skills that it builds on, its latest attempt."""

    run: RunPaths
    skill_data: dict[str, Any]
    dependencies: tuple[str, ...]
    attempt: int


def prepared_runs(paths: ExperimentPaths) -> Iterator[PreparedRun]:
    """Every prepared run folder."""
    for folder in sorted(paths.training_runs.glob("skill_*_*")):
        try:
            run = RunPaths(folder)
        except ValueError:
            continue
        record, skill_data = run_record.find(run.run_json), _read(folder / SKILL_DATA)
        if record and skill_data:
            yield PreparedRun(run, skill_data, tuple(_others(record, run.skill_name)), record.attempt)


@dataclass(frozen=True)
class PreparedRehearsal:
    """The folder of a rehearsal that is complete: what it was asked for with, and its latest attempt."""

    run: RunPaths
    request: dict[str, Any]
    attempt: int


def prepared_rehearsals(paths: ExperimentPaths) -> Iterator[PreparedRehearsal]:
    """Every folder of a prepared rehearsal."""
    for name in paths.rehearsals():
        run = RunPaths(paths.run_folder(None, name))
        record = run_record.find(run.run_json)
        if record and record.rehearsal:
            training = {key: value for key, value in asdict(record.settings).items() if key not in _NO_PART_OF_A_REQUEST}
            request = RehearsalRequest(record.settings.total_timesteps, record.rehearsal, training)
            yield PreparedRehearsal(run, request.to_data(), record.attempt)


def merged_rehearsals(paths: ExperimentPaths) -> Iterator[RehearsalEntry]:
    """The state of every rehearsal that was merged, from its records."""
    for name in paths.rehearsals():
        result = run_result.find(paths.rehearsal_records(name) / run_result.NAME)
        if result and not paths.run_folder(None, name).exists():
            yield RehearsalEntry(
                skill_name=name,
                status=Status.COMPLETED,
                attempt=result.attempt,
                completed_at=datetime.fromtimestamp((paths.rehearsal_records(name) / run_result.NAME).stat().st_mtime, UTC),
                frames=result.frames,
                num_skills=len(result.acted_frames or ()),
                achievements=result.achievements,
            )


def _others(record: RunRecord | None, name: str) -> list[str]:
    return [expert.skill_name for expert in record.experts if expert.skill_name != name] if record else []


def _read(path) -> dict[str, Any]:
    try:
        data = read_json(path)
    except (FileNotFoundError, BadInput):
        return {}
    return data if isinstance(data, dict) else {}
