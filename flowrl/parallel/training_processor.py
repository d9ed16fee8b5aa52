"""A finished run becomes part of the library: its experts are merged, its records archived, its folder removed.

A merge can be killed at any point and done again: what it will do is decided and recorded first, each step
writes whole files, and each step may be repeated. The run folder stays until the last step, so a merge can always start
over. Which version of an expert wins is decided in ``library/merge_rule.py``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.parallel.chosen_reward import keep_chosen_reward
from flowrl.parallel.library.archive import archive_rehearsal, archive_run, remove_run
from flowrl.parallel.library.experts import ExpertVersion, save_expert_to_skills, write_global_latest
from flowrl.parallel.library.locks import MERGE_TIMEOUT_S, merge_lock
from flowrl.parallel.library.merge_rule import Outcome, changed_pair, competing_pair, merge_expert, planned_update
from flowrl.parallel.observed_facts import keep_observed
from flowrl.parallel.trained_experts import trained_experts
from flowrl.paths import MERGE, ExperimentPaths, RunPaths
from flowrl.records import run_record, version_comparison
from flowrl.records.version_comparison import Comparison, Pair

__all__ = ["process_completed_training", "save_expert_to_skills"]

Outcomes = Mapping[int, Outcome]
"""How the versions of a run did beside the library's, by global expert index."""
Guard = Callable[[ExperimentPaths, RunPaths, Mapping[Pair, ExpertVersion]], Callable[[], Outcomes]]
"""Called with the versions to be measured, while nothing can change the library; what it returns measures them, and is called
when others may use the library again."""
MOST_MEASUREMENTS = 3
"""Of one merge: the library may change while versions are measured. After that, the rule by frames decides."""


def process_completed_training(
    run_folder: Path,
    skill_name: str,
    global_expert_idx: int,
    base_dir: Path,
    total_timesteps: int,
    lock_timeout_s: float = MERGE_TIMEOUT_S,
    guard: Guard | None = None,
    guard_changes: bool = False,
) -> dict[str, Any]:
    """Merges a completed run into the library, and removes its folder.

    Every expert of the run gains the frames trained. An expert of the library is replaced only by a version
    with more total frames, and never by one that did not act in this run: of two runs that trained the same expert
    side by side, the one that trained it longer wins. With a ``guard`` the two versions are measured first, and the better
    one wins if there is a clear one. Merging the same attempt again changes nothing and reports the same.

    Args:
        total_timesteps: the frames that this run really trained.
        guard: measures the versions that compete; None: the rule by frames decides.
        guard_changes: it also measures those that the run has changed without a competitor, beside what it started from.

    Returns:
        ``{"expert_updates": {global index: {"action": "new" | "updated" | "kept", "frames": total frames}}}``, where
        ``frames`` are those of the version that is in the library afterwards. The run's ``merge.json`` has more.

    Raises:
        DamagedCheckpoint: the checkpoint to merge is missing or damaged; the run has to go on from the one before.
        BadInput: another of the run's files is missing or damaged, or the run has no such expert; says which.
        LockTimeout: another process held the library for ``lock_timeout_s``.
        WaitGivenUp: the merge had to wait, and the scheduler ends.
    """
    paths, run = ExperimentPaths(base_dir), RunPaths(_found(Path(run_folder), Path(base_dir)))
    outcomes: dict[int, Outcome] = dict(version_comparison.find(run.measured)) if guard else {}
    for is_last in (*[False] * MOST_MEASUREMENTS, True):
        with merge_lock(paths, lock_timeout_s, f"merging {skill_name}"):
            if not run.run_json.exists():
                return _reported(_earlier_decision(paths.skill_folder(global_expert_idx, skill_name) / MERGE, run))
            versions = _versions(run, total_timesteps, global_expert_idx)
            open_pairs = {} if guard is None or is_last else _open_pairs(paths, run, versions, outcomes, guard_changes)
            if not open_pairs:
                return _reported(_merge(paths, run, versions, outcomes))
            measure = guard(paths, run, open_pairs)
        del versions, open_pairs  # tens of megabytes an expert
        outcomes |= measure()
    raise AssertionError("the last round merges")


def process_completed_rehearsal(
    run_folder: Path, base_dir: Path, total_timesteps: int, lock_timeout_s: float = MERGE_TIMEOUT_S
) -> dict[str, Any]:
    """Merges a completed rehearsal into the library, keeps its records in ``rehearsals/<n>``, and removes its folder.

    Arguments, returns, raises: as `process_completed_training`; every expert that acted is replaced unless the library has
    one with more frames by now. Nothing else trains beside a rehearsal, so no versions compete.
    """
    paths, run = ExperimentPaths(base_dir), RunPaths(_found(Path(run_folder), Path(base_dir)))
    with merge_lock(paths, lock_timeout_s, f"merging {run.skill_name}"):
        if not run.run_json.exists():
            return _reported(_earlier_decision(paths.rehearsal_merge(run.skill_name), run))
        versions = list(trained_experts(run, total_timesteps))
        decision = _decide(paths, run, versions, {})
        _merge_versions(paths, versions, decision, {})
        archive_rehearsal(run, paths.rehearsal_records(run.skill_name))
        write_global_latest(paths, changed={version.global_expert_idx for version in versions})
        remove_run(run)
        return _reported(decision)


def _versions(run: RunPaths, total_timesteps: int, own: int) -> list[ExpertVersion]:
    """The experts of a run, its own last: a new skill appears when what it builds on is there."""
    keep_chosen_reward(run)
    keep_observed(run)
    versions = list(trained_experts(run, total_timesteps))
    indices = [version.global_expert_idx for version in versions]
    if own not in indices:
        raise BadInput(f"the run in {run.folder} has no expert {own}; its experts are: {', '.join(map(str, sorted(indices)))}")
    return sorted(versions, key=lambda version: version.global_expert_idx == own)


def _open_pairs(
    paths: ExperimentPaths,
    run: RunPaths,
    versions: Sequence[ExpertVersion],
    outcomes: Outcomes,
    guard_changes: bool,
) -> dict[Pair, ExpertVersion]:
    """The versions that are to be measured, and of which it is not known how they do; none once the merge has decided."""
    if _decided(run):
        return {}
    pair_of = changed_pair if guard_changes and not run_record.read(run.run_json).never_done else competing_pair
    wanted = {pair: version for version in versions if (pair := pair_of(paths, version))}
    return {pair: version for pair, version in wanted.items() if not _is_settled(pair, outcomes)}


def _is_settled(pair: Pair, outcomes: Outcomes) -> bool:
    """Whether the pair was measured, or could not be."""
    outcome = outcomes.get(pair.global_expert_idx)
    return outcome.pair == pair if isinstance(outcome, Comparison) else outcome is not None


def _merge(paths: ExperimentPaths, run: RunPaths, versions: Sequence[ExpertVersion], outcomes: Outcomes) -> dict:
    decision = _decide(paths, run, versions, outcomes)
    own = versions[-1]
    is_new = not paths.skill_folder(own.global_expert_idx, own.skill_name).exists()
    _merge_versions(paths, versions[:-1] if is_new else versions, decision, outcomes)
    archive_run(paths, run, own, decision["attempt"])
    write_global_latest(paths, changed={version.global_expert_idx for version in versions})
    remove_run(run)
    return decision


def _merge_versions(paths: ExperimentPaths, versions: Sequence[ExpertVersion], decision: dict, outcomes: Outcomes) -> None:
    """Merges the versions of experts that the library has had before this run."""
    updates = {int(index): update for index, update in decision["expert_updates"].items()}
    for version in versions:
        update, outcome = updates[version.global_expert_idx], outcomes.get(version.global_expert_idx)
        if update["action"] != "kept" or isinstance(outcome, Comparison):  # what was kept may have to become older
            merge_expert(paths, version, outcome)


def _found(run_folder: Path, base_dir: Path) -> Path:
    """A relative run folder is looked for in the working folder, then in the experiment's."""
    return run_folder if run_folder.exists() or run_folder.is_absolute() else base_dir / run_folder


def _decide(paths: ExperimentPaths, run: RunPaths, versions: Sequence[ExpertVersion], outcomes: Outcomes) -> dict:
    """Decides what to do with each expert; written to the run folder, so that a repeated merge reports the same."""
    if earlier := _decided(run):
        return earlier
    updates = {
        str(version.global_expert_idx): planned_update(paths, version, outcomes.get(version.global_expert_idx))
        for version in versions
    }
    decision = {
        "attempt": run_record.read(run.run_json).attempt,
        "skill_name": run.skill_name,
        "expert_updates": dict(sorted(updates.items(), key=lambda update: int(update[0]))),
    }
    write_json(run.folder / MERGE, decision)
    return decision


def _decided(run: RunPaths) -> dict | None:
    """What an earlier merge of this attempt decided, before it was killed."""
    with contextlib.suppress(FileNotFoundError):
        earlier = read_json(run.folder / MERGE)
        if earlier["attempt"] == run_record.read(run.run_json).attempt:
            return earlier
    return None


def _earlier_decision(merged: Path, run: RunPaths) -> dict:
    """What an earlier merge decided about a run whose folder is gone."""
    try:
        return read_json(merged)
    except FileNotFoundError:
        raise BadInput(
            f"there is no run to merge in {run.folder} (no run.json), and the library has no record of it; "
            "check the path, or train the skill again"
        ) from None


def _reported(decision: dict) -> dict:
    """What the caller gets of a decision."""
    updates = decision["expert_updates"]
    return {
        "expert_updates": {int(i): {"action": update["action"], "frames": update["frames"]} for i, update in updates.items()}
    }
