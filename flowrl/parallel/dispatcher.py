"""Between the core, which decides, and the hands, which act: every decision is saved before it is carried out.

Clock, hands and store are passed in, so that the same code runs on a machine and in the simulation of the tests.
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
from flowrl.parallel.state import SchedulerState, SkillEntry, Stage, Status


class Hands(Folders, Protocol):
    """What acts: :class:`flowrl.parallel.runs.Runs`, or a stand-in. Whatever goes wrong is returned as an event."""

    def launch(self, entry: SkillEntry, completed_skills: Mapping[str, dict]) -> Launched | LaunchFailed:
        """Starts the attempt that ``entry`` names."""

    def watch(self, entries: Sequence[SkillEntry]) -> list[RunEnded | RunDied]:
        """What has become of these runs."""

    def ask_engine(self) -> None:
        """Asks the engine, once for all runs, what has become of them."""

    def stop(self, entries: Sequence[SkillEntry]) -> list[RunStopped | RunEnded | RunDied]:
        """Ends these runs."""

    def merge(self, entry: SkillEntry) -> None:
        """Starts the merge of a finished run into the library; returns at once."""

    def merged(self, wait_s: float = 0.0) -> Iterable[Merged | MergeFailed]:
        """Reports of merges that have ended; waits up to ``wait_s`` seconds for the oldest."""

    def is_merging(self) -> bool:
        """Whether a merge was started, and its report was not read yet."""

    def hurry(self) -> None:
        """From now on, a merge that would have to wait for another process is given up, without a report."""


LEAVE_S = 0.05
"""Seconds between looks, while leaving waits for a merge, at whether the trainings are to be ended as well."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class Dispatcher:
    """Drives one core.

    Args:
        save: keeps the state; returns once it is safe.
        announce: called with each final status.
        completed_skills: what the caller knows of completed skills besides their indices, given to a launch.
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
        """Brings a loaded state in line with what is there; saves nothing and does nothing yet."""
        with self.lock:
            self.actions.extend(reconcile(self.core, self.hands, records, self._clock()))
            if retry_failed:
                self.admit(RetryRequested())

    def admit(self, event: object) -> None:
        """Passes an event to the core without saving the state: before the first ``tell``."""
        with self.lock:
            self.actions.extend(self.core.handle(event, self._clock()))

    def tell(self, event: object) -> None:
        """Passes an event to the core, and saves what it has decided before any of it is done."""
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
        """Tells the core what has become of the merges and the runs, and that time has passed where a retry is due."""
        self._tell_merged()
        for event in self.hands.watch(self.entries_in(Stage.TRAINING)):
            self.tell(event)
        if self.is_retry_due():
            self.tell(Ticked())

    def settle(self, is_killing: Callable[[], bool]) -> None:
        """Before leaving: what was about to be launched waits again, finished runs are merged.

        Args:
            is_killing: whether the trainings are to be ended as well, and no merge is to wait for another process: the
                next start makes it. Asked repeatedly, as the answer may change while a merge is waited for.
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
        self.tell(Stopping())  # written down before it is done: a scheduler that is killed here leaves runs that ended
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
        """What a run may build on: the completed skills, with what the caller knows of them."""
        return _Completed(self.core.entries, self.completed_skills)


class _Completed(Mapping):
    """Completed skills by name; each is looked up when it is asked for, since a run needs few of many."""

    def __init__(self, entries: Mapping[str, SkillEntry], known: Mapping[str, Mapping]):
        self._entries, self._known = entries, known

    def __getitem__(self, name: str) -> dict:
        entry = self._entries[name]
        if not entry.is_usable:
            raise KeyError(name)
        return dict(self._known.get(name, {})) | {"expert_idx": entry.expert_idx}

    def __iter__(self) -> Iterator[str]:
        return (name for name, entry in list(self._entries.items()) if entry.is_usable)

    def __len__(self) -> int:
        return sum(1 for _ in self)
