"""The scheduler's decisions: a state machine without a clock, a disk or a process.

Events go in, actions come out. The caller saves the state before it carries out the actions, so that each action is
recorded before it happens, and reports the outcome of each as the next event. An event about an attempt that the state
does not name (from an orphan, or a second report of the same end) changes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta

from flowrl.parallel.backoff import backoff_s, is_due
from flowrl.parallel.dependencies import Dependencies
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
    RehearsalAdded,
    Resumed,
    RetryRequested,
    RunDied,
    RunEnded,
    RunFound,
    RunReport,
    RunStopped,
    SkillAdded,
    Stopping,
    Ticked,
)
from flowrl.parallel.launch_queue import LaunchQueue
from flowrl.records.result import Outcome
from flowrl.records.scheduler_state import FINAL, USELESS, RehearsalEntry, SchedulerState, SkillEntry, Stage, Status

FEWEST_ENVS = 8
"""A run that is short of memory is never given fewer environments than this."""


class SchedulerCore:
    """Drives ``state``, which it owns. The cost of a decision grows with the number of ready skills, not of all skills.

    One class, because an event may change a skill, the queue, its dependents and the slots, which must stay consistent.

    Args:
        state: as loaded; its running entries are trusted until an event says otherwise.
        max_retries: further attempts after the first one has failed.
    """

    queue_type = LaunchQueue
    """Decides the order of launches; a subclass may use another, to compare the two."""

    def __init__(self, state: SchedulerState, *, max_retries: int):
        self.state = state
        self.max_retries = max_retries
        self.paused = True
        self.entries: dict[str, SkillEntry] = {}
        self._dependencies = Dependencies(self.entries)
        self._queue = self.queue_type(self.entries)
        self._running: dict[str, None] = {}
        for entry in state.entries:
            self._index(entry)
        for entry in reversed(state.skills):  # dependents mostly come later, so going backwards visits each once
            self._queue.raise_heights(entry.skill_name)
        for entry in state.entries:
            self._queue_if_ready(entry)

    def handle(self, event: object, now: datetime) -> list[Action]:
        """Takes one event, changes the state, and returns the actions to carry out, in order."""
        actions = self._react(event, now) + self._launches(now)
        self.state.currently_running = list(self._running)
        return actions

    def take_in(self, entry: SkillEntry) -> None:
        """Adds a skill that the state did not have."""
        self.state.skills.append(entry)
        self._index(entry)
        self._queue.raise_heights(entry.skill_name)
        self._queue_if_ready(entry)

    def take_in_rehearsal(self, entry: RehearsalEntry) -> None:
        """Adds a rehearsal that the state did not have."""
        self.state.rehearsals.append(entry)
        self._index(entry)

    def replace(self, entry: SkillEntry) -> None:
        """Replaces the entry of a skill or a rehearsal that turns out to be completed."""
        known = self.state.rehearsals if entry.is_rehearsal else self.state.skills
        position = next(i for i, other in enumerate(known) if other.skill_name == entry.skill_name)
        known[position] = entry
        self.entries[entry.skill_name] = entry
        self._leave_slot_and_queue(entry)
        self._free_dependents(entry.skill_name)
        self._unblock_dependents(entry.skill_name)
        self.state.currently_running = list(self._running)

    def is_complete(self) -> bool:
        """Whether every skill and every rehearsal has reached a final status."""
        newest_first = itertools.chain(reversed(self.state.rehearsals), reversed(self.state.skills))
        return all(entry.status in FINAL for entry in newest_first)  # the unfinished ones mostly come last

    def next_retry(self) -> datetime | None:
        """When the next skill in backoff may be tried, among those that a free slot was offered to; or the next rehearsal."""
        waiting = (entry.retry_at for entry in self.state.rehearsals if entry.status is Status.WAITING)
        return min((at for at in (self._queue.next_retry(), *waiting) if at), default=None)

    def may_launch(self) -> bool:
        """Whether a ready skill would be started now: launches are not paused, a slot is free, no rehearsal is under way."""
        is_rehearsing = any(self.entries[name].is_rehearsal for name in self._running)
        return not self.paused and len(self._running) < self.state.max_parallel and not is_rehearsing

    def _react(self, event: object, now: datetime) -> list[Action]:
        match event:
            case SkillAdded():
                return self._add(event, now)
            case RehearsalAdded():
                return self._add_rehearsal(event)
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
            case RunReport():
                entry = self.entries[event.name]
                return self._react_to_report(entry, event, now) if _is_news(entry, event) else []
        raise TypeError(f"not a scheduler event: {event!r}")

    def _react_to_report(self, entry: SkillEntry, event: RunReport, now: datetime) -> list[Action]:
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
        raise TypeError(f"not a report on a run: {event!r}")

    # New skills, and skills to retry or to train further.

    def _add(self, event: SkillAdded, now: datetime) -> list[Action]:
        entry = waiting_entry(event)
        self.take_in(entry)
        culprits = self._dependencies.culprits(entry)
        return self._block(entry, culprits, now) if culprits else []

    def _add_rehearsal(self, event: RehearsalAdded) -> list[Action]:
        self.take_in_rehearsal(RehearsalEntry(skill_name=event.name, skill_data=event.request))
        return []

    def _find(self, event: RunFound, now: datetime) -> list[Action]:
        entry = self.entries[event.name]
        if event.attempt < entry.attempt or entry.status in FINAL:
            return []
        entry.status, entry.stage, entry.attempt = Status.RUNNING, Stage.TRAINING, event.attempt
        entry.expert_idx = event.expert_idx
        if event.expert_idx is not None:
            self.state.next_expert_idx = max(self.state.next_expert_idx, event.expert_idx + 1)
        entry.tmux_session, entry.retry_at, entry.completed_at, entry.blocked_by = event.session, None, None, []
        entry.started_at = entry.started_at or now
        self._take_slot(entry)
        return []

    def _continue(self, event: ContinueRequested) -> list[Action]:
        entry = self.entries[event.name]
        if entry.status is Status.COMPLETED:
            entry.status, entry.extra_timesteps, entry.skill_data = Status.WAITING, event.frames, event.skill_data
            entry.retry_count, entry.retry_at, entry.error, entry.to_goal = 0, None, None, event.to_goal
            self._queue.push(event.name)
        return []

    def _retry_all(self) -> list[Action]:
        # An older rehearsal would go on from an outdated library.
        for entry in [*self.state.skills, *self.state.rehearsals[-1:]]:
            if entry.status in USELESS:
                is_trained = entry.stage is Stage.MERGING
                entry.status, entry.retry_count, entry.blocked_by = Status.WAITING, 0, []
                entry.completed_at, entry.retry_at = None, None
                entry.stage = Stage.MERGING if is_trained else None
                self._queue_if_ready(entry)
        return []

    # Launches and slots.

    def _launches(self, now: datetime) -> list[Action]:
        if not self.may_launch():
            return []
        if rehearsal := self._next_rehearsal(now):
            # It trains every expert: what is trained beside it would undo it, or be undone. So it runs alone.
            return [] if self._running else [self._start(rehearsal, now)]
        if not self._queue:
            return []
        self._queue.take_up_delayed(now)
        actions = []
        while len(self._running) < self.state.max_parallel and (entry := self._queue.pop(now)):
            actions.append(self._start(entry, now))
        return actions

    def _next_rehearsal(self, now: datetime) -> RehearsalEntry | None:
        waiting = (entry for entry in self.state.rehearsals if entry.status is Status.WAITING)
        return next((entry for entry in waiting if is_due(entry.retry_at, now)), None)

    def _start(self, entry: SkillEntry, now: datetime) -> Action:
        entry.status, entry.retry_at, entry.stopping = Status.RUNNING, None, False
        self._take_slot(entry)
        if entry.stage is Stage.MERGING:
            return Merge(entry.skill_name, entry.attempt)
        if entry.is_rehearsal:
            entry.num_skills = entry.num_skills or sum(skill.is_usable for skill in self.state.skills)
        elif entry.expert_idx is None:
            entry.expert_idx = self.state.next_expert_idx
            self.state.next_expert_idx += 1
        entry.stage, entry.attempt, entry.started_at = Stage.LAUNCHING, entry.attempt + 1, now
        return Launch(entry.skill_name, entry.attempt)

    def _take_slot(self, entry: SkillEntry) -> None:
        """Takes the first free slot; shares one if more runs were found than there are slots."""
        self._queue.discard(entry.skill_name)
        self._running[entry.skill_name] = None
        taken = {self.entries[name].slot for name in self._running if name != entry.skill_name}
        free = (slot for slot in range(self.state.max_parallel) if slot not in taken)
        entry.slot = next(free, len(self._running) % self.state.max_parallel)

    def _leave_slot_and_queue(self, entry: SkillEntry) -> None:
        self._running.pop(entry.skill_name, None)
        self._queue.discard(entry.skill_name)

    # The end of a run.

    def _end(self, entry: SkillEntry, event: RunEnded, now: datetime) -> list[Action]:
        if event.outcome == Outcome.COMPLETED or not entry.is_usable:  # otherwise these figures still describe its expert
            entry.frames, entry.goal_reached = event.frames, event.goal_reached
            entry.success_rate, entry.random_success_rate = event.success_rate, event.random_success_rate
            entry.frames_per_success = event.frames_per_success
            if entry.is_rehearsal:
                entry.achievements = event.achievements
        if event.outcome == Outcome.COMPLETED:
            entry.stage, entry.error = Stage.MERGING, None
            return [Merge(entry.skill_name, entry.attempt)]
        if event.outcome == Outcome.CANCELLED:
            entry.error = event.error or "cancelled in its pane"
            return self._finish(entry, Status.CANCELLED, now)
        error = _with_fewer_envs(entry, event.error or "the training failed", event.too_many_envs)
        return self._try_again(entry, error, now, event.hopeless)

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
        if not entry.is_rehearsal:
            self._queue.push(entry.skill_name)

    def _stop_all(self) -> list[Action]:
        for entry in (self.entries[name] for name in self._running):
            entry.stopping = entry.stage is Stage.TRAINING
        return []

    def _finish(self, entry: SkillEntry, status: Status, now: datetime) -> list[Action]:
        self._leave_slot_and_queue(entry)
        is_trained = entry.stage is Stage.MERGING and status is Status.FAILED
        entry.status, entry.stage, entry.completed_at = status, Stage.MERGING if is_trained else None, now
        entry.slot, entry.tmux_session, entry.retry_at, entry.stopping = None, None, None, False
        if entry.extra_timesteps is not None:
            return self._finish_further(entry, status)
        announced = [Announce(entry.skill_name, status)]
        if status is Status.COMPLETED:
            entry.skill_data, entry.error, entry.run_folder = None, None, None
            self._free_dependents(entry.skill_name)
            return announced
        return announced + self._block_dependents(entry.skill_name, now)

    def _finish_further(self, entry: SkillEntry, status: Status) -> list[Action]:
        """A skill that was trained further stays completed, however that ended; its ``error`` keeps what went wrong."""
        error = None if status is Status.COMPLETED else f"not trained further: {entry.error}"
        entry.extra_timesteps, entry.to_goal, entry.status, entry.stage = None, False, Status.COMPLETED, None
        entry.skill_data, entry.run_folder, entry.error = None, None, error
        return [Announce(entry.skill_name, Status.COMPLETED)]

    # The skills that depend on it.

    def _free_dependents(self, name: str) -> None:
        for freed in self._dependencies.complete(name):
            self._queue.push(freed.skill_name)

    def _block(self, entry: SkillEntry, culprits: Sequence[str], now: datetime) -> list[Action]:
        entry.status, entry.blocked_by, entry.completed_at = Status.BLOCKED, list(culprits), now
        entry.retry_at, entry.stage = None, None
        self._queue.discard(entry.skill_name)
        return [Announce(entry.skill_name, Status.BLOCKED), *self._block_dependents(entry.skill_name, now)]

    def _block_dependents(self, name: str, now: datetime) -> list[Action]:
        waiting = [entry for entry in self._dependencies.dependents(name) if entry.status is Status.WAITING]
        return [action for entry in waiting for action in self._block(entry, self._dependencies.culprits(entry), now)]

    def _unblock_dependents(self, name: str) -> None:
        """Skills blocked by one that turns out to be completed wait again, unless another skill blocks them too."""
        for dependent in self._dependencies.dependents(name):
            if dependent.status is not Status.BLOCKED:
                continue
            dependent.blocked_by = self._dependencies.culprits(dependent)
            if not dependent.blocked_by:
                dependent.status, dependent.completed_at = Status.WAITING, None
                self._queue_if_ready(dependent)
            self._unblock_dependents(dependent.skill_name)

    def _queue_if_ready(self, entry: SkillEntry) -> None:
        if not entry.is_rehearsal and entry.status is Status.WAITING and self._dependencies.are_met(entry.skill_name):
            self._queue.push(entry.skill_name)

    def _index(self, entry: SkillEntry) -> None:
        self.entries[entry.skill_name] = entry
        self._queue.add(entry.skill_name)
        self._dependencies.add(entry)
        if entry.status is Status.RUNNING:
            self._running[entry.skill_name] = None


def _is_news(entry: SkillEntry, event: RunReport) -> bool:
    """Whether a report is about the current attempt and its current stage: neither late nor a duplicate."""
    is_of_this_attempt = entry.status is Status.RUNNING and entry.attempt == event.attempt
    return is_of_this_attempt and (entry.stage is Stage.MERGING) == isinstance(event, Merged | MergeFailed)


def _add_minutes(entry: SkillEntry, end: datetime) -> None:
    """Adds the training time of an attempt that has ended to that of the earlier ones."""
    if entry.stage is Stage.TRAINING and entry.started_at is not None:
        trained_s = max(0.0, (end - entry.started_at).total_seconds())
        entry.minutes = round((entry.minutes or 0.0) + trained_s / 60, 3)


def _has_failed(event: object) -> bool:
    """Whether this may be the work of whoever ended the run; no end makes a run hopeless."""
    return isinstance(event, RunDied) or (isinstance(event, RunEnded) and event.outcome == "failed" and not event.hopeless)


def _with_fewer_envs(entry: SkillEntry, error: str, too_many: int | None) -> str:
    """If memory ran out with ``too_many`` environments, halves them for the next attempt, and says so in the error."""
    if too_many is None or too_many <= FEWEST_ENVS:
        return error
    entry.num_envs = max(FEWEST_ENVS, too_many // 2)
    reason, line_end, last_lines = error.partition("\n")
    return f"{reason}; the next attempt has {entry.num_envs} environments instead of {too_many}{line_end}{last_lines}"


def waiting_entry(event: SkillAdded) -> SkillEntry:
    """The entry of a new skill."""
    return SkillEntry(
        skill_name=event.name,
        skill_data=event.skill_data,
        dependencies=list(dict.fromkeys(event.dependencies)),
        never_done=bool(event.skill_data.get("never_done")),
    )
