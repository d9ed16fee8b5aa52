"""Between the core, which decides, and the hands, which act: every decision is saved before it is carried out.

Clock, hands and store are passed in, so that the same code runs on a real machine and in the tests' simulation.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from flowrl.parallel.core import SchedulerCore
from flowrl.parallel.events import (
    Action,
    Announce,
    Launch,
    Launched,
    LaunchFailed,
    Merge,
    Merged,
    MergeFailed,
    Paused,
    RetryRequested,
    RunDied,
    RunEnded,
    RunStopped,
    Stopping,
    Ticked,
)
from flowrl.parallel.reconciliation import Folders, Records, reconcile
from flowrl.records.scheduler_state import SchedulerState, SkillEntry, Stage, Status


class Hands(Folders, Protocol):
    """Carries out actions: :class:`flowrl.parallel.runs.Runs`, or a fake. A failure is returned as an event."""

    def launch(self, entry: SkillEntry, completed_skills: Mapping[str, dict]) -> Launched | LaunchFailed:
        """Starts the attempt that ``entry`` names."""

    def watch(self, entries: Sequence[SkillEntry]) -> list[RunEnded | RunDied | RunStopped]:
        """The ends of those runs that have ended; RunStopped where the engine ended one that can go on."""

    def ask_engine(self) -> None:
        """Asks the engine for the status of all runs, in one call."""

    def stop(self, entries: Sequence[SkillEntry]) -> list[RunStopped | RunEnded | RunDied]:
        """Ends these runs."""

    def merge(self, entry: SkillEntry) -> None:
        """Starts the merge of a finished run into the library; returns at once."""

    def merged(self, wait_s: float = 0.0) -> Iterable[Merged | MergeFailed]:
        """Reports of merges that have ended; waits up to ``wait_s`` seconds for the oldest."""

    def is_merging(self) -> bool:
        """Whether a merge was started whose report has not been read yet."""

    def hurry(self) -> None:
        """From now on, a merge that would have to wait for another process is given up, without a report."""


LEAVE_S = 0.05
"""While a shutdown waits for a merge: seconds between checks whether to end the trainings as well."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class Dispatcher:
    """Drives one core.

    Args:
        save: keeps the state; returns once it is safe.
        announce: called with each final status.
        completed_skills: what the caller knows about completed skills besides their indices; passed to each launch.
        lock: held while the core is used; public methods may be called from any thread.
    """

    def __init__(
        self,
        core: SchedulerCore,
        hands: Hands,
        save: Callable[[SchedulerState], None],
        announce: Callable[[str, Status], None] = lambda name, status: None,
        clock: Callable[[], datetime] = utc_now,
    ):
        self.core = core
        self.hands = hands
        self.lock = threading.RLock()
        self.completed_skills: dict[str, Mapping] = {}
        self.actions: deque[Action] = deque()
        self._save = save
        self._announce = announce
        self._clock = clock

    def begin(self, records: Records, retry_failed: bool) -> None:
        """Brings a loaded state in line with the files and the running trainings; does not save or act yet."""
        with self.lock:
            self.actions.extend(reconcile(self.core, self.hands, records, self._clock()))
            if retry_failed:
                self.admit(RetryRequested())

    def admit(self, event: object) -> None:
        """Passes an event to the core without saving the state; only before the first ``tell``."""
        with self.lock:
            self.actions.extend(self.core.handle(event, self._clock()))

    def tell(self, event: object) -> None:
        """Passes an event to the core, and saves its decisions before any of them is carried out."""
        with self.lock:
            actions = self.core.handle(event, self._clock())
            if actions or not isinstance(event, Ticked):
                self._save(self.core.state)
            self.actions.extend(actions)

    def perform(self) -> None:
        """Carries out the next decision."""
        action = self.actions.popleft()
        entry = self.core.entries[action.name]
        match action:
            case Announce():
                self._announce(action.name, action.status)
            case Launch():
                self.tell(self.hands.launch(entry, self.experts()))
            case Merge():
                self.hands.merge(entry)

    def look(self) -> None:
        """Tells the core which merges and runs have ended, and that time has passed if a retry is due."""
        self._tell_merged()
        for event in self.hands.watch(self.entries_in(Stage.TRAINING)):
            self.tell(event)
        if self.is_retry_due():
            self.tell(Ticked())

    def settle(self, is_killing: Callable[[], bool]) -> None:
        """Before a shutdown: skills about to be launched go back to waiting, finished runs are merged.

        Args:
            is_killing: whether to end the trainings as well, and to leave a merge that must wait for another process to
                the next start. Asked repeatedly, as the answer may change while a merge runs.
        """
        self.tell(Paused())
        has_ended = False
        while True:
            if is_killing() and not has_ended:
                has_ended = True
                self._end_trainings()
            self._perform_but_launch()
            self._tell_merged(LEAVE_S)
            if not self.actions and not self.hands.is_merging() and has_ended == is_killing():
                return

    def _tell_merged(self, wait_s: float = 0.0) -> None:
        for event in self.hands.merged(wait_s):
            self.tell(event)

    def _end_trainings(self) -> None:
        self.tell(Stopping())  # saved before it is done: we may be killed right after the runs have ended
        self.hands.hurry()
        for event in self.hands.stop(self.entries_in(Stage.TRAINING)):
            self.tell(event)

    def _perform_but_launch(self) -> None:
        while self.actions:
            if isinstance(action := self.actions[0], Launch):
                self.actions.popleft()
                self.tell(RunStopped(action.name, action.attempt))
            else:
                self.perform()

    def is_retry_due(self) -> bool:
        """Whether a skill that waited out its backoff would be launched now."""
        with self.lock:
            retry_at = self.core.next_retry() if self.core.may_launch() else None
            return retry_at is not None and retry_at <= self._clock()

    def entries_in(self, stage: Stage) -> list[SkillEntry]:
        """The running skills in this stage."""
        with self.lock:
            running = [self.core.entries[name] for name in self.core.state.currently_running]
        return [entry for entry in running if entry.stage is stage]

    def experts(self) -> Mapping[str, dict]:
        """What a run may build on: the completed skills, with what the caller knows about them."""
        return _Completed(self.core.entries, self.completed_skills)


class _Completed(Mapping):
    """Completed skills by name; looked up on demand, since a run needs only a few of many."""

    def __init__(self, entries: Mapping[str, SkillEntry], known: Mapping[str, Mapping]):
        self._entries, self._known = entries, known

    def __getitem__(self, name: str) -> dict:
        entry = self._entries[name]
        if not _is_skill_in_library(entry):
            raise KeyError(name)
        return dict(self._known.get(name, {})) | {"expert_idx": entry.expert_idx}

    def __iter__(self) -> Iterator[str]:
        return (name for name, entry in list(self._entries.items()) if _is_skill_in_library(entry))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _is_skill_in_library(entry: SkillEntry) -> bool:
    return entry.is_usable and not entry.is_rehearsal
