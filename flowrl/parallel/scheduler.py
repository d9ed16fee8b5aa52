"""Trains many skills at a time, each as soon as its dependencies are in the library.

:class:`SkillScheduler` drives the core (``core.py``) with what the runs report (``runs.py``), and keeps the state file.
It runs in its own thread; every public method may be called from any thread.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from flowrl.errors import BadInput
from flowrl.files import why_no_room
from flowrl.parallel.admission import EarlySkills, check_dependencies, check_is_new, check_not_on_itself
from flowrl.parallel.core import SchedulerCore, waiting_entry
from flowrl.parallel.dispatcher import Dispatcher, utc_now
from flowrl.parallel.events import ContinueRequested, Paused, RehearsalAdded, Resumed, RetryRequested, SkillAdded
from flowrl.parallel.launchers.base import Launcher
from flowrl.parallel.launchers.default import default_launcher
from flowrl.parallel.library.archive import sweep
from flowrl.parallel.library.contents import skill_data_in_library, skills_in_library
from flowrl.parallel.library.locks import hold_scheduler_lock, merge_lock
from flowrl.parallel.merge_guard import MergeGuard
from flowrl.parallel.merges import Merges
from flowrl.parallel.no_room import no_room
from flowrl.parallel.reconciliation import FolderRecords
from flowrl.parallel.runs import TRAINING_COMMAND, Runs
from flowrl.parallel.scheduler_options import SchedulerOptions
from flowrl.paths import ExperimentPaths, check_cache_folder, given_path, rehearsal_number
from flowrl.records import state_file
from flowrl.records.history import History
from flowrl.records.rehearsal_settings import RehearsalRequest
from flowrl.records.scheduler_state import RehearsalEntry, SchedulerState, SkillEntry, Status
from flowrl.skills.spec import check_name

WATCH_S = 0.05
_UNFINISHED = (Status.WAITING, Status.RUNNING)


class SkillScheduler:
    """Trains skills in dependency order, many at once, and merges them into the library.

    The public methods and the loop; deciding, acting and checking are left to the modules that it combines.

    There are two ways to make one. ``SkillScheduler(base_dir=..., max_parallel=..., poll_interval=...)``: ``run``
    returns when all that was added is done. ``SkillScheduler(args, base_dir=...)``, ``args`` having the front door's
    flags as attributes: ``run`` returns once no more skills will come (``close``, or ``args.max_nodes`` are known) and
    all are done.

    Args:
        poll_interval: seconds between listings of the engine, a safety net: a finished run is noticed without it.
        launcher: where runs are started; the one that ``args.launcher`` names unless given, else sessions on this machine.
        command: what trains a run; its folder is appended.
    """

    def __init__(
        self,
        args: Any = None,
        *,
        base_dir: Path | str,
        max_parallel: int | None = None,
        poll_interval: float | None = None,
        launcher: Launcher | None = None,
        command: Sequence[str] = TRAINING_COMMAND,
    ):
        self.paths = ExperimentPaths(given_path(base_dir, "base_dir"))
        self.options = SchedulerOptions.of(args, max_parallel, poll_interval)
        self.max_parallel = self.options.max_parallel
        """Runs at a time; fewer than were asked for, from ``open`` on, where the machine has fewer slots."""
        self.error: BaseException | None = None
        """What ended ``run``."""
        self.remark: str | None = None
        """A remark for the user about how the state was read."""
        self._launcher = launcher or default_launcher(args)
        self._wake = threading.Event()
        guard = MergeGuard() if self.options.merge_guard else None
        merges = Merges(self.paths, self._wake.set, guard, self.options.lock_timeout_s, self.options.guard_changes)
        shown_s = self.options.keep_failed_session_s
        self._runs = Runs(self.paths, self._launcher, command, self.options.stall_timeout_s, merges, shown_s)
        self._runs.budget = self.options.skill_budget
        core = self._new_core(SchedulerState(max_parallel=self.max_parallel))
        self._dispatcher = Dispatcher(core, self._runs, self._save, self._announce)
        self._lock = self._dispatcher.lock
        self._early = EarlySkills(self.paths.root)
        self._folder_lock: FileLock | None = None
        self._takes_events = self._is_closed = self._is_stopping = self._is_killing = False
        self._on_complete: Callable[[str], Any] = lambda skill_name: None
        self._on_final: Callable[[str, str], Any] = lambda skill_name, status: None
        self._on_rehearsal_final: Callable[[str, str], Any] = lambda name, status: None
        self._proposer: dict[str, Any] = {}
        self._history = History(self.paths.history, {})

    def set_callbacks(
        self,
        on_skill_complete: Callable[[str], Any] | None = None,
        prepare_training_run: Callable | None = None,
        process_completed_training: Callable | None = None,
        on_skill_final: Callable[[str, str], Any] | None = None,
        on_rehearsal_final: Callable[[str, str], Any] | None = None,
        process_completed_rehearsal: Callable | None = None,
    ) -> None:
        """Sets the callbacks that the scheduler's thread calls; those not given stay as they are.

        Args:
            on_skill_complete: called with a skill's name once it is in the library.
            prepare_training_run: makes a run's folder; see ``training_setup.py``.
            process_completed_training: merges a run, in a separate thread; see ``training_processor.py``. One that is given
                decides without ``--merge_guard``, unless it passes a guard on.
            on_skill_final: called with a skill's name and its final status, good or bad; after ``on_skill_complete``.
            process_completed_rehearsal: the same for a rehearsal.
            on_rehearsal_final: called with a rehearsal's name and its final status.
        """
        self._on_complete = on_skill_complete or self._on_complete
        self._on_final = on_skill_final or self._on_final
        self._on_rehearsal_final = on_rehearsal_final or self._on_rehearsal_final
        self._runs.prepare = prepare_training_run or self._runs.prepare
        self._runs.merges.process = process_completed_training or self._runs.merges.process
        self._runs.merges.process_rehearsal = process_completed_rehearsal or self._runs.merges.process_rehearsal

    def open(self) -> None:
        """Opens the experiment: checks what can be checked, takes its lock, reads its state, finds its runs again.

        ``run`` does this if needed; the front door calls it first, so that bad input raises in its own thread.

        Raises:
            BadInput: the launcher cannot work here, the folder or the cache folder cannot be written, or the state file
                cannot be used.
            FolderInUse: another scheduler works on the folder.
        """
        if self._folder_lock is not None:
            return
        self._launcher.check()
        check_cache_folder()
        self._plan_slots()
        found, _ = state_file.load(self.paths)
        self._check_early(entry.skill_name for entry in (found.skills if found else ()))
        self._folder_lock = self._take_folder()  # nothing was written before this
        try:
            state, self.remark = state_file.load(self.paths)
            self._dispatcher.core = self._new_core(state or SchedulerState())
            self._history = History.of(self.paths.history, self._core.state.entries)
            self._core.state.max_parallel = self.max_parallel
            self._core.state.proposer = self._proposer or self._core.state.proposer
            with merge_lock(self.paths, self.options.lock_timeout_s, "opening the experiment"):
                sweep(self.paths)
            self._dispatcher.begin(FolderRecords(self.paths), self.options.retry_failed)
        except BaseException:
            self._release()
            raise

    def add_skill(self, skill_name: str, skill_data: Mapping[str, Any], dependencies: Iterable[str] = ()) -> None:
        """Adds a skill to be trained once all ``dependencies`` are completed.

        Raises:
            BadInput: the name is bad or taken, a dependency is unknown (before ``run``, they may come in any order),
                or the skill depends on itself. Nothing was changed.
        """
        self._reraise()
        dependencies = tuple(dict.fromkeys(dependencies))
        with self._lock:
            self._check_new(check_name(skill_name), dependencies)
            event = SkillAdded(skill_name, dict(skill_data), dependencies)
            if self._takes_events:
                self._submit(event)
            else:
                self._early.add(event)

    def continue_skill(self, skill_name: str, frames: int, to_goal: bool = False) -> int:
        """Has a completed skill trained further, from its expert; call it after ``open``.

        A continuation that is under way already goes on. Its expert stays as it is until the longer trained one is
        merged, whatever happens meanwhile.

        Args:
            to_goal: only until it reaches its goal, and not if it makes no progress.

        Returns:
            the frames that it is trained: fewer than ``frames`` if no more are left of its budget.

        Raises:
            BadInput: the skill is not completed, its expert is missing, or its budget is used up.
        """
        with self._lock:
            entry = self._completed_entry(skill_name)
            allowed = self.options.skill_budget.extra_frames(self.paths, entry, frames)
            data = skill_data_in_library(self.paths, entry.expert_idx, skill_name)
            event = ContinueRequested(skill_name, allowed, dict(data), to_goal)
            if self._takes_events:
                self._submit(event)
            else:
                self._dispatcher.admit(event)
        return allowed

    def add_rehearsal(self, request: RehearsalRequest) -> str:
        """Adds a rehearsal of the library as it will be when the next slot is free; call it after ``open``.

        Returns:
            its name.

        Raises:
            BadInput: no skill is completed yet.
        """
        self._reraise()
        with self._lock:
            if not self.get_completed_skill_names():
                raise BadInput(f"{self.paths.root} has no completed skill to rehearse; train some first")
            known = [*(entry.skill_name for entry in self._core.state.rehearsals), *self.paths.rehearsals()]
            name = f"rehearsal_{max(map(rehearsal_number, known), default=0) + 1}"
            event = RehearsalAdded(name, request.to_data())
            if self._takes_events:
                self._submit(event)
            else:
                self._dispatcher.admit(event)
        return name

    def run(self, completed_skills: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Schedules until all is done (see the class), or ``stop`` was called. Trains nothing twice.

        Args:
            completed_skills: skill name to at least its ``expert_idx``; those in the library count as completed.

        Raises:
            FlowrlError: see ``open``; kept in ``error`` too, and raised again by the other methods.
        """
        try:
            self.open()
            with self._lock:
                self._dispatcher.completed_skills = dict(completed_skills or {})
                self._admit_early()
                self._takes_events = True
                self._dispatcher.tell(Resumed())
            self._loop()
            self._dispatcher.settle(lambda: self._is_killing)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self._release()

    def close(self) -> None:
        """No more skills will come: ``run`` returns when all are done."""
        self._is_closed = True
        self._wake.set()

    def interrupt(self) -> None:
        """Launches nothing more; trainings go on. ``resume`` undoes this, ``stop`` ends ``run``."""
        self._tell_running(Paused())

    def resume(self) -> None:
        """Launches again."""
        self._tell_running(Resumed())

    def stop(self, kill: bool = False) -> None:
        """Makes ``run`` return soon. Trainings go on in their sessions, or are ended (``kill``): then their skills wait
        again, without a retry spent, and go on from their checkpoints next time."""
        self._is_killing = self._is_killing or kill
        self._is_stopping = True
        self._wake.set()

    @property
    def state(self) -> dict[str, Any]:
        """A copy of the state, as in ``scheduler_state.json``; skills that wait for ``run`` to begin are in it too."""
        with self._lock:
            early = [waiting_entry(event) for event in self._early]
            state = self._core.state
            return state.model_copy(update={"skills": state.skills + early}).to_data()

    def get_completed_skill_names(self) -> list[str]:
        """The skills in the library, in the order in which they were added."""
        self._reraise()
        with self._lock:
            return [entry.skill_name for entry in self._core.state.skills if entry.is_usable]

    def free_slots(self) -> int:
        """How many more skills could be in training: the slots that are free and not about to be used.

        A skill that waits for another takes no slot yet; one that is trained further is in the library meanwhile, and nothing
        waits for it. A rehearsal takes all slots.
        """
        with self._lock:
            if any(entry.status in _UNFINISHED for entry in self._core.state.rehearsals):
                return 0
            waiting = {event.name: event.dependencies for event in self._early}
            waiting |= {e.skill_name: e.dependencies for e in self._core.state.skills if e.status in _UNFINISHED}
            awaited = waiting.keys() - {e.skill_name for e in self._core.state.skills if e.is_usable}
        startable = [name for name, dependencies in waiting.items() if awaited.isdisjoint(dependencies)]
        return max(0, self.max_parallel - len(startable))

    def known_skills(self) -> dict[str, dict[str, Any]]:
        """Every skill of the experiment: its data, with ``expert_idx`` and ``status``; for a proposer that resumes."""
        with self._lock:
            entries = [(e.skill_name, e.skill_data, e.expert_idx, e.status) for e in self._core.state.skills]
        return {
            name: dict(data or skill_data_in_library(self.paths, index, name)) | {"expert_idx": index, "status": str(status)}
            for name, data, index, status in entries
        }

    def attach_line(self, skill: Mapping[str, Any]) -> str:
        """What a user types to look at a training under way; ``skill`` is its entry in ``state["skills"]``, or in
        ``state["rehearsals"]``."""
        entry_type = RehearsalEntry if rehearsal_number(skill["skill_name"]) else SkillEntry
        return shlex.join(self._runs.attach_command(entry_type.model_validate(skill)))

    def set_proposer_state(self, proposer: Mapping[str, Any]) -> None:
        """Keeps the proposer's kind, cost and last error in the state file."""
        self._reraise()
        with self._lock:
            self._proposer = self._core.state.proposer = dict(proposer)
            if self._takes_events:
                self._save(self._core.state)

    @property
    def _core(self) -> SchedulerCore:
        return self._dispatcher.core

    def _is_complete(self) -> bool:
        """Whether every skill added so far has reached a final status."""
        self._reraise()
        with self._lock:
            return not self._early and self._core.is_complete()

    # Opening and closing.

    def _new_core(self, state: SchedulerState) -> SchedulerCore:
        return SchedulerCore(state, max_retries=self.options.max_retries)

    def _plan_slots(self) -> None:
        self._runs.slots = self._launcher.slots(
            self.max_parallel, gpu_ids=self.options.gpu_ids, skills_per_gpu=self.options.skills_per_gpu
        )
        self.max_parallel = len(self._runs.slots)

    def _take_folder(self) -> FileLock:
        try:
            self.paths.root.mkdir(parents=True, exist_ok=True)
            return hold_scheduler_lock(self.paths)
        except OSError as error:
            raise BadInput(
                f"{self.paths.root} cannot be written ({error.strerror or error}); "
                "make it writable, or use another --graph_path"
            ) from None

    def _release(self) -> None:
        try:
            self._runs.close()  # before another process can take the folder
        finally:
            if self._folder_lock is not None:
                self._folder_lock.release()
                self._folder_lock = None
            self._takes_events = False

    # New skills.

    def _check_new(self, name: str, dependencies: Sequence[str]) -> None:
        check_is_new(name, {*self._core.entries, *(event.name for event in self._early)}, self.paths.root)
        check_not_on_itself(name, dependencies)
        if self._takes_events:
            check_dependencies(name, dependencies, self._core.entries)

    def _check_early(self, known: Iterable[str]) -> None:
        """All of them are checked before the first is accepted."""
        self._early.check({*known, *skills_in_library(self.paths)})

    def _admit_early(self) -> None:
        self._check_early(self._core.entries)
        for event in self._early:
            self._dispatcher.admit(event)
        self._early.clear()

    def _completed_entry(self, name: str) -> SkillEntry:
        """The entry of a skill that can be trained further. Raises BadInput if it cannot."""
        entry = self._core.entries.get(name)
        completed = ", ".join(self.get_completed_skill_names()) or "none"
        if entry is None:
            raise BadInput(f"there is no skill {name} in {self.paths.root}; completed skills: {completed}")
        if not entry.is_usable:
            raise BadInput(
                f"{name} is {entry.status}, and only a completed skill can be trained further; completed skills: {completed}"
            )
        params = self.paths.expert_params(entry.expert_idx, name)
        if not params.exists():
            raise BadInput(f"the expert of {name}, {params}, is missing; restore it from a copy")
        return entry

    # The loop.

    def _loop(self) -> None:
        next_listing = 0.0
        while not self._is_stopping:
            self._perform_all()
            if time.monotonic() >= next_listing:
                self._runs.ask_engine()
                next_listing = time.monotonic() + self._listing_interval_s()
            self._heed_retry_request()
            self._dispatcher.look()
            if self._dispatcher.actions:
                continue
            if self._is_over():
                return
            self._wake.wait(WATCH_S if self._core.state.currently_running else self._idle_s())
            self._wake.clear()

    def _heed_retry_request(self) -> None:
        """Another process, such as ``flowrl status --watch``, may ask for what ``--retry_failed`` does at a start."""
        try:
            self.paths.retry_request.unlink()
        except OSError:  # there is none
            return
        self._dispatcher.tell(RetryRequested())

    def _listing_interval_s(self) -> float:
        """An engine that is cheap to ask is asked often: a session that is gone is noticed within two seconds."""
        return min(self.options.poll_interval_s, self._launcher.poll_every_s or self.options.poll_interval_s)

    def _is_over(self) -> bool:
        with self._lock:
            if self._early or not self._core.is_complete():
                return False
            most = self.options.max_nodes
            is_enough = most is not None and sum(not entry.never_done for entry in self._core.state.skills) >= most
            return self._is_closed or is_enough or not self.options.more_may_come

    def _idle_s(self) -> float:
        with self._lock:
            retry_at = self._core.next_retry()
        until_retry_s = (retry_at - utc_now()).total_seconds() if retry_at else self.options.poll_interval_s
        return min(max(until_retry_s, WATCH_S), self.options.poll_interval_s)

    def _perform_all(self) -> None:
        while self._dispatcher.actions and not self._is_stopping:
            self._dispatcher.perform()

    def _announce(self, name: str, status: Status) -> None:
        if rehearsal_number(name):
            return self._on_rehearsal_final(name, str(status))
        if status is Status.COMPLETED:
            self._on_complete(name)
        self._on_final(name, str(status))

    def _tell_running(self, event: object) -> None:
        with self._lock:
            if self._takes_events:
                self._submit(event)

    def _submit(self, event: object) -> None:
        """Passes an event to the core from outside the loop, and wakes the loop."""
        self._dispatcher.tell(event)
        self._wake.set()

    def _save(self, state: SchedulerState) -> None:
        try:
            state_file.save(self.paths, state)
            self._history.look(state.entries, state.updated_at)
        except OSError as error:
            raise no_room(self.paths.state, why_no_room(error) or error.strerror or str(error)) from error

    def _reraise(self) -> None:
        if self.error is not None:
            raise self.error
