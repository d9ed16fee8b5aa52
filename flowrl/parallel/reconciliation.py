"""At a start, once: the state against the folder and against what the engine runs. Then scheduling begins.

The files win. What the state believes to be running is adopted if it lives, and left to the watching of runs if it
does not; what the state knows nothing of, but the folders hold, is taken up again.
"""

from __future__ import annotations

from datetime import datetime

from flowrl.parallel.core import SchedulerCore
from flowrl.parallel.events import Action, Launch, Launched, Merge, RunFound, SkillAdded
from flowrl.parallel.evidence import read_result
from flowrl.parallel.launchers.base import Handle
from flowrl.parallel.library import library_entry, prepared_runs, skills_in_library
from flowrl.parallel.runs import Runs
from flowrl.parallel.state import SkillEntry, Stage, Status
from flowrl.paths import ExperimentPaths


def reconcile(core: SchedulerCore, runs: Runs, paths: ExperimentPaths, now: datetime) -> list[Action]:
    """Brings the core in line with what is there; returns what remains to be done about it."""
    handles, engine_answers = runs.find()
    live = {handle.run_folder.name: handle for handle in sorted(handles, key=lambda handle: handle.attempt)}
    _take_in_library(core, paths)
    _take_in_run_folders(core, paths, now)
    core.state.next_expert_idx = max(core.state.next_expert_idx, _first_free_index(paths))
    actions: list[Action] = []
    for entry in list(core.state.skills):
        handle = None if entry.expert_idx is None else live.get(runs.run_paths(entry).folder.name)
        if entry.status is Status.WAITING:
            _take_up(core, runs, entry, handle, now)
        if entry.status is Status.RUNNING:
            actions += _go_on(core, runs, entry, _of_attempt(handle, entry), engine_answers, now)
    return actions


def _take_in_library(core: SchedulerCore, paths: ExperimentPaths) -> None:
    """Skills of the library that the state does not know, or (after a fall back to an older state) believes undone."""
    for name, index in skills_in_library(paths).items():
        entry = core.entries.get(name)
        if entry is None:
            core.take_in(library_entry(paths, index, name))
        elif entry.status is not Status.COMPLETED and not paths.run_folder(index, name).exists():
            core.replace(library_entry(paths, index, name))


def _take_in_run_folders(core: SchedulerCore, paths: ExperimentPaths, now: datetime) -> None:
    """Skills that the state does not know, though a run of them was prepared: dependencies before dependents."""
    for found in sorted(prepared_runs(paths), key=lambda found: found.run.expert_idx):
        name = found.run.skill_name
        if name not in core.entries and all(dependency in core.entries for dependency in found.dependencies):
            core.handle(SkillAdded(name, found.skill_data, found.dependencies), now)
            core.entries[name].expert_idx, core.entries[name].attempt = found.run.expert_idx, found.attempt


def _first_free_index(paths: ExperimentPaths) -> int:
    runs = (found.run.expert_idx for found in prepared_runs(paths))
    return max([*paths.library(), *runs], default=-1) + 1


def _take_up(core: SchedulerCore, runs: Runs, entry: SkillEntry, handle: Handle | None, now: datetime) -> None:
    """A skill that waits, though a run of it lives, or left a result that nobody has read."""
    if handle is not None and handle.process is not None and handle.process.is_alive():
        core.handle(RunFound(entry.skill_name, handle.attempt, entry.expert_idx, handle.name), now)
    elif entry.expert_idx is not None and entry.attempt and entry.stage is not Stage.MERGING:
        result = read_result(runs.run_paths(entry), entry.attempt)
        if result and result["outcome"] == "completed":
            core.handle(RunFound(entry.skill_name, entry.attempt, entry.expert_idx, None), now)


def _go_on(
    core: SchedulerCore, runs: Runs, entry: SkillEntry, handle: Handle | None, engine_answers: bool, now: datetime
) -> list[Action]:
    """A skill that is running, as far as the state knows."""
    if entry.stage is Stage.MERGING:
        return [Merge(entry.skill_name, entry.attempt)]
    if entry.stage is Stage.LAUNCHING and handle is None and engine_answers and not runs.was_started(entry):
        return [Launch(entry.skill_name, entry.attempt)]
    runs.adopt(entry, handle, engine_answers)
    folder = str(runs.run_paths(entry).folder.relative_to(runs.paths.root))
    session = handle.name if handle else entry.tmux_session or ""
    return core.handle(Launched(entry.skill_name, entry.attempt, session, folder), now)


def _of_attempt(handle: Handle | None, entry: SkillEntry) -> Handle | None:
    return handle if handle is not None and handle.attempt == entry.attempt else None
