"""Rehearsals in the course of an experiment: after every few skills, and once more when all have been trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flowrl.records.rehearsal_settings import RehearsalRequest

_FINAL = ("completed", "failed", "cancelled", "blocked")
Entry = Mapping[str, Any]
"""One entry of ``skills`` or ``rehearsals`` in scheduler_state.json."""


class Scheduler(Protocol):
    """What is needed of :class:`flowrl.parallel.scheduler.SkillScheduler`."""

    @property
    def state(self) -> Mapping[str, Any]: ...

    def add_rehearsal(self, request: RehearsalRequest) -> str: ...


class Rehearsals:
    """Asks for a rehearsal when one is due.

    Args:
        every: skills that are new in the library since the one before; None: never.
        say: takes a line for the terminal.
    """

    def __init__(self, scheduler: Scheduler, every: int | None, request: RehearsalRequest, say: Callable[[str], None]):
        self._scheduler, self._every, self._request, self._say = scheduler, every, request, say

    def look(self) -> None:
        """Asks for one if enough skills are new. One at a time: while one is under way, none is added."""
        if self._every and self._num_new() >= self._every:
            self._add()

    def look_at_the_end(self) -> bool:
        """Asks for the last one if all skills have ended and any is new; returns whether nothing more is to come."""
        if not self._every:
            return True
        state = self._scheduler.state
        if not all(entry["status"] in _FINAL for entry in (*state["skills"], *state["rehearsals"])):
            return False
        if self._num_new() < 1:
            return True
        self._add()
        return False

    def _num_new(self) -> int:
        """Skills that have come into the library since the last rehearsal; 0 while one is under way."""
        state = self._scheduler.state
        rehearsals = state["rehearsals"]
        if any(entry["status"] not in _FINAL for entry in rehearsals):
            return 0
        known = max((entry["num_skills"] for entry in rehearsals), default=0)
        return sum(skill["status"] == "completed" for skill in state["skills"]) - known

    def _add(self) -> None:
        name = self._scheduler.add_rehearsal(self._request)
        self._say(f"rehearsal  {name}: {self._request.frames:,} frames with the library as it is")
