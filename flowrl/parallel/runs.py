"""The runs of one experiment: started, watched, ended, merged, and found again.

Nothing here decides what to train. Each action returns the event that tells the core its outcome; a failure is an event
too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flowrl.errors import BadInput, FlowrlError
from flowrl.files import why_no_room
from flowrl.parallel import environment
from flowrl.parallel.events import Launched, LaunchFailed, Merged, MergeFailed, RunDied, RunEnded, RunStopped
from flowrl.parallel.launchers.base import (
    NOT_ASKED,
    UNDER_WAY,
    EngineStatus,
    EngineUnreachable,
    Handle,
    Launcher,
    LaunchSpec,
)
from flowrl.parallel.merges import Merges
from flowrl.parallel.no_room import no_room
from flowrl.parallel.rehearsal_setup import prepare_rehearsal
from flowrl.parallel.skill_budget import NO_LIMIT
from flowrl.parallel.slots import driver_environment
from flowrl.parallel.training_setup import prepare_training_run, write_launch
from flowrl.parallel.watched_run import LEFTOVER_GRACE_S, STOP_GRACE_S, WatchedRun
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.records import liveness
from flowrl.records.rehearsal_settings import RehearsalRequest
from flowrl.records.run_record import Slot
from flowrl.records.scheduler_state import SkillEntry

KEEPER = (sys.executable, "-m", "flowrl.parallel.keeper")
TRAINING_COMMAND = (sys.executable, "-m", "flowrl.training")
REHEARSAL_COMMAND = (sys.executable, "-m", "flowrl.rehearsal")


class Runs:
    """Carries out the scheduler's actions; see :class:`flowrl.parallel.dispatcher.Hands`.

    ``prepare`` makes a run's folder; see :func:`prepare_training_run`. ``slots``: the parts of the machine, one for
    each run at a time. ``budget``: the frames that a skill may train.

    Args:
        command: what is started with the run folder as its last argument.
        stall_timeout_s: seconds without a heartbeat after which a run counts as hanging; 0: ten times its usual update.
        merges: makes the merges.
        show_failed_s: seconds for which people can look at the session of a run that has failed.
    """

    def __init__(
        self,
        paths: ExperimentPaths,
        launcher: Launcher,
        command: Sequence[str] = TRAINING_COMMAND,
        stall_timeout_s: float = 0.0,
        merges: Merges | None = None,
        show_failed_s: float = 0.0,
    ):
        self.paths = paths
        self.launcher = launcher
        self.command = tuple(command)
        self.rehearsal_command = REHEARSAL_COMMAND
        self.stall_timeout_s, self.show_failed_s = stall_timeout_s, show_failed_s
        self.slots = [Slot()]
        self.budget = NO_LIMIT
        self.prepare: Callable = prepare_training_run
        self.merges = merges or Merges(paths)
        self._watched: dict[str, WatchedRun] = {}
        self._executor = ThreadPoolExecutor(thread_name_prefix="flowrl-end")

    def launch(self, entry: SkillEntry, completed_skills: Mapping[str, dict]) -> Launched | LaunchFailed:
        """Prepares and starts the attempt that ``entry`` names."""
        name, attempt = entry.skill_name, entry.attempt
        try:
            run, slot = self._prepared(entry, completed_skills), self._slot(entry)
            write_launch(run.folder, attempt, slot, entry.num_envs)
            environment.write_run_environment(run.environment, environment.for_training() | driver_environment(slot))
            handle = self.launcher.launch(self._spec(entry, run))
        except Exception as error:  # any other failure to start a run concerns this skill alone
            if why := why_no_room(error):
                raise no_room(self.paths.root, why) from error
            message = str(error) if isinstance(error, FlowrlError) else f"{type(error).__name__}: {error}"
            return LaunchFailed(name, attempt, f"{name} could not be started: {message}", isinstance(error, BadInput))
        self._watch_for(entry, handle)
        return Launched(name, attempt, handle.name, str(run.folder.relative_to(self.paths.root)))

    def adopt(self, entry: SkillEntry, handle: Handle | None, engine_answers: bool) -> None:
        """Watches a run that an earlier scheduler has started; without a handle, by its files alone."""
        handle = handle or self._handle_from_files(entry)
        is_asked = engine_answers and not handle.engine_id
        engine = self.launcher.poll([handle])[handle.engine_id] if is_asked else NOT_ASKED
        self._watch_for(entry, handle, engine)

    def watch(self, entries: Sequence[SkillEntry]) -> list[RunEnded | RunDied | RunStopped]:
        """The ends of those training runs that have ended, from files and processes: a fraction of a millisecond each."""
        events = []
        for name in (entry.skill_name for entry in entries if entry.skill_name in self._watched):
            if event := self._watched[name].look():
                del self._watched[name]
                events.append(event)
        return events

    def ask_engine(self) -> None:
        """Lists the engine's runs once, for those runs that nothing else tells about."""
        self._find_again()
        known = [watched for watched in self._watched.values() if watched.handle.engine_id]
        statuses = self.launcher.poll([watched.handle for watched in known])
        for watched in known:
            if status := statuses.get(watched.handle.engine_id):
                watched.hear(status)

    def _find_again(self) -> None:
        """Looks for runs that were taken over while the engine was silent."""
        lost = [watched for watched in self._watched.values() if not watched.handle.engine_id]
        handles, answers = self.find() if lost else ([], False)
        found = {(handle.run_folder, handle.attempt): handle for handle in handles}
        for watched in lost if answers else ():
            handle = watched.handle
            if known := found.get((handle.run_folder, handle.attempt)):
                watched.handle = known
            else:
                watched.hear(self.launcher.poll([handle])[handle.engine_id])

    def stop(self, entries: Sequence[SkillEntry]) -> list[RunStopped | RunEnded | RunDied]:
        """Ends runs, all at once. One that had just finished is reported as finished."""
        stopped = [self._watched.pop(entry.skill_name) for entry in entries if entry.skill_name in self._watched]
        with ThreadPoolExecutor(max_workers=max(1, len(stopped))) as pool:
            list(pool.map(WatchedRun.stop, stopped))
        return [watched.after_stop() for watched in stopped]

    def merge(self, entry: SkillEntry) -> None:
        """Starts to merge the finished run of ``entry``; returns at once."""
        self.merges.begin(entry)

    def merged(self, wait_s: float = 0.0) -> Iterable[Merged | MergeFailed]:
        """See :meth:`Merges.ended`."""
        return self.merges.ended(wait_s)

    def is_merging(self) -> bool:
        """Whether a merge was started that ``merged`` has not reported yet."""
        return self.merges.are_under_way()

    def hurry(self) -> None:
        """See :meth:`Merges.hurry`."""
        self.merges.hurry()

    def close(self) -> None:
        """Returns once no merge is under way."""
        self.merges.close()

    def find(self) -> tuple[list[Handle], bool]:
        """The engine's runs of this experiment, and whether the engine answered."""
        try:
            return self.launcher.find(self.paths.root.resolve()), True
        except EngineUnreachable:
            return [], False

    def is_alive(self, handle: Handle) -> bool:
        """Whether a run is known to be alive, or to wait in the engine's queue."""
        alive = self.launcher.is_alive(handle)
        if alive is None and handle.engine_id:
            return self.launcher.poll([handle])[handle.engine_id].phase in UNDER_WAY
        return bool(alive)

    def end(self, handle: Handle) -> None:
        """Ends a run whose result is no longer wanted."""
        self.launcher.cancel(handle, STOP_GRACE_S)

    def run_paths(self, entry: SkillEntry) -> RunPaths:
        return RunPaths(self.paths.run_folder(entry.expert_idx, entry.skill_name))

    def was_started(self, entry: SkillEntry) -> bool:
        """Whether the attempt left any trace: its process took the lock, here or elsewhere, or one of its processes is
        alive."""
        holder = liveness.find_holder(self.run_paths(entry).pid)
        has_held = holder is not None and holder.attempt == entry.attempt
        return has_held or self.is_alive(self._handle_from_files(entry))

    def attach_command(self, entry: SkillEntry) -> list[str]:
        """What a user types to look at the run of ``entry``."""
        return self.launcher.attach_command(self._handle_from_files(entry))

    def _watch_for(self, entry: SkillEntry, handle: Handle, engine: EngineStatus = NOT_ASKED) -> None:
        run, limits = self.run_paths(entry), (self.stall_timeout_s, engine, self.show_failed_s)
        self._watched[entry.skill_name] = WatchedRun(entry.skill_name, run, handle, self.launcher, self._executor, *limits)

    def _handle_from_files(self, entry: SkillEntry) -> Handle:
        """What is known of an attempt without the engine."""
        run = self.run_paths(entry)
        process = liveness.find_process(run.pid, entry.attempt)
        return Handle("", entry.tmux_session or "", self._absolute(run.folder), entry.attempt, process)

    def _prepared(self, entry: SkillEntry, completed_skills: Mapping[str, dict]) -> RunPaths:
        if _is_held_here(run := self.run_paths(entry)):
            self._end_leftover(run)  # before its folder is changed
        if entry.is_rehearsal:
            return prepare_rehearsal(entry.skill_name, RehearsalRequest.of(entry.skill_data), self.paths.root)
        return self._prepared_skill(entry, completed_skills)

    def _prepared_skill(self, entry: SkillEntry, completed_skills: Mapping[str, dict]) -> RunPaths:
        settings = self.budget.settings(self.paths, entry)
        folder, _, _ = self.prepare(
            skill_name=entry.skill_name,
            skill_data=entry.skill_data or {},
            global_expert_idx=entry.expert_idx,
            dependency_skill_names=list(entry.dependencies),
            completed_skills=completed_skills,
            base_dir=self.paths.root,
            **({"settings": settings} if settings else {}),
        )
        return RunPaths(Path(folder))

    def _end_leftover(self, run: RunPaths) -> None:
        """Ends an older attempt of ours that should have ended. Leaves alone a process that is not in the run's own
        records."""
        holder = liveness.find_holder(run.pid)
        if holder:
            leftover = Handle("", "", self._absolute(run.folder), holder.attempt, holder.process)
            self.launcher.cancel(leftover, LEFTOVER_GRACE_S)
        if _is_held_here(run):
            raise FlowrlError(
                f"{run.lock} is held by another process (see {run.pid}); end that process, and the run is tried again"
            )

    def _spec(self, entry: SkillEntry, run: RunPaths) -> LaunchSpec:
        run = RunPaths(self._absolute(run.folder))
        return _spec(self.paths.root.resolve(), run, entry.attempt, self._command(entry))

    def _command(self, entry: SkillEntry) -> Sequence[str]:
        return self.rehearsal_command if entry.is_rehearsal else self.command

    def _slot(self, entry: SkillEntry) -> Slot:
        return self.slots[(entry.slot or 0) % len(self.slots)]

    def _absolute(self, folder: Path) -> Path:
        return self.paths.root.resolve() / folder.relative_to(self.paths.root)


def first_spec(root: Path, skill_name: str) -> LaunchSpec:
    """What the first attempt at an experiment's first skill will be."""
    paths = ExperimentPaths(root.resolve())
    return _spec(paths.root, RunPaths(paths.run_folder(0, skill_name)), 1, TRAINING_COMMAND)


def _spec(experiment: Path, run: RunPaths, attempt: int, command: Sequence[str]) -> LaunchSpec:
    return LaunchSpec(
        experiment=experiment,
        run_folder=run.folder,
        skill_name=run.skill_name,
        expert_idx=run.expert_idx,
        attempt=attempt,
        argv=(*KEEPER, str(run.folder), str(attempt), "--", *command, str(run.folder)),
        working_folder=Path.cwd(),
        environment=environment.to_start(),
    )


def _is_held_here(run: RunPaths) -> bool:
    """Whether a process of this host holds the run's lock. What one of another host seems to hold means nothing: it may be
    gone, and if it is not, it ends at its fence once the next attempt has begun."""
    holder = liveness.find_holder(run.pid)
    return (holder is None or holder.is_local) and liveness.is_held(run.lock)
