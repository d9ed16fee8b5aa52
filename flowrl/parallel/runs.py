"""The scheduler's hands: starts runs, watches them, ends them, has them merged, and finds them again.

Nothing here decides what is to be trained. Each deed is answered by the event that tells the core what came of it;
a failure is an event too.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from flowrl.errors import BadInput, FlowrlError, NoRoom
from flowrl.files import why_no_room
from flowrl.parallel import environment
from flowrl.parallel.events import (
    Launched,
    LaunchFailed,
    Merged,
    MergeFailed,
    RunDied,
    RunEnded,
    RunStopped,
)
from flowrl.parallel.evidence import RunState, Sighting, judge, look
from flowrl.parallel.heartbeats import Pulse
from flowrl.parallel.launchers.base import (
    EngineStatus,
    EngineUnreachable,
    Handle,
    Launcher,
    LaunchSpec,
    Phase,
    cookie,
)
from flowrl.parallel.library.locks import WaitGivenUp, waiting_unless
from flowrl.parallel.processes import end_tree, with_cookie
from flowrl.parallel.slots import driver_environment
from flowrl.parallel.state import SkillEntry
from flowrl.parallel.trained_experts import DamagedCheckpoint, set_damaged_aside
from flowrl.parallel.training_processor import process_completed_training
from flowrl.parallel.training_setup import prepare_training_run, write_launch
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.records import ending, heartbeat, liveness, run_record
from flowrl.records import result as run_result
from flowrl.records.ending import Ending
from flowrl.records.result import OUT_OF_MEMORY, RunResult
from flowrl.records.run_record import Slot

ENDING_GRACE_S = 10.0
STOP_GRACE_S = 10.0
ORPHAN_GRACE_S = 30.0
"""Seconds that a training without its session has for the update that it is in, and for its checkpoint."""
LEFTOVER_GRACE_S = 2.0
KEEPER = (sys.executable, "-m", "flowrl.parallel.keeper")
TRAINING_COMMAND = (sys.executable, "-m", "flowrl.training")
_SHOWN_LINES = 8
_SHOWN_CHARACTERS = 1500


@dataclass
class Watched:
    """A run under way. ``ending_since_s`` is set while only remains of it live. Times are monotonic.

    ``end`` and ``why`` are set once we are ending it ourselves: whether nothing of it is left, and for what reason.
    """

    handle: Handle
    engine: EngineStatus = EngineStatus(Phase.UNKNOWN)
    launched_s: float = field(default_factory=time.monotonic)
    ending_since_s: float | None = None
    pulse: Pulse = field(default_factory=Pulse)
    end: Future[bool] | None = None
    why: str = ""


class Runs:
    """The runs of one experiment.

    Args:
        command: what is started with the run folder as its last argument.
        stall_timeout_s: seconds without a heartbeat after which a run counts as hanging; 0: ten times its usual update.
        wake: called, from another thread, as soon as a merge has ended.
    """

    def __init__(
        self,
        paths: ExperimentPaths,
        launcher: Launcher,
        command: Sequence[str] = TRAINING_COMMAND,
        stall_timeout_s: float = 0.0,
        wake: Callable[[], None] = lambda: None,
    ):
        self.slots = [Slot()]
        self.stall_timeout_s = stall_timeout_s
        self.paths = paths
        self.launcher = launcher
        self.command = tuple(command)
        self.prepare: Callable = prepare_training_run
        self.process: Callable = process_completed_training
        self._watched: dict[str, Watched] = {}
        self._ends = ThreadPoolExecutor(thread_name_prefix="flowrl-end")
        self._wake = wake
        self._merges = ThreadPoolExecutor(max_workers=1, thread_name_prefix="flowrl-merge")  # they hold a lock anyway
        self._merging: deque[Future[Merged | MergeFailed | None]] = deque()
        self._impatient = threading.Event()

    def launch(self, entry: SkillEntry, completed_skills: Mapping[str, dict]) -> Launched | LaunchFailed:
        """Prepares and starts the attempt that ``entry`` names."""
        name, attempt = entry.skill_name, entry.attempt
        try:
            run, slot = self._prepared(entry, completed_skills), self._slot(entry)
            write_launch(run.folder, attempt, slot, entry.num_envs)
            environment.write_run_environment(run.environment, environment.steering() | driver_environment(slot))
            handle = self.launcher.launch(self._spec(entry, run))
        except Exception as error:  # whatever else keeps a run from starting concerns this skill alone
            self._raise_if_no_room(error)
            message = str(error) if isinstance(error, FlowrlError) else f"{type(error).__name__}: {error}"
            return LaunchFailed(name, attempt, f"{name} could not be started: {message}", isinstance(error, BadInput))
        self._watched[name] = Watched(handle)
        return Launched(name, attempt, handle.name, self._relative(run.folder))

    def adopt(self, entry: SkillEntry, handle: Handle | None, engine_answers: bool) -> None:
        """Watches a run that an earlier scheduler has started; without a handle, by its files alone."""
        run = self.run_paths(entry)
        handle = handle or Handle(
            "", entry.tmux_session or "", self._absolute(run.folder), entry.attempt, liveness.find_process(run.pid, entry.attempt)
        )
        known = handle.engine_id or not engine_answers
        status = EngineStatus(Phase.UNKNOWN) if known else self.launcher.poll([handle])[handle.engine_id]
        self._watched[entry.skill_name] = Watched(handle, status)

    def watch(self, entries: Sequence[SkillEntry]) -> list[RunEnded | RunDied]:
        """What has become of these training runs, from their files and processes: a fraction of a millisecond each."""
        events = (self._look_at(entry) for entry in entries if entry.skill_name in self._watched)
        return [event for event in events if event is not None]

    def ask_engine(self) -> None:
        """One listing of the engine, for the runs of which nothing else tells anything."""
        handles = [watched.handle for watched in self._watched.values() if watched.handle.engine_id]
        statuses = self.launcher.poll(handles)
        for watched in self._watched.values():
            watched.engine = statuses.get(watched.handle.engine_id, watched.engine)

    def stop(self, entries: Sequence[SkillEntry]) -> list[RunStopped | RunEnded | RunDied]:
        """Ends runs, all at once. One that had just finished is reported as finished."""
        watched = [entry for entry in entries if entry.skill_name in self._watched]
        with ThreadPoolExecutor(max_workers=max(1, len(watched))) as pool:
            list(pool.map(lambda e: self.launcher.cancel(self._watched[e.skill_name].handle, STOP_GRACE_S), watched))
        return [self._stopped(entry) for entry in watched]

    def merge(self, entry: SkillEntry) -> None:
        """Begins to merge the finished run of ``entry`` into the library, in a thread of its own: ``merged`` tells the end.

        It may wait for whoever else holds the library, and what trains is watched meanwhile.
        """
        merge = self._merges.submit(self._merge, entry.model_copy())  # so that no two threads have the same entry
        self._merging.append(merge)
        merge.add_done_callback(lambda ended: self._wake())

    def merged(self, wait_s: float = 0.0) -> Iterator[Merged | MergeFailed]:
        """What has come of merges since, in the order in which they were begun; waits up to ``wait_s`` for the first.

        Raises:
            NoRoom: nothing more can be written in the library.
        """
        if wait_s and self._merging:
            wait([self._merging[0]], wait_s)
        while self._merging and self._merging[0].done():
            if report := self._merging.popleft().result():
                yield report

    def is_merging(self) -> bool:
        """Whether some merge was begun, and its end was not told yet."""
        return bool(self._merging)

    def hurry(self) -> None:
        """From now on, a merge that would have to wait for the library is not made; nothing is told of it.

        One that has the library is made to its end.
        """
        self._impatient.set()

    def close(self) -> None:
        """Returns once nothing is being merged any more. A merge that was not made is made at the next start."""
        self.hurry()
        for merge in self._merging:
            merge.cancel()
        wait(self._merging)
        self._merging.clear()
        self._impatient.clear()

    def _merge(self, entry: SkillEntry) -> Merged | MergeFailed | None:
        name, attempt, run = entry.skill_name, entry.attempt, self.run_paths(entry)
        if run.run_json.exists() and run_result.find(run.result, attempt) is None:
            return MergeFailed(name, attempt, f"{name} has to be trained on: {run.result} is not that of attempt {attempt}", True)
        try:
            with waiting_unless(self._impatient.is_set):
                self.process(
                    run_folder=run.folder,
                    skill_name=name,
                    global_expert_idx=entry.expert_idx,
                    base_dir=self.paths.root,
                    total_timesteps=entry.frames or 0,
                )
        except WaitGivenUp:
            return None
        except DamagedCheckpoint as error:
            set_damaged_aside(run, attempt)
            return MergeFailed(name, attempt, f"{name} has to be trained on from an earlier checkpoint: {error}", True)
        except Exception as error:  # the run's files stay, so that it can be tried again
            self._raise_if_no_room(error)
            message = str(error) if isinstance(error, FlowrlError) else f"{type(error).__name__}: {error}"
            return MergeFailed(name, attempt, f"{name} was trained, but not merged: {message}")
        return Merged(name, attempt)

    def find(self) -> tuple[list[Handle], bool]:
        """The engine's runs of this experiment, and whether the engine answered."""
        try:
            return self.launcher.find(self.paths.root.resolve()), True
        except EngineUnreachable:
            return [], False

    def is_alive(self, handle: Handle) -> bool:
        """Whether the process that the engine started lives."""
        return handle.process is not None and handle.process.is_alive()

    def end(self, handle: Handle) -> None:
        """Ends a run that nobody waits for."""
        self.launcher.cancel(handle, STOP_GRACE_S)

    def run_paths(self, entry: SkillEntry) -> RunPaths:
        return RunPaths(self.paths.run_folder(entry.expert_idx, entry.skill_name))

    def was_started(self, entry: SkillEntry) -> bool:
        """Whether the attempt left any trace: its process took the lock, or something of it lives."""
        run = self.run_paths(entry)
        mark = cookie(self._absolute(run.folder), entry.attempt)
        return liveness.find_process(run.pid, entry.attempt) is not None or bool(with_cookie(mark))

    def attach_commands(self) -> dict[str, list[str]]:
        """How to look at each run under way."""
        return {name: self.launcher.attach_command(watched.handle) for name, watched in self._watched.items()}

    def _prepared(self, entry: SkillEntry, completed_skills: Mapping[str, dict]) -> RunPaths:
        extra = entry.extra_timesteps
        further = {} if extra is None else {"settings": {"total_timesteps": extra, "stop_at_goal": False}}
        folder, _, _ = self.prepare(
            skill_name=entry.skill_name,
            skill_data=entry.skill_data or {},
            global_expert_idx=entry.expert_idx,
            dependency_skill_names=list(entry.dependencies),
            completed_skills=completed_skills,
            base_dir=self.paths.root,
            **further,
        )
        run = RunPaths(Path(folder))
        if liveness.is_held(run.lock):
            self._end_leftover(run)
        return run

    def _end_leftover(self, run: RunPaths) -> None:
        """An older attempt of ours that outlived its end. A process that is not in the run's own records is let be."""
        if holder := liveness.find_holder(run.pid):
            end_tree([holder.process], cookie(self._absolute(run.folder), holder.attempt), LEFTOVER_GRACE_S)
        if liveness.is_held(run.lock):
            raise FlowrlError(f"{run.lock} is held by another process (see {run.pid}); end it, then it is tried again")

    def _raise_if_no_room(self, error: Exception) -> None:
        """A full disk is no fault of a skill, and costs it no retry."""
        if why := why_no_room(error):
            raise no_room(self.paths.root, why) from error

    def _spec(self, entry: SkillEntry, run: RunPaths) -> LaunchSpec:
        folder = self._absolute(run.folder)
        return LaunchSpec(
            experiment=self.paths.root.resolve(),
            run_folder=folder,
            skill_name=entry.skill_name,
            expert_idx=entry.expert_idx,
            attempt=entry.attempt,
            argv=(*KEEPER, str(folder), str(entry.attempt), "--", *self.command, str(folder)),
            working_folder=Path.cwd(),
            environment=environment.to_start(),
        )

    def _look_at(self, entry: SkillEntry) -> RunEnded | RunDied | None:
        watched = self._watched[entry.skill_name]
        if watched.end is not None:
            return self._look_at_end(entry, watched)
        seen = look(self._sighting(entry, watched), watched.engine)
        state = judge(seen)
        if state is RunState.FINISHED:
            self._clear(entry)
            return self._ended(entry, seen.result)
        if state is RunState.DEAD:
            return self._died(entry, watched)
        if state is RunState.ORPHANED:
            name = watched.handle.name or entry.tmux_session
            self._begin_end(watched, ORPHAN_GRACE_S, f"its session {name} was ended from outside")
        if state is RunState.STALLED:
            silent_s = watched.pulse.silent_s
            self._begin_end(watched, STOP_GRACE_S, f"it gave no sign of life for {silent_s:.0f} s (see --stall_timeout)")
        if state is not RunState.ENDING:
            watched.ending_since_s = None
        elif watched.ending_since_s is None:
            watched.ending_since_s = time.monotonic()
        elif time.monotonic() - watched.ending_since_s > ENDING_GRACE_S:
            self.launcher.cancel(watched.handle, LEFTOVER_GRACE_S)
        return None

    def _begin_end(self, watched: Watched, grace_s: float, why: str) -> None:
        """Ends a run beside the loop: it is asked to stop, which leaves a checkpoint, and has ``grace_s`` for it."""
        watched.why = why
        watched.end = self._ends.submit(self.launcher.cancel, watched.handle, grace_s)

    def _look_at_end(self, entry: SkillEntry, watched: Watched) -> RunEnded | RunDied | None:
        """A run that we are ending. Its slot is free once nothing of it is left; a result that it left counts."""
        if not watched.end.done():
            return None
        if not watched.end.result():
            self._begin_end(watched, LEFTOVER_GRACE_S, watched.why)
            return None
        del self._watched[entry.skill_name]
        if result := self._result(entry):
            return self._ended(entry, result)
        error = f"attempt {entry.attempt} was stopped: {watched.why}; it goes on from its last checkpoint"
        return RunDied(entry.skill_name, entry.attempt, error)

    def _died(self, entry: SkillEntry, watched: Watched) -> RunDied:
        run = self.run_paths(entry)
        code = self.launcher.poll([watched.handle]).get(watched.handle.engine_id, watched.engine).code
        words = _last_lines(_read_text(run.log)) or _last_lines(self.launcher.output(watched.handle))
        self._clear(entry)
        how = ending.find(run.exit, entry.attempt) or Ending(entry.attempt, code)
        error = f"attempt {entry.attempt} {how} without a result; see {run.log}"
        envs = _num_envs(run) if how.out_of_memory else None
        return RunDied(entry.skill_name, entry.attempt, f"{error}\n{words}" if words else error, envs)

    def _stopped(self, entry: SkillEntry) -> RunStopped | RunEnded:
        del self._watched[entry.skill_name]
        result = self._result(entry)
        if result and result.outcome.is_its_own:
            return self._ended(entry, result)
        return RunStopped(entry.skill_name, entry.attempt)

    def _result(self, entry: SkillEntry) -> RunResult | None:
        return run_result.find(self.run_paths(entry).result, entry.attempt)

    def _ended(self, entry: SkillEntry, result: RunResult) -> RunEnded:
        return RunEnded(
            entry.skill_name,
            entry.attempt,
            outcome=result.outcome,
            error=result.error,
            frames=result.frames,
            goal_reached=result.goal_reached,
            success_rate=result.success_rate,
            random_success_rate=result.random_success_rate,
            frames_per_success=result.frames_per_success,
            ended_at=_written_at(self.run_paths(entry).result),
            too_many_envs=_num_envs(self.run_paths(entry)) if result.reason == OUT_OF_MEMORY else None,
        )

    def _clear(self, entry: SkillEntry) -> None:
        """Ends what an ended run may have left behind, its dead pane among it."""
        self.launcher.cancel(self._watched.pop(entry.skill_name).handle, LEFTOVER_GRACE_S)

    def _sighting(self, entry: SkillEntry, watched: Watched) -> Sighting:
        since_launch_s = time.monotonic() - watched.launched_s
        handle, run, pulse = watched.handle, self.run_paths(entry), watched.pulse
        if pulse.is_due():
            pulse.listen(heartbeat.find(run.heartbeat, entry.attempt))
        stalled = pulse.is_stalled(self.stall_timeout_s)
        return Sighting(run, entry.attempt, handle.cookie, handle.process, since_launch_s, stalled)

    def _slot(self, entry: SkillEntry) -> Slot:
        return self.slots[(entry.slot or 0) % len(self.slots)]

    def _absolute(self, folder: Path) -> Path:
        return self.paths.root.resolve() / folder.relative_to(self.paths.root)

    def _relative(self, folder: Path) -> str:
        return str(folder.relative_to(self.paths.root))


def _num_envs(run: RunPaths) -> int | None:
    """The environments of the latest attempt, None where its record is gone."""
    record = run_record.find(run.run_json)
    return record.settings.num_envs if record else None


def no_room(folder: Path, why: str) -> NoRoom:
    """What a scheduler says that cannot write; it leaves then, so that nothing is done which is not written down."""
    return NoRoom(
        f"{folder} cannot be written ({why}); trainings go on in their sessions: "
        "make room, or the folder writable, and start the same command again"
    )


def _written_at(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _last_lines(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-_SHOWN_LINES:])[-_SHOWN_CHARACTERS:]
