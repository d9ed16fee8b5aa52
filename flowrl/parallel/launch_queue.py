"""The skills that are ready to be launched, the one with the longest chain of skills behind it first."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from datetime import datetime

from flowrl.parallel.backoff import is_due
from flowrl.records.scheduler_state import SkillEntry


class LaunchQueue:
    """Ready skills in the order of their launch: longest chain first, then the one that was added first.

    How long a training takes is not known, so the length of a chain is its number of skills. The cost of a decision
    grows with the number of ready skills, not of all skills.

    Args:
        entries: every skill by name; the core's own, which it keeps up to date.
    """

    def __init__(self, entries: Mapping[str, SkillEntry]):
        self._entries = entries
        self._heights: dict[str, int] = {}
        self._order: dict[str, int] = {}
        self._ready: set[str] = set()
        self._heap: list[tuple[int, int, str]] = []  # each skill that was ever ready, once for each priority it had
        self._delayed: set[str] = set()  # skills still in backoff when they could have been launched

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, name: str) -> None:
        """Adds a new skill; among equals, the one added first comes first."""
        self._order[name] = len(self._order)
        self._heights.setdefault(name, 0)

    def raise_heights(self, name: str) -> None:
        """Lengthens the chains behind what ``name`` waits for; a new skill can only lengthen those.

        A completed skill is never launched again, so neither its height nor its dependencies matter.
        """
        pending = [name]
        while pending:
            current = pending.pop()
            for dependency in self._entries[current].dependencies if current in self._entries else ():
                if not self._is_completed(dependency) and self._heights.get(dependency, 0) <= self._heights[current]:
                    self._heights[dependency] = self._heights[current] + 1
                    if dependency in self._ready:
                        self.push(dependency)
                    pending.append(dependency)

    def push(self, name: str) -> None:
        """Adds a ready skill, which may still be in backoff."""
        self._ready.add(name)
        heapq.heappush(self._heap, (-self._heights[name], self._order[name], name))

    def discard(self, name: str) -> None:
        """Removes a skill that is not ready (any more)."""
        self._ready.discard(name)

    def take_up_delayed(self, now: datetime) -> None:
        """Puts skills whose backoff is over back into the queue."""
        for name in [name for name in self._delayed if self._is_due(name, now)]:
            self._delayed.discard(name)
            if name in self._ready:
                self.push(name)

    def pop(self, now: datetime) -> SkillEntry | None:
        """Takes out the skill to launch now; None if none is due."""
        while self._heap:
            height, _, name = heapq.heappop(self._heap)
            if name not in self._ready or -height != self._heights[name]:
                continue  # no longer ready, or an outdated priority
            if self._is_due(name, now):
                self._ready.discard(name)
                return self._entries[name]
            self._delayed.add(name)
        return None

    def next_retry(self) -> datetime | None:
        """When the next skill may be tried, among those in backoff when a slot was free."""
        return min((at for name in self._delayed & self._ready if (at := self._entries[name].retry_at)), default=None)

    def _is_due(self, name: str, now: datetime) -> bool:
        return is_due(self._entries[name].retry_at, now)

    def _is_completed(self, name: str) -> bool:
        return name in self._entries and self._entries[name].is_usable
