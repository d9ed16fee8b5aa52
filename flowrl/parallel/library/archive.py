"""A skill's folder in the library: its expert, and the records of the run that trained it.

Hold the merge lock for all of this.
"""

from __future__ import annotations

import contextlib
import filecmp
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from flowrl.files import sweep_files, write_whole
from flowrl.parallel.library.experts import ExpertVersion, write_expert
from flowrl.paths import CANDIDATES, EXPERIENCE, MERGE, MOMENTS, SKILL_DATA, WANDB_RUN, ExperimentPaths, RunPaths
from flowrl.records import result as run_result
from flowrl.records import run_record

REPORTS = "wandb"
EARLIER = "earlier"
"""With a skill that was trained further: the records of the runs before."""
_RECORDS = (
    "training.log",
    "metrics.jsonl",
    run_record.NAME,
    run_result.NAME,
    SKILL_DATA,
    CANDIDATES,
    MERGE,
    MOMENTS,
    WANDB_RUN,
)
_RECORDS_OF_ONE_RUN = ("training.log", "metrics.jsonl", run_record.NAME, MERGE, run_result.NAME)
"""What makes way for the next run's records; the result last, as it tells which run the others belong to."""


def archive_run(paths: ExperimentPaths, run: RunPaths, version: ExpertVersion, attempt: int) -> None:
    """Archives the run's own skill and its records in the library. A new skill's folder appears complete; safe to repeat.

    Args:
        version: the expert of the run's own skill; saved only with a new folder.
    """
    final = paths.skill_folder(version.global_expert_idx, version.skill_name)
    if not final.exists():
        return _archive_new(paths, run, version, final)
    _keep_earlier_records(final, attempt)
    _copy_records(run, final, (run.module.name, *_RECORDS))


def archive_rehearsal(run: RunPaths, folder: Path) -> None:
    """Keeps the records of a rehearsal; safe to repeat."""
    folder.mkdir(parents=True, exist_ok=True)
    _copy_records(run, folder, (EXPERIENCE, *_RECORDS))


def remove_run(run: RunPaths) -> None:
    """Removes a merged run's folder. Renamed first: half a run folder is never taken for a run."""
    gone = run.folder.with_name(f".merged_{run.folder.name}")
    shutil.rmtree(gone, ignore_errors=True)
    run.folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def sweep(paths: ExperimentPaths) -> None:
    """Removes what killed processes left: folders of a merge, half-written files. Hold the scheduler's lock as well.

    Run folders are swept by their next attempt: a training may be writing there.
    """
    for folder in (*paths.training_runs.glob(".merged_*"), *paths.skills.glob(".new_*")):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (paths.skills, paths.checkpoints):
        sweep_files(folder)
    sweep_files(paths.root, deep=False)


def _archive_new(paths: ExperimentPaths, run: RunPaths, version: ExpertVersion, final: Path) -> None:
    staging = paths.skills / f".new_{final.name}"
    shutil.rmtree(staging, ignore_errors=True)
    params = paths.expert_params(version.global_expert_idx, version.skill_name)
    write_expert(staging / params.relative_to(final), version)
    _copy_records(run, staging, (run.module.name, *_RECORDS))
    staging.rename(final)


def _keep_earlier_records(folder: Path, attempt: int) -> None:
    """Moves the previous run's records of a skill that was trained further to ``earlier/attempt_<n>/``."""
    before = run_result.find(folder / run_result.NAME)
    if before is None or before.attempt == attempt:
        return
    earlier = folder / EARLIER / f"attempt_{before.attempt}"
    earlier.mkdir(parents=True, exist_ok=True)
    for name in _RECORDS_OF_ONE_RUN:
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder / name, earlier / name)


def _copy_records(run: RunPaths, folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if (run.folder / name).exists():
            _link_or_copy(run.folder / name, folder / name)
    _keep_reports(run.folder / REPORTS, folder / REPORTS)


def _keep_reports(source: Path, target: Path) -> None:
    """Keeps reports that were not sent yet, at the same path below the skill's folder. Never replaces one that is there."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and not path.is_symlink():  # wandb's links only point to the newest of these
            folder = target / path.parent.relative_to(source)
            folder.mkdir(parents=True, exist_ok=True)
            kept = next(place for place in _numbered(folder / path.name) if _is_free_for(path, place))
            _link_or_copy(path, kept)


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(2):
        yield path.with_stem(f"{path.stem}_{number}")


def _is_free_for(source: Path, place: Path) -> bool:
    return not place.exists() or filecmp.cmp(source, place, shallow=False)


def _link_or_copy(source: Path, target: Path) -> None:
    """Hard-links a file of the run, which is about to be removed; copies it where there are no hard links."""
    second = target.with_name(f".{target.name}.tmp")
    second.unlink(missing_ok=True)
    try:
        os.link(source, second)
    except OSError:
        return write_whole(target, source.read_bytes())
    if target.exists() and target.samefile(second):
        return second.unlink()  # os.replace would leave both
    os.replace(second, target)
