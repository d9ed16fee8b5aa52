"""A training that is under way, or was interrupted, as a library: its experts as they are in its newest checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from flowrl import pickles
from flowrl.envs.registry import GameEntry
from flowrl.errors import BadInput
from flowrl.evaluation.library import Library, read_skill
from flowrl.experiment import stored_library
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.records import run_record

_TRIES = 5
"""A training removes its older checkpoints, perhaps while they are read here."""


def names(paths: ExperimentPaths) -> list[str]:
    """The skills whose training has a checkpoint."""
    return sorted(run.skill_name for run in _runs(paths) if run.checkpoints())


def load(paths: ExperimentPaths, name: str, entry: GameEntry) -> Library:
    """The library as this training has it: what it trains is as in its newest checkpoint, the rest as in the library.

    Raises:
        BadInput: no training of such a skill has a checkpoint, or something of it is missing or damaged.
    """
    run = next((run for run in _runs(paths) if run.skill_name == name), None)
    if run is None or not run.checkpoints():
        raise BadInput(f"no training of {name} in {paths.training_runs} has a checkpoint yet; wait for one")
    record, checkpoint = _record(run), _newest_checkpoint(run)
    trained = {expert.skill_name: _params(checkpoint, expert.local_expert_idx, run) for expert in record.experts}
    frames = checkpoint["metadata"]["frames"]
    own = read_skill(run.folder, run.module, record, trained.pop(name), frames)
    if trained:
        found = stored_library.load(paths, entry)
        others = [dataclasses.replace(skill, params=trained.get(skill.name, skill.params)) for skill in found.skills]
    else:
        others = []
    skills = sorted([*(skill for skill in others if skill.name != name), own], key=lambda skill: skill.index)
    return Library(entry.env_name, record.settings.layer_size, record.settings.mixed_precision, tuple(skills), frames)


def _runs(paths: ExperimentPaths) -> list[RunPaths]:
    return [RunPaths(folder) for folder in sorted(paths.training_runs.glob("skill_*_*")) if folder.is_dir()]


def _record(run: RunPaths) -> run_record.RunRecord:
    try:
        return run_record.read(run.run_json)
    except FileNotFoundError:
        raise BadInput(f"{run.run_json} is missing, which says what is trained; start the training again") from None


def _newest_checkpoint(run: RunPaths) -> dict[str, Any]:
    for _ in range(_TRIES):
        checkpoints: list[Path] = run.checkpoints()
        if not checkpoints:
            break
        try:
            return pickles.load(checkpoints[-1])
        except FileNotFoundError:
            continue
    raise BadInput(f"the checkpoints in {run.policies} are gone: the training has ended just now; try again")


def _params(checkpoint: dict[str, Any], local_expert_idx: int, run: RunPaths) -> Any:
    try:
        return checkpoint["experts"][str(local_expert_idx)]["params"]
    except (KeyError, TypeError):
        raise BadInput(
            f"the newest checkpoint in {run.policies} has no expert {local_expert_idx}, which run.json names; move it away"
        ) from None
