"""A finished run becomes part of the library: its experts are merged, its records archived, its folder removed.

A merge can be killed at any point and done again: what it will do is decided and written down first, each step
writes whole files, and each step may be repeated. Until the last step the run folder is there to begin anew from.
"""

from __future__ import annotations

import contextlib
import filecmp
import itertools
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowrl import pickles
from flowrl.errors import BadInput
from flowrl.files import read_json, sweep_files, write_json, write_whole
from flowrl.parallel.chosen_reward import keep_chosen_reward
from flowrl.parallel.library.locks import MERGE_TIMEOUT_S, merge_lock
from flowrl.parallel.training_setup import SKILL_DATA
from flowrl.paths import CANDIDATES, ExperimentPaths, RunPaths
from flowrl.records import result as run_result
from flowrl.records import run_record
from flowrl.records.result import RunResult
from flowrl.records.run_record import RunExpert

MERGE = "merge.json"
REPORTS = "wandb"
_ARCHIVED = ("training.log", "metrics.jsonl", run_record.NAME, run_result.NAME, SKILL_DATA, CANDIDATES, MERGE)


@dataclass(frozen=True)
class ExpertVersion:
    """An expert as one run leaves it. ``total_frames`` is its age, ``acted_frames`` what it acted in itself.

    ``acted``: whether it acted in this run at all.
    """

    skill_name: str
    global_expert_idx: int
    params: Mapping[str, Any]
    total_frames: int
    acted_frames: int
    acted: bool = True


class DamagedCheckpoint(BadInput):
    """A run has ended, and the checkpoint that its result names cannot be merged."""


def process_completed_training(
    run_folder: Path,
    skill_name: str,
    global_expert_idx: int,
    base_dir: Path,
    total_timesteps: int,
    lock_timeout_s: float = MERGE_TIMEOUT_S,
) -> dict[str, Any]:
    """Merges a completed run into the library, and removes its folder.

    Every expert of the run is older by the frames trained. An expert of the library is replaced only by a version
    with more total frames, and never by one that did not act in this run: of two runs that trained the same expert
    side by side, the one that trained it longer wins. Merging the same attempt again changes nothing and reports the
    same.

    Args:
        total_timesteps: the frames that this run really trained.

    Returns:
        ``{"expert_updates": {global index: {"action": "new" | "updated" | "kept", "frames": total frames}}}``, where
        ``frames`` are those of the version that is in the library afterwards.

    Raises:
        DamagedCheckpoint: the checkpoint to merge is missing or damaged; the run has to be trained on from the one before.
        BadInput: another of the run's files is missing or damaged; says which.
        LockTimeout: another process held the library for ``lock_timeout_s``.
    """
    paths, run = ExperimentPaths(base_dir), RunPaths(_from_here_or(Path(base_dir), Path(run_folder)))
    with merge_lock(paths, lock_timeout_s, f"merging {skill_name}"):
        if not run.run_json.exists():
            return _reported(paths.skill_folder(global_expert_idx, skill_name) / MERGE, run)
        keep_chosen_reward(run)
        versions = list(_versions(run, total_timesteps))
        decision = _decide(paths, run, versions)
        for version in versions:
            if decision["expert_updates"][str(version.global_expert_idx)]["action"] == "kept":
                continue
            if version.global_expert_idx != global_expert_idx:
                _save_unless_older(paths, version)
        _archive(paths, run, next(v for v in versions if v.global_expert_idx == global_expert_idx), decision)
        write_global_latest(paths, changed={version.global_expert_idx for version in versions})
        _remove(paths, run)
        return _with_int_keys(decision)


def save_expert_to_skills(version: ExpertVersion, base_dir: Path) -> Path:
    """Writes an expert to its place in the library, ``skills/<i>_<Name>/expert_<i>_policy/params.pkl``, whole."""
    paths = ExperimentPaths(base_dir)
    path = paths.expert_params(version.global_expert_idx, version.skill_name)
    if path.exists() and library_frames(base_dir, version.global_expert_idx, version.skill_name) is None:
        os.replace(path, path.with_name(f"{path.name}.damaged"))
    _dump(path, version)
    return path


def is_better(version: ExpertVersion, library_frames: int) -> bool:
    """The merge rule: whether a run's version of an expert takes the place of the library's. Most total frames win."""
    return version.total_frames > library_frames


def library_frames(base_dir: Path, global_expert_idx: int, skill_name: str) -> int | None:
    """The total frames of an expert in the library, None if it is not there, or damaged."""
    try:
        data = pickles.load(ExperimentPaths(base_dir).expert_params(global_expert_idx, skill_name))
        return int(data["metadata"]["total_frames"])
    except (FileNotFoundError, pickles.ForeignPickle, KeyError, TypeError):
        return None


def write_global_latest(paths: ExperimentPaths, changed: Collection[int] | None = None) -> None:
    """Writes ``global_latest.pkl``: what the library holds, without any array.

    Only the experts with the indices ``changed`` (None: all), and those it does not know, are read for it: an expert is
    tens of megabytes, and a library has many.
    """
    known = {} if changed is None else _known_experts(paths)
    experts = {}
    for index, name in sorted(paths.library().items()):
        if str(index) in known and index not in changed:
            experts[str(index)] = known[str(index)]
        elif metadata := _metadata(paths.expert_params(index, name)):
            experts[str(index)] = metadata
    pickles.dump(paths.global_latest, {"format": "flowrl-library", "version": 1, "experts": experts})


def _metadata(params: Path) -> dict | None:
    """What an expert says of itself; a damaged one is none of the library's until it is replaced."""
    try:
        return pickles.load(params)["metadata"]
    except (FileNotFoundError, pickles.ForeignPickle, KeyError, TypeError):
        return None


def _known_experts(paths: ExperimentPaths) -> dict[str, dict]:
    try:
        return pickles.load(paths.global_latest)["experts"]
    except (FileNotFoundError, pickles.ForeignPickle, KeyError, TypeError):
        return {}


def sweep(paths: ExperimentPaths) -> None:
    """Removes what was left by whoever was killed: folders of a merge, half-written files. Hold both locks.

    Those of a run's folder are swept by its next attempt: a training may be writing there.
    """
    for folder in (*paths.training_runs.glob(".merged_*"), *paths.skills.glob(".new_*")):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (paths.skills, paths.checkpoints):
        sweep_files(folder)
    sweep_files(paths.root, deep=False)


def _from_here_or(base_dir: Path, run_folder: Path) -> Path:
    """A relative run folder is meant from the working folder, or else from the experiment's."""
    return run_folder if run_folder.exists() or run_folder.is_absolute() else base_dir / run_folder


def _versions(run: RunPaths, total_timesteps: int) -> Iterator[ExpertVersion]:
    """The run's experts, with their ages after it."""
    checkpoint_path = _checkpoint_path(run)
    checkpoint = _read_checkpoint(checkpoint_path)
    for start in run_record.read(run.run_json).experts:
        acted = _acted_frames(run, checkpoint, start, total_timesteps)
        try:
            params = checkpoint["experts"][str(start.local_expert_idx)]["params"]
        except KeyError:
            raise BadInput(
                f"{checkpoint_path} holds no expert {start.local_expert_idx} ({start.skill_name}), which run.json names; "
                "remove this checkpoint and start again: the run goes on from the one before"
            ) from None
        total = start.total_frames + total_timesteps
        yield ExpertVersion(
            start.skill_name, start.global_expert_idx, params, total, start.acted_frames + acted, acted > 0
        )


def _checkpoint_path(run: RunPaths) -> Path:
    """The checkpoint that the result names; without a result, the newest."""
    result = _result(run)
    if result and result.checkpoint:
        return run.folder / result.checkpoint
    if checkpoints := run.checkpoints():
        return checkpoints[-1]
    raise BadInput(f"{run.policies} holds no checkpoint; nothing was trained in this run, start it again")


def _result(run: RunPaths) -> RunResult | None:
    """The run's result, None where it left none. Raises BadInput where it is damaged."""
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


def set_aside(run: RunPaths, attempt: int) -> None:
    """The result of a run whose checkpoint is damaged, and that checkpoint: the run is not over, and goes on before them."""
    with contextlib.suppress(BadInput, FileNotFoundError, NotADirectoryError):
        damaged = _checkpoint_path(run)
        os.replace(damaged, damaged.with_name(f"{damaged.name}.damaged"))
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.replace(run.result, run.folder / f"result_{attempt}.json")
    (run.folder / MERGE).unlink(missing_ok=True)


def _acted_frames(run: RunPaths, checkpoint: dict, expert: RunExpert, total_timesteps: int) -> int:
    """Frames of this run in which the expert acted; all of them where nobody counted."""
    result = _result(run)
    if result and result.acted_frames is not None:
        return result.acted_frames.get(str(expert.global_expert_idx), 0)
    counted = (checkpoint.get("metadata") or {}).get("acted_frames")
    if counted is None:
        return total_timesteps
    return int({str(local): frames for local, frames in counted.items()}.get(str(expert.local_expert_idx), 0))


def _decide(paths: ExperimentPaths, run: RunPaths, versions: list[ExpertVersion]) -> dict:
    """What becomes of each expert; written into the run folder, so that a repeated merge reports the same."""
    attempt = run_record.read(run.run_json).attempt
    try:
        earlier = read_json(run.folder / MERGE)
        if earlier["attempt"] == attempt:
            return earlier
    except FileNotFoundError:
        pass
    updates = {str(version.global_expert_idx): _update(paths, version) for version in versions}
    decision = {"attempt": attempt, "skill_name": run.skill_name, "expert_updates": updates}
    write_json(run.folder / MERGE, decision)
    return decision


def _update(paths: ExperimentPaths, version: ExpertVersion) -> dict:
    present = library_frames(paths.root, version.global_expert_idx, version.skill_name)
    if present is None:
        return {"action": "new", "frames": version.total_frames}
    if version.acted and is_better(version, present):
        return {"action": "updated", "frames": version.total_frames}
    return {"action": "kept", "frames": present}


def _save_unless_older(paths: ExperimentPaths, version: ExpertVersion) -> None:
    """Asks again for the frames: since a killed merge decided, another may have brought a version trained longer."""
    present = library_frames(paths.root, version.global_expert_idx, version.skill_name)
    if present is None or is_better(version, present):
        save_expert_to_skills(version, paths.root)


def _archive(paths: ExperimentPaths, run: RunPaths, version: ExpertVersion, decision: dict) -> None:
    """The skill's folder in the library: appears complete where it is new, is brought up to date where it is not."""
    index, name = version.global_expert_idx, version.skill_name
    final = paths.skill_folder(index, name)
    action = decision["expert_updates"][str(index)]["action"]
    if final.exists():
        if action != "kept":
            _save_unless_older(paths, version)
        _keep_earlier_records(final, decision["attempt"])
        return _copy_records(run, final)
    staging = paths.skills / f".new_{final.name}"
    shutil.rmtree(staging, ignore_errors=True)
    params = staging / paths.expert_params(index, name).relative_to(final)
    _dump(params, version)
    _copy_records(run, staging)
    staging.rename(final)


def _keep_earlier_records(folder: Path, attempt: int) -> None:
    """Of a skill that was trained further, the records of the run before move to ``earlier/attempt_<n>/``; its result last."""
    before = run_result.find(folder / run_result.NAME)
    if before is None or before.attempt == attempt:
        return
    earlier = folder / "earlier" / f"attempt_{before.attempt}"
    earlier.mkdir(parents=True, exist_ok=True)
    for name in ("training.log", "metrics.jsonl", run_record.NAME, MERGE, run_result.NAME):
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder / name, earlier / name)


def _copy_records(run: RunPaths, folder: Path) -> None:
    for name in (run.module.name, *_ARCHIVED):
        if (run.folder / name).exists():
            _place(run.folder / name, folder / name)
    _keep_reports(run.folder / REPORTS, folder / REPORTS)


def _keep_reports(source: Path, target: Path) -> None:
    """Reports that were not sent yet, at the same place below the skill's folder. None that is there is replaced."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and not path.is_symlink():  # wandb's links only point to the newest of these
            folder = target / path.parent.relative_to(source)
            folder.mkdir(parents=True, exist_ok=True)
            kept = next(place for place in _places(folder / path.name) if _is_free_for(path, place))
            _place(path, kept)


def _places(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(2):
        yield path.with_stem(f"{path.stem}_{number}")


def _is_free_for(source: Path, place: Path) -> bool:
    return not place.exists() or filecmp.cmp(source, place, shallow=False)


def _place(source: Path, target: Path) -> None:
    """Gives a file of the run, which is about to be removed, a second name; copies it where there are no hard links."""
    second = target.with_name(f".{target.name}.tmp")
    second.unlink(missing_ok=True)
    try:
        os.link(source, second)
    except OSError:
        return write_whole(target, source.read_bytes())
    if target.exists() and target.samefile(second):
        return second.unlink()  # os.replace would leave both
    os.replace(second, target)


def _remove(paths: ExperimentPaths, run: RunPaths) -> None:
    """In one step out of sight, then away: half a run folder is never taken for a run."""
    gone = run.folder.with_name(f".merged_{run.folder.name}")
    shutil.rmtree(gone, ignore_errors=True)
    run.folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _reported(merged: Path, run: RunPaths) -> dict:
    """What an earlier merge of a run whose folder is gone has reported."""
    try:
        return _with_int_keys(read_json(merged))
    except FileNotFoundError:
        raise BadInput(
            f"there is no run to merge in {run.folder} (no run.json), and the library has no record of it; "
            "check the path, or train the skill again"
        ) from None


def _with_int_keys(decision: dict) -> dict:
    return {"expert_updates": {int(index): update for index, update in decision["expert_updates"].items()}}


def _dump(path: Path, version: ExpertVersion) -> None:
    metadata = {
        "skill_name": version.skill_name,
        "global_expert_idx": version.global_expert_idx,
        "total_frames": version.total_frames,
        "acted_frames": version.acted_frames,
    }
    pickles.dump(path, {"format": "flowrl-expert", "version": 1, "params": version.params, "metadata": metadata})
