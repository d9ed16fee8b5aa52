"""At startup, the state is compared once with the folder and with what the engine runs; then scheduling begins.

The files win. A run that the state lists as running is adopted if it is alive; if not, watching it finds out how it
ended. Skills and runs that the folders hold and the state does not know are added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Protocol

from flowrl.parallel.core import SchedulerCore
from flowrl.parallel.events import Action, Launch, Launched, Merge, RehearsalAdded, RunFound, RunStopped, SkillAdded
from flowrl.parallel.launchers.base import Handle
from flowrl.parallel.library.contents import (
    PreparedRehearsal,
    PreparedRun,
    library_entry,
    merged_rehearsals,
    prepared_rehearsals,
    prepared_runs,
    skills_in_library,
)
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.records import result as run_result
from flowrl.records.result import Outcome, RunResult
from flowrl.records.scheduler_state import FINAL, RehearsalEntry, SkillEntry, Stage, Status


class Records(Protocol):
    """What an experiment's folder records."""

    def completed(self) -> Mapping[str, int]:
        """The skills whose expert is in the library: name to global expert index."""

    def indices(self) -> Iterable[int]:
        """Every expert index that a folder of the library has."""

    def completed_entry(self, index: int, name: str) -> SkillEntry:
        """The state of a completed skill."""

    def has_run(self, index: int, name: str) -> bool:
        """Whether the run's folder exists: until it is gone, a merge is not finished."""

    def prepared(self) -> Iterable[PreparedRun]:
        """Every run folder that is complete."""

    def prepared_rehearsals(self) -> Iterable[PreparedRehearsal]:
        """Every folder of a rehearsal that is complete."""

    def merged_rehearsals(self) -> Iterable[RehearsalEntry]:
        """Every rehearsal that is part of the library."""

    def result(self, index: int | None, name: str, attempt: int) -> RunResult | None:
        """The result that this attempt left."""


class Folders(Protocol):
    """Finds runs and takes them over; see :class:`flowrl.parallel.runs.Runs`."""

    paths: ExperimentPaths

    def find(self) -> tuple[list[Handle], bool]:
        """The engine's runs of this experiment, and whether the engine answered."""

    def adopt(self, entry: SkillEntry, handle: Handle | None, engine_answers: bool) -> None:
        """Watches a run that an earlier scheduler has started."""

    def was_started(self, entry: SkillEntry) -> bool:
        """Whether the attempt left any trace."""

    def is_alive(self, handle: Handle) -> bool:
        """Whether the process that the engine started is alive."""

    def end(self, handle: Handle) -> None:
        """Ends a run whose result is no longer wanted."""


class FolderRecords:
    """The records of an experiment on disk."""

    def __init__(self, paths: ExperimentPaths):
        self._paths = paths

    def completed(self) -> Mapping[str, int]:
        return skills_in_library(self._paths)

    def indices(self) -> Iterable[int]:
        return self._paths.library()

    def completed_entry(self, index: int, name: str) -> SkillEntry:
        return library_entry(self._paths, index, name)

    def has_run(self, index: int, name: str) -> bool:
        return self._paths.run_folder(index, name).exists()

    def prepared(self) -> Iterable[PreparedRun]:
        return prepared_runs(self._paths)

    def prepared_rehearsals(self) -> Iterable[PreparedRehearsal]:
        return prepared_rehearsals(self._paths)

    def merged_rehearsals(self) -> Iterable[RehearsalEntry]:
        return merged_rehearsals(self._paths)

    def result(self, index: int | None, name: str, attempt: int) -> RunResult | None:
        return run_result.find(RunPaths(self._paths.run_folder(index, name)).result, attempt)


def reconcile(core: SchedulerCore, runs: Folders, records: Records, now: datetime) -> list[Action]:
    """Brings the core in line with the records and the engine; returns the actions still to carry out."""
    handles, engine_answers = runs.find()
    live = {handle.run_folder.name: handle for handle in sorted(handles, key=lambda handle: handle.attempt)}
    _take_in_library(core, records)
    prepared = sorted(records.prepared(), key=lambda found: found.run.expert_idx)
    _take_in_run_folders(core, prepared, now)
    indices = [*records.indices(), *(found.run.expert_idx for found in prepared)]
    core.state.next_expert_idx = max(core.state.next_expert_idx, max(indices, default=-1) + 1)
    _take_in_rehearsals(core, records, now)
    actions: list[Action] = []
    for entry in core.state.entries:
        handle = live.get(_folder(runs, entry).name) if _has_folder(entry) else None
        if entry.status is Status.WAITING:
            _take_up(core, runs, records, entry, handle, now)
        if entry.status is Status.RUNNING:
            actions += _go_on(core, runs, entry, _of_attempt(handle, entry), engine_answers, now)
        elif entry.status in FINAL and handle is not None and runs.is_alive(handle):
            runs.end(handle)  # after falling back to an older state: its result would not count
    return [action for action in actions if not _waits_for_a_slot(core, action, now)]


def _take_in_library(core: SchedulerCore, records: Records) -> None:
    """Skills of the library that the state does not know, or (after falling back to an older state) has as unfinished."""
    for name, index in records.completed().items():
        entry = core.entries.get(name)
        if entry is None:
            core.take_in(records.completed_entry(index, name))
        elif not entry.is_usable and not records.has_run(index, name):
            core.replace(records.completed_entry(index, name))


def _take_in_run_folders(core: SchedulerCore, prepared: Iterable[PreparedRun], now: datetime) -> None:
    """Skills that the state does not know, though a run of them was prepared: dependencies before dependents.

    After falling back to an older state, a known skill may have got its index, or another attempt, since then. So may
    one that was final in that state: its next attempt must not reuse a number.
    """
    for found in prepared:
        name = found.run.skill_name
        if name not in core.entries and all(dependency in core.entries for dependency in found.dependencies):
            core.handle(SkillAdded(name, found.skill_data, found.dependencies), now)
        entry = core.entries.get(name)
        if entry is None or entry.stage is Stage.MERGING:
            continue
        if entry.expert_idx is None:
            entry.expert_idx = found.run.expert_idx
        if entry.expert_idx == found.run.expert_idx:
            entry.attempt = max(entry.attempt, found.attempt)


def _take_in_rehearsals(core: SchedulerCore, records: Records, now: datetime) -> None:
    """Rehearsals that the state does not know, or (after falling back to an older state) has as unfinished."""
    for merged in records.merged_rehearsals():
        entry = core.entries.get(merged.skill_name)
        if entry is None:
            core.take_in_rehearsal(merged)
        elif not entry.is_usable:
            core.replace(merged)
    for found in records.prepared_rehearsals():
        name = found.run.skill_name
        if name not in core.entries:
            core.handle(RehearsalAdded(name, found.request), now)
        entry = core.entries[name]
        if entry.stage is not Stage.MERGING:
            entry.attempt = max(entry.attempt, found.attempt)


def _take_up(
    core: SchedulerCore, runs: Folders, records: Records, entry: SkillEntry, handle: Handle | None, now: datetime
) -> None:
    """A waiting skill that has a live run, or a result that was not read yet."""
    if handle is not None and runs.is_alive(handle):
        core.handle(RunFound(entry.skill_name, handle.attempt, entry.expert_idx, handle.name), now)
    elif _has_folder(entry) and entry.attempt and entry.stage is not Stage.MERGING:
        result = records.result(entry.expert_idx, entry.skill_name, entry.attempt)
        if result and result.outcome is Outcome.COMPLETED:  # a cancelled one may wait because the user wants to retry it
            core.handle(RunFound(entry.skill_name, entry.attempt, entry.expert_idx, None), now)


def _go_on(
    core: SchedulerCore, runs: Folders, entry: SkillEntry, handle: Handle | None, engine_answers: bool, now: datetime
) -> list[Action]:
    """A skill that the state lists as running."""
    if entry.stage is Stage.MERGING:
        return [Merge(entry.skill_name, entry.attempt)]
    if entry.stage is Stage.LAUNCHING and handle is None and engine_answers and not runs.was_started(entry):
        return [Launch(entry.skill_name, entry.attempt)]
    runs.adopt(entry, handle, engine_answers)
    folder = str(_folder(runs, entry).relative_to(runs.paths.root))
    session = handle.name if handle else entry.tmux_session or ""
    return core.handle(Launched(entry.skill_name, entry.attempt, session, folder), now)


def _waits_for_a_slot(core: SchedulerCore, action: Action, now: datetime) -> bool:
    """A launch that was saved but never carried out waits again if other runs fill all the slots."""
    if not isinstance(action, Launch) or len(core.state.currently_running) <= core.state.max_parallel:
        return False
    core.handle(RunStopped(action.name, action.attempt), now)
    return True


def _has_folder(entry: SkillEntry) -> bool:
    """Whether the folder of its run has a name yet: a skill's has its expert's index in it."""
    return entry.is_rehearsal or entry.expert_idx is not None


def _folder(runs: Folders, entry: SkillEntry):
    return runs.paths.run_folder(entry.expert_idx, entry.skill_name)


def _of_attempt(handle: Handle | None, entry: SkillEntry) -> Handle | None:
    return handle if handle is not None and handle.attempt == entry.attempt else None
