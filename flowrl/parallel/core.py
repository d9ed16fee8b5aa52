"""The scheduler's mind: a state machine without a clock, a disk or a process.

Events go in, actions come out. Whoever drives it saves the state before carrying out the actions, so that each deed
is written down before it is done, and reports what came of each as the next event. An event about an attempt that
the state does not name (an orphan's, a second report of the same end) changes nothing.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable
from datetime import datetime, timedelta

from flowrl.parallel.events import (
    Action,
    Announce,
    ContinueRequested,
    Launch,
    Launched,
    LaunchFailed,
    Merge,
    Merged,
    MergeFailed,
    Paused,
    Resumed,
    RetryRequested,
    RunDied,
    RunEnded,
    RunFound,
    RunStopped,
    SkillAdded,
    Stopping,
    Ticked,
)
from flowrl.parallel.state import FINAL, USELESS, SchedulerState, SkillEntry, Stage, Status
from flowrl.records.result import Outcome

FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 300.0
FEWEST_ENVS = 8
"""A run that is short of memory is not made smaller than this."""


class SchedulerCore:
    """Drives ``state``, which it owns. A decision costs time in the number of ready skills, not of all.

    Args:
        state: as loaded; its running entries are believed until an event says otherwise.
        max_retries: further tries after a first one that failed.
    """

    def __init__(self, state: SchedulerState, *, max_retries: int):
        self.state = state
        self.max_retries = max_retries
        self.paused = True
        self.entries: dict[str, SkillEntry] = {}
        self._dependents: dict[str, list[str]] = {}
        self._missing: dict[str, set[str]] = {}
        self._heights: dict[str, int] = {}
        self._order: dict[str, int] = {}
        self._ready: set[str] = set()
        self._queue: list[tuple[int, int, str]] = []  # what was ready at some time, the first to launch first
        self._delayed: set[str] = set()
        self._running: dict[str, None] = {}
        self._unfinished: set[str] = set()
        for entry in state.skills:
            self._index(entry)
        for entry in reversed(state.skills):  # dependents mostly come later: from the end, one look at each is enough
            self._raise_heights(entry.skill_name)
        for name in self._waiting_for_nothing():
            self._make_ready(name)

    def handle(self, event: object, now: datetime) -> list[Action]:
        """Takes one event, changes the state, and says what is to be done, in this order."""
        actions = self._react(event, now) + self._launches(now)
        self.state.currently_running = list(self._running)
        return actions

    def take_in(self, entry: SkillEntry) -> None:
        """A skill that the state did not know."""
        self.state.skills.append(entry)
        self._index(entry)
        self._raise_heights(entry.skill_name)
        if entry.status is Status.WAITING and not self._missing[entry.skill_name]:
            self._make_ready(entry.skill_name)

    def replace(self, entry: SkillEntry) -> None:
        """A skill that is completed, though the state did not know it."""
        position = next(i for i, known in enumerate(self.state.skills) if known.skill_name == entry.skill_name)
        self.state.skills[position] = entry
        self.entries[entry.skill_name] = entry
        self._running.pop(entry.skill_name, None)
        self._ready.discard(entry.skill_name)
        self._unfinished.discard(entry.skill_name)
        self._free_dependents(entry.skill_name)
        self._unblock_dependents(entry.skill_name)
        self.state.currently_running = list(self._running)

    def is_complete(self) -> bool:
        """Whether every skill has reached a final status."""
        return not self._unfinished

    def next_retry(self) -> datetime | None:
        """When the next skill that waits out a backoff may be tried, of those that a free slot was offered to."""
        return min((at for name in self._delayed & self._ready if (at := self.entries[name].retry_at)), default=None)

    def may_launch(self) -> bool:
        """Whether a skill that is ready would be started now: launches are wanted, and a slot is free."""
        return not self.paused and len(self._running) < self.state.max_parallel

    def _react(self, event: object, now: datetime) -> list[Action]:
        match event:
            case SkillAdded():
                return self._add(event, now)
            case RunFound():
                return self._find(event, now)
            case Paused() | Resumed():
                self.paused = isinstance(event, Paused)
                return []
            case Stopping():
                return self._stop_all()
            case RetryRequested():
                return self._retry_all()
            case ContinueRequested():
                return self._continue(event)
            case Ticked():
                return []
        entry = self.entries[event.name]
        if entry.status is not Status.RUNNING or entry.attempt != event.attempt:
            return []
        if (entry.stage is Stage.MERGING) != isinstance(event, Merged | MergeFailed):
            return []  # a report that came a second time
        if entry.stopping and _has_failed(event):
            _with_fewer_envs(entry, "", event.too_many_envs)
            event = RunStopped(event.name, event.attempt)
        match event:
            case Launched():
                entry.stage, entry.tmux_session, entry.run_folder = Stage.TRAINING, event.session, event.run_folder
                return []
            case RunEnded():
                _add_minutes(entry, event.ended_at or now)
                return self._end(entry, event, now)
            case LaunchFailed():
                return self._try_again(entry, event.error, now, event.hopeless)
            case RunDied():
                _add_minutes(entry, now)
                error = _with_fewer_envs(entry, event.error, event.too_many_envs)
                return self._try_again(entry, error, now, hopeless=False)
            case RunStopped():
                _add_minutes(entry, now)
                self._wait(entry)
                return []
            case Merged():
                return self._finish(entry, Status.COMPLETED, now)
            case MergeFailed():
                if event.train_again:
                    entry.stage = None
                return self._try_again(entry, event.error, now, hopeless=False)
        raise TypeError(f"no event of the scheduler: {event!r}")

    def _add(self, event: SkillAdded, now: datetime) -> list[Action]:
        entry = waiting_entry(event)
        self.take_in(entry)
        culprits = self._culprits(entry)
        return self._block(entry, culprits, now) if culprits else []

    def _end(self, entry: SkillEntry, event: RunEnded, now: datetime) -> list[Action]:
        if event.outcome == Outcome.COMPLETED or not entry.is_usable:  # else what stands here is still true of its expert
            entry.frames, entry.goal_reached = event.frames, event.goal_reached
            entry.success_rate, entry.random_success_rate = event.success_rate, event.random_success_rate
            entry.frames_per_success = event.frames_per_success
        if event.outcome == Outcome.COMPLETED:
            entry.stage, entry.error = Stage.MERGING, None
            return [Merge(entry.skill_name, entry.attempt)]
        if event.outcome == Outcome.CANCELLED:
            entry.error = event.error or "cancelled in its pane"
            return self._finish(entry, Status.CANCELLED, now)
        error = _with_fewer_envs(entry, event.error or "the training failed", event.too_many_envs)
        return self._try_again(entry, error, now, hopeless=False)

    def _try_again(self, entry: SkillEntry, error: str, now: datetime, hopeless: bool) -> list[Action]:
        entry.error = error
        if hopeless or entry.retry_count >= self.max_retries:
            return self._finish(entry, Status.FAILED, now)
        entry.retry_count += 1
        stage = entry.stage
        self._wait(entry)
        entry.stage = Stage.MERGING if stage is Stage.MERGING else None
        entry.retry_at = now + timedelta(seconds=backoff_s(entry.skill_name, entry.retry_count))
        return []

    def _wait(self, entry: SkillEntry) -> None:
        entry.status, entry.stage, entry.slot, entry.tmux_session = Status.WAITING, None, None, None
        entry.stopping = False
        self._running.pop(entry.skill_name, None)
        self._make_ready(entry.skill_name)

    def _finish(self, entry: SkillEntry, status: Status, now: datetime) -> list[Action]:
        merging = entry.stage is Stage.MERGING and status is Status.FAILED
        entry.status, entry.stage, entry.completed_at = status, Stage.MERGING if merging else None, now
        entry.slot, entry.tmux_session, entry.retry_at, entry.stopping = None, None, None, False
        if entry.extra_timesteps is not None:
            return self._finish_further(entry, status)
        self._running.pop(entry.skill_name, None)
        self._ready.discard(entry.skill_name)
        self._unfinished.discard(entry.skill_name)
        announced = [Announce(entry.skill_name, status)]
        if status is Status.COMPLETED:
            entry.skill_data, entry.error, entry.run_folder = None, None, None
            self._free_dependents(entry.skill_name)
            return announced
        return announced + self._block_dependents(entry.skill_name, now)

    def _finish_further(self, entry: SkillEntry, status: Status) -> list[Action]:
        """A skill that was trained further is completed however that ended; what went wrong stays in its ``error``."""
        error = None if status is Status.COMPLETED else f"not trained further: {entry.error}"
        entry.extra_timesteps, entry.status, entry.stage = None, Status.COMPLETED, None
        self._running.pop(entry.skill_name, None)
        self._ready.discard(entry.skill_name)
        self._unfinished.discard(entry.skill_name)
        entry.skill_data, entry.run_folder, entry.error = None, None, error
        return [Announce(entry.skill_name, Status.COMPLETED)]

    def _continue(self, event: ContinueRequested) -> list[Action]:
        entry = self.entries[event.name]
        if entry.status is Status.COMPLETED:
            entry.status, entry.extra_timesteps, entry.skill_data = Status.WAITING, event.frames, event.skill_data
            entry.retry_count, entry.retry_at, entry.error = 0, None, None
            self._unfinished.add(event.name)
            self._make_ready(event.name)
        return []

    def _block(self, entry: SkillEntry, culprits: Iterable[str], now: datetime) -> list[Action]:
        entry.status, entry.blocked_by, entry.completed_at = Status.BLOCKED, sorted(culprits), now
        entry.retry_at, entry.stage = None, None
        self._ready.discard(entry.skill_name)
        self._unfinished.discard(entry.skill_name)
        return [Announce(entry.skill_name, Status.BLOCKED), *self._block_dependents(entry.skill_name, now)]

    def _block_dependents(self, name: str, now: datetime) -> list[Action]:
        dependents = [self.entries[dependent] for dependent in self._dependents.get(name, ())]
        waiting = [entry for entry in dependents if entry.status is Status.WAITING]
        return [action for entry in waiting for action in self._block(entry, self._culprits(entry), now)]

    def _unblock_dependents(self, name: str) -> None:
        """What was blocked by a skill that is of use after all waits again, unless another blocks it too."""
        for dependent in (self.entries[dependent] for dependent in self._dependents.get(name, ())):
            if dependent.status is not Status.BLOCKED:
                continue
            dependent.blocked_by = sorted(self._culprits(dependent))
            if not dependent.blocked_by:
                dependent.status, dependent.completed_at = Status.WAITING, None
                self._unfinished.add(dependent.skill_name)
                if not self._missing[dependent.skill_name]:
                    self._make_ready(dependent.skill_name)
            self._unblock_dependents(dependent.skill_name)

    def _free_dependents(self, name: str) -> None:
        for dependent in self._dependents.get(name, ()):
            self._missing[dependent].discard(name)
            if not self._missing[dependent] and self.entries[dependent].status is Status.WAITING:
                self._make_ready(dependent)

    def _find(self, event: RunFound, now: datetime) -> list[Action]:
        entry = self.entries[event.name]
        if event.attempt < entry.attempt or entry.status in FINAL:
            return []
        entry.status, entry.stage, entry.attempt = Status.RUNNING, Stage.TRAINING, event.attempt
        entry.expert_idx = event.expert_idx
        self.state.next_expert_idx = max(self.state.next_expert_idx, event.expert_idx + 1)
        entry.tmux_session, entry.retry_at, entry.completed_at, entry.blocked_by = event.session, None, None, []
        entry.started_at = entry.started_at or now
        self._ready.discard(entry.skill_name)
        self._running[entry.skill_name] = None
        entry.slot = self._free_slot(entry)
        return []

    def _stop_all(self) -> list[Action]:
        for entry in (self.entries[name] for name in self._running):
            entry.stopping = entry.stage is Stage.TRAINING
        return []

    def _retry_all(self) -> list[Action]:
        for entry in self.state.skills:
            if entry.status in USELESS:
                trained = entry.stage is Stage.MERGING
                entry.status, entry.retry_count, entry.blocked_by = Status.WAITING, 0, []
                entry.completed_at, entry.retry_at = None, None
                entry.stage = Stage.MERGING if trained else None
                self._unfinished.add(entry.skill_name)
                if not self._missing[entry.skill_name]:
                    self._make_ready(entry.skill_name)
        return []

    def _launches(self, now: datetime) -> list[Action]:
        if not self.may_launch() or not self._ready:
            return []
        for name in [name for name in self._delayed if self._is_due(name, now)]:
            self._delayed.discard(name)
            if name in self._ready:
                self._make_ready(name)
        actions = []
        while len(self._running) < self.state.max_parallel and (entry := self._first(now)):
            actions.append(self._start(entry, now))
        return actions

    def _make_ready(self, name: str) -> None:
        self._ready.add(name)
        heapq.heappush(self._queue, (-self._heights[name], self._order[name], name))

    def _first(self, now: datetime) -> SkillEntry | None:
        """The skill to launch: the one with the longest path of work behind it, of these the one added first.

        The queue may hold a skill that is no longer ready, or one at a place that it has left.
        """
        while self._queue:
            height, _, name = heapq.heappop(self._queue)
            if name not in self._ready or -height != self._heights[name]:
                continue
            if self._is_due(name, now):
                return self.entries[name]
            self._delayed.add(name)
        return None

    def _is_due(self, name: str, now: datetime) -> bool:
        return is_due(self.entries[name].retry_at, now)

    def _start(self, entry: SkillEntry, now: datetime) -> Action:
        self._ready.discard(entry.skill_name)
        self._running[entry.skill_name] = None
        entry.status, entry.retry_at, entry.stopping = Status.RUNNING, None, False
        entry.slot = self._free_slot(entry)
        if entry.stage is Stage.MERGING:
            return Merge(entry.skill_name, entry.attempt)
        if entry.expert_idx is None:
            entry.expert_idx = self.state.next_expert_idx
            self.state.next_expert_idx += 1
        entry.stage, entry.attempt, entry.started_at = Stage.LAUNCHING, entry.attempt + 1, now
        return Launch(entry.skill_name, entry.attempt)

    def _free_slot(self, entry: SkillEntry) -> int:
        taken = {self.entries[name].slot for name in self._running if name != entry.skill_name}
        free = (slot for slot in range(self.state.max_parallel) if slot not in taken)
        return next(free, len(self._running) % self.state.max_parallel)

    def _index(self, entry: SkillEntry) -> None:
        name = entry.skill_name
        self.entries[name] = entry
        self._order[name] = len(self._order)
        self._heights.setdefault(name, 0)
        for dependency in entry.dependencies:
            self._dependents.setdefault(dependency, []).append(name)
        self._missing[name] = {dependency for dependency in entry.dependencies if not self._is_completed(dependency)}
        if entry.is_usable:
            for dependent in self._dependents.get(name, ()):
                self._missing[dependent].discard(name)
        if entry.status is Status.RUNNING:
            self._running[name] = None
        if entry.status not in FINAL:
            self._unfinished.add(name)

    def _waiting_for_nothing(self) -> list[str]:
        return [name for name, entry in self.entries.items() if entry.status is Status.WAITING and not self._missing[name]]

    def _raise_heights(self, name: str) -> None:
        """The longest chain of skills that wait for each one; a new skill can only lengthen those behind it.

        A completed skill is never launched again: neither its height nor what it was built on matters.
        """
        pending = [name]
        while pending:
            current = pending.pop()
            for dependency in self.entries[current].dependencies if current in self.entries else ():
                if not self._is_completed(dependency) and self._heights.get(dependency, 0) <= self._heights[current]:
                    self._heights[dependency] = self._heights[current] + 1
                    if dependency in self._ready:
                        self._make_ready(dependency)
                    pending.append(dependency)

    def _is_completed(self, name: str) -> bool:
        return name in self.entries and self.entries[name].is_usable

    def _culprits(self, entry: SkillEntry) -> set[str]:
        """The failed or cancelled skills, near or far, for which it can never run."""
        culprits: set[str] = set()
        for dependency in (self.entries[name] for name in entry.dependencies if name in self.entries):
            if dependency.status is Status.BLOCKED:
                culprits.update(dependency.blocked_by)
            elif dependency.status in USELESS:
                culprits.add(dependency.skill_name)
        return culprits


def _add_minutes(entry: SkillEntry, end: datetime) -> None:
    """The time of an attempt that trained, and has ended, is added to that of the ones before it."""
    if entry.stage is Stage.TRAINING and entry.started_at is not None:
        trained_s = max(0.0, (end - entry.started_at).total_seconds())
        entry.minutes = round((entry.minutes or 0.0) + trained_s / 60, 3)


def _has_failed(event: object) -> bool:
    return isinstance(event, RunDied) or (isinstance(event, RunEnded) and event.outcome == "failed")


def _with_fewer_envs(entry: SkillEntry, error: str, too_many: int | None) -> str:
    """Memory ran out with ``too_many`` environments: the next attempt has half of them; says so in the error."""
    if too_many is None or too_many <= FEWEST_ENVS:
        return error
    entry.num_envs = max(FEWEST_ENVS, too_many // 2)
    reason, line_end, last_lines = error.partition("\n")
    return f"{reason}; the next attempt has {entry.num_envs} environments instead of {too_many}{line_end}{last_lines}"


def waiting_entry(event: SkillAdded) -> SkillEntry:
    """A skill as it is before anything has happened to it."""
    return SkillEntry(
        skill_name=event.name, skill_data=event.skill_data, dependencies=list(dict.fromkeys(event.dependencies))
    )


def backoff_s(name: str, retry: int) -> float:
    """Seconds before the ``retry``-th retry (from 1): doubling, with a jitter that is the same at each asking."""
    base = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (retry - 1))
    return base * random.Random(f"{name}/{retry}").uniform(0.75, 1.25)


def is_due(retry_at: datetime | None, now: datetime) -> bool:
    """Whether a skill may be tried now. A time further off than any backoff comes from a clock that jumped."""
    if retry_at is None:
        return True
    return retry_at <= now or retry_at - now > timedelta(seconds=2 * MAX_BACKOFF_S)
