"""The experts of a run that has ended, as they are in the checkpoint that its result names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowrl import pickles
from flowrl.errors import BadInput
from flowrl.parallel.library.experts import Age, ExpertVersion, LibraryExpert
from flowrl.paths import MERGE, RunPaths
from flowrl.records import result as run_result
from flowrl.records import run_record
from flowrl.records.result import RunResult
from flowrl.records.run_record import RunExpert, RunRecord


class DamagedCheckpoint(BadInput):
    """The checkpoint that an ended run's result names cannot be merged."""


def trained_experts(run: RunPaths, total_timesteps: int) -> Iterator[ExpertVersion]:
    """Every expert of the run, older by the frames that it trained.

    Raises:
        DamagedCheckpoint: the checkpoint is missing or damaged, or an older attempt wrote it when the next one had begun.
        BadInput: another of the run's files is missing or damaged; says which.
    """
    path, record = _checkpoint_path(run), run_record.read(run.run_json)
    checkpoint, at_start = _read_checkpoint(path), _params_at_start(run)
    _check_in_time(path, checkpoint, record)
    for start in record.experts:
        acted = _acted_frames(run, checkpoint, start, total_timesteps)
        try:
            params = checkpoint["experts"][str(start.local_expert_idx)]["params"]
        except KeyError:
            raise BadInput(
                f"{path} holds no expert {start.local_expert_idx} ({start.skill_name}), which run.json names; "
                "remove this checkpoint and start again: the run continues from the one before"
            ) from None
        yield ExpertVersion(
            skill_name=start.skill_name,
            global_expert_idx=start.global_expert_idx,
            params=params,
            total_frames=start.total_frames + total_timesteps,
            acted_frames=start.acted_frames + acted,
            acted=acted > 0,
            start=_start(start, at_start.get(str(start.local_expert_idx))),
        )


def set_damaged_aside(run: RunPaths, attempt: int) -> None:
    """Moves the damaged checkpoint aside, and the result that names it: the run goes on from the checkpoint before."""
    with contextlib.suppress(BadInput, FileNotFoundError, NotADirectoryError):
        damaged = _checkpoint_path(run)
        os.replace(damaged, damaged.with_name(f"{damaged.name}.damaged"))
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.replace(run.result, run.folder / f"result_{attempt}.json")
    (run.folder / MERGE).unlink(missing_ok=True)


def _checkpoint_path(run: RunPaths) -> Path:
    """The checkpoint that the result names; without a result, the newest."""
    result = _result(run)
    if result and result.checkpoint:
        return run.folder / result.checkpoint
    if checkpoints := run.checkpoints():
        return checkpoints[-1]
    raise BadInput(f"{run.policies} holds no checkpoint: nothing was trained in this run; start it again")


def _result(run: RunPaths) -> RunResult | None:
    """The run's result, None if it left none. Raises BadInput if it is damaged."""
    try:
        return run_result.read(run.result)
    except FileNotFoundError:
        return None


def _read_checkpoint(path: Path) -> dict:
    try:
        checkpoint = pickles.load(path)
    except FileNotFoundError:
        raise DamagedCheckpoint(f"{path}, which the run's result names, is missing; start the run again") from None
    except pickles.ForeignPickle as error:
        raise DamagedCheckpoint(str(error)) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("experts"), dict):
        raise DamagedCheckpoint(f"{path} is not a checkpoint of flowrl: expected a dict with 'experts'; start the run again")
    return checkpoint | {"experts": {str(local): expert for local, expert in checkpoint["experts"].items()}}


def _check_in_time(path: Path, checkpoint: dict, record: RunRecord) -> None:
    metadata = checkpoint.get("metadata") or {}
    attempt, frames = metadata.get("attempt"), metadata.get("frames")
    if isinstance(attempt, int) and isinstance(frames, int) and (newer := record.newer_than(attempt, frames)):
        raise DamagedCheckpoint(
            f"{path} was written by attempt {attempt} when attempt {newer} had begun; the run continues from the one before"
        )


def _params_at_start(run: RunPaths) -> Mapping[str, Any]:
    """The parameters that the run started from, by local index; none where they were not kept or are damaged."""
    try:
        return {str(local): params for local, params in pickles.load(run.initial)["experts"].items()}
    except (FileNotFoundError, pickles.ForeignPickle, KeyError, TypeError, AttributeError):
        return {}


def _start(expert: RunExpert, params: Mapping[str, Any] | None) -> LibraryExpert | None:
    return None if params is None else LibraryExpert(params, Age(expert.total_frames, expert.acted_frames))


def _acted_frames(run: RunPaths, checkpoint: dict, expert: RunExpert, total_timesteps: int) -> int:
    """Frames of this run in which the expert acted; all frames if they were not counted."""
    result = _result(run)
    if result and result.acted_frames is not None:
        return result.acted_frames.get(str(expert.global_expert_idx), 0)
    counted = (checkpoint.get("metadata") or {}).get("acted_frames")
    if counted is None:
        return total_timesteps
    return int({str(local): frames for local, frames in counted.items()}.get(str(expert.local_expert_idx), 0))
