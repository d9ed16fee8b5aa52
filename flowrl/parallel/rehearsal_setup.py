"""Prepares a rehearsal: its folder, and in it the library as it is now.

Everything the rehearsal needs lies in the folder afterwards; what is merged meanwhile does not change it.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from flowrl import pickles
from flowrl.errors import BadInput
from flowrl.parallel.library.locks import merge_lock
from flowrl.parallel.training_setup import refresh_settings, stored_settings
from flowrl.paths import SKILL_DATA, ExperimentPaths, RunPaths
from flowrl.records import result as run_result
from flowrl.records import run_record
from flowrl.records.rehearsal_settings import RehearsalRequest
from flowrl.records.run_record import RunExpert, RunRecord
from flowrl.records.training_settings import DEFAULT_ENV_NAME, RunSettings

LOCK_TIMEOUT_S = 10.0
"""Seconds to wait for a merge, before the rehearsal is tried again later."""


def prepare_rehearsal(name: str, request: RehearsalRequest, base_dir: Path) -> RunPaths:
    """Makes ``training_runs/rehearsal_<n>`` ready to rehearse in.

    A folder whose rehearsal has left checkpoints is kept: it goes on from the newest, with the current settings (except
    ``FIXED_SETTINGS``).

    Raises:
        BadInput: there is no skill to rehearse, or a file of one is missing. Nothing was written.
        LockTimeout: another process held the library.
    """
    paths = ExperimentPaths(base_dir)
    run = RunPaths(paths.run_folder(None, name))
    settings = {**stored_settings(paths), **request.training, "total_timesteps": request.frames, "stop_at_goal": False}
    if run.run_json.exists() and run.has_checkpoints:
        refresh_settings(run, {name: value for name, value in settings.items() if name != "mixed_precision"})
        return run
    with merge_lock(paths, LOCK_TIMEOUT_S, f"preparing {name}"):
        experts = _copied(paths, run)
    record = RunRecord(
        version=run_record.VERSION,
        skill_name=name,
        global_expert_idx=None,
        attempt=run_record.attempt(run.run_json) if run.run_json.exists() else 0,
        env_name=settings.get("env_name", DEFAULT_ENV_NAME),
        settings=dataclasses.replace(RunSettings.of(settings), **_shape_of(run, experts[0])),
        experiment=str(paths.root.resolve()),
        plan=(),
        gate=(),
        experts=experts,
        rehearsal=request.rehearsal,
    )
    run.policies.mkdir(parents=True, exist_ok=True)
    run_record.write(run.run_json, record)  # last: a folder that has it is complete
    return run


def _copied(paths: ExperimentPaths, run: RunPaths) -> tuple[RunExpert, ...]:
    """Copies the skills of the library; returns their experts."""
    skills = check_library(paths)
    shutil.rmtree(run.library.skills, ignore_errors=True)
    run.experience.unlink(missing_ok=True)
    return tuple(_copy(paths, run, local, *skill) for local, skill in enumerate(skills))


def check_library(paths: ExperimentPaths) -> list[tuple[int, str]]:
    """The skills of a library that can be rehearsed, by their experts' indices.

    Raises:
        BadInput: it is empty, a skill is of another game, or a file is missing or damaged; says which.
    """
    skills, env_name = sorted(paths.library().items()), stored_settings(paths).get("env_name", DEFAULT_ENV_NAME)
    if not skills:
        raise BadInput(f"{paths.root} has no completed skill to rehearse; train some first")
    for index, name in skills:
        _check(paths, index, name, env_name)
    return skills


def _check(paths: ExperimentPaths, index: int, name: str, env_name: str) -> None:
    """Accepts a skill of this game all of whose files are there, with an expert that can be read."""
    folder = paths.skill_folder(index, name)
    missing = next((path for path in _needed(paths, index, name) if not path.exists()), None)
    if missing is None:
        run_record.check_game(run_record.read(folder / run_record.NAME), env_name, folder)
        pickles.load(paths.expert_params(index, name))
        return
    if missing.name == run_record.NAME:
        raise run_record.missing_in_library(missing, folder)
    raise BadInput(f"{missing} is missing; restore it from a copy, or move {folder} away")


def _needed(paths: ExperimentPaths, index: int, name: str) -> list[Path]:
    folder = paths.skill_folder(index, name)
    return [
        paths.expert_params(index, name),
        paths.skill_module(index, name),
        folder / SKILL_DATA,
        folder / run_record.NAME,
    ]


def _copy(paths: ExperimentPaths, run: RunPaths, local: int, index: int, name: str) -> RunExpert:
    source, target = paths.skill_folder(index, name), run.library.skill_folder(index, name)
    for path in _needed(paths, index, name):
        to = target / path.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, to)
    if (source / run_result.NAME).exists():
        shutil.copy2(source / run_result.NAME, target / run_result.NAME)
    metadata = pickles.load(paths.expert_params(index, name)).get("metadata", {})
    return RunExpert(name, index, local, int(metadata.get("total_frames", 0)), int(metadata.get("acted_frames", 0)))


def _shape_of(run: RunPaths, expert: RunExpert) -> dict[str, Any]:
    """The settings that the experts were trained with, and that a rehearsal cannot change: the same for all of them."""
    folder = run.library.skill_folder(expert.global_expert_idx, expert.skill_name)
    settings = run_record.read(folder / run_record.NAME).settings
    return {"layer_size": settings.layer_size, "mixed_precision": settings.mixed_precision}
