"""A finished run becomes part of the library: its experts are merged, its records archived, its folder removed.

A merge can be killed at any point and done again: what it will do is decided and recorded first, each step
writes whole files, and each step may be repeated. The run folder stays until the last step, so a merge can always start
over. Which version of an expert wins is decided in ``library/merge_rule.py``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.parallel.chosen_reward import keep_chosen_reward
from flowrl.parallel.library.archive import archive_rehearsal, archive_run, remove_run
from flowrl.parallel.library.experts import ExpertVersion, save_expert_to_skills, write_global_latest
from flowrl.parallel.library.locks import MERGE_TIMEOUT_S, merge_lock
from flowrl.parallel.library.merge_rule import merge_expert, planned_update
from flowrl.parallel.observed_facts import keep_observed
from flowrl.parallel.trained_experts import trained_experts
from flowrl.paths import MERGE, ExperimentPaths, RunPaths
from flowrl.records import run_record

__all__ = ["process_completed_training", "save_expert_to_skills"]


def process_completed_training(
    run_folder: Path,
    skill_name: str,
    global_expert_idx: int,
    base_dir: Path,
    total_timesteps: int,
    lock_timeout_s: float = MERGE_TIMEOUT_S,
) -> dict[str, Any]:
    """Merges a completed run into the library, and removes its folder.

    Every expert of the run gains the frames trained. An expert of the library is replaced only by a version
    with more total frames, and never by one that did not act in this run: of two runs that trained the same expert
    side by side, the one that trained it longer wins. Merging the same attempt again changes nothing and reports the
    same.

    Args:
        total_timesteps: the frames that this run really trained.

    Returns:
        ``{"expert_updates": {global index: {"action": "new" | "updated" | "kept", "frames": total frames}}}``, where
        ``frames`` are those of the version that is in the library afterwards.

    Raises:
        DamagedCheckpoint: the checkpoint to merge is missing or damaged; the run has to go on from the one before.
        BadInput: another of the run's files is missing or damaged, or the run has no such expert; says which.
        LockTimeout: another process held the library for ``lock_timeout_s``.
    """
    paths, run = ExperimentPaths(base_dir), RunPaths(_found(Path(run_folder), Path(base_dir)))
    with merge_lock(paths, lock_timeout_s, f"merging {skill_name}"):
        if not run.run_json.exists():
            return _with_int_keys(_earlier_decision(paths.skill_folder(global_expert_idx, skill_name) / MERGE, run))
        keep_chosen_reward(run)
        keep_observed(run)
        versions = {version.global_expert_idx: version for version in trained_experts(run, total_timesteps)}
        if global_expert_idx not in versions:
            raise BadInput(
                f"the run in {run.folder} has no expert {global_expert_idx}; its experts are: "
                f"{', '.join(map(str, sorted(versions)))}"
            )
        decision = _decide(paths, run, versions.values())
        own = versions[global_expert_idx]
        _merge_others(paths, (version for version in versions.values() if version is not own), decision)
        archive_run(paths, run, own, decision["expert_updates"][str(global_expert_idx)]["action"], decision["attempt"])
        write_global_latest(paths, changed=versions.keys())
        remove_run(run)
        return _with_int_keys(decision)


def process_completed_rehearsal(
    run_folder: Path, base_dir: Path, total_timesteps: int, lock_timeout_s: float = MERGE_TIMEOUT_S
) -> dict[str, Any]:
    """Merges a completed rehearsal into the library, keeps its records in ``rehearsals/<n>``, and removes its folder.

    Arguments, returns, raises: as `process_completed_training`; every expert that acted is replaced unless the library has
    one with more frames by now.
    """
    paths, run = ExperimentPaths(base_dir), RunPaths(_found(Path(run_folder), Path(base_dir)))
    with merge_lock(paths, lock_timeout_s, f"merging {run.skill_name}"):
        if not run.run_json.exists():
            return _with_int_keys(_earlier_decision(paths.rehearsal_merge(run.skill_name), run))
        versions = list(trained_experts(run, total_timesteps))
        decision = _decide(paths, run, versions)
        _merge_others(paths, versions, decision)
        archive_rehearsal(run, paths.rehearsal_records(run.skill_name))
        write_global_latest(paths, changed={version.global_expert_idx for version in versions})
        remove_run(run)
        return _with_int_keys(decision)


def _merge_others(paths: ExperimentPaths, versions: Iterable[ExpertVersion], decision: dict) -> None:
    """Merges the versions of experts that the library has had before this run."""
    actions = {int(index): update["action"] for index, update in decision["expert_updates"].items()}
    for version in versions:
        if actions[version.global_expert_idx] != "kept":
            merge_expert(paths, version)


def _found(run_folder: Path, base_dir: Path) -> Path:
    """A relative run folder is looked for in the working folder, then in the experiment's."""
    return run_folder if run_folder.exists() or run_folder.is_absolute() else base_dir / run_folder


def _decide(paths: ExperimentPaths, run: RunPaths, versions: Iterable[ExpertVersion]) -> dict:
    """Decides what to do with each expert; written to the run folder, so that a repeated merge reports the same."""
    attempt = run_record.read(run.run_json).attempt
    with contextlib.suppress(FileNotFoundError):
        earlier = read_json(run.folder / MERGE)
        if earlier["attempt"] == attempt:
            return earlier
    updates = {str(version.global_expert_idx): planned_update(paths, version) for version in versions}
    decision = {"attempt": attempt, "skill_name": run.skill_name, "expert_updates": updates}
    write_json(run.folder / MERGE, decision)
    return decision


def _earlier_decision(merged: Path, run: RunPaths) -> dict:
    """What an earlier merge decided about a run whose folder is gone."""
    try:
        return read_json(merged)
    except FileNotFoundError:
        raise BadInput(
            f"there is no run to merge in {run.folder} (no run.json), and the library has no record of it; "
            "check the path, or train the skill again"
        ) from None


def _with_int_keys(decision: dict) -> dict:
    return {"expert_updates": {int(index): update for index, update in decision["expert_updates"].items()}}
