"""Which skill waits for which: what is missing, what a completion frees, and what can never run."""

from __future__ import annotations

from collections.abc import Mapping

from flowrl.records.scheduler_state import USELESS, SkillEntry, Status


class Dependencies:
    """The dependency graph of an experiment's skills. A dependency may be named before it is added.

    Args:
        entries: every skill by name; the core's own, which it keeps up to date.
    """

    def __init__(self, entries: Mapping[str, SkillEntry]):
        self._entries = entries
        self._dependents: dict[str, list[str]] = {}
        self._missing: dict[str, set[str]] = {}

    def add(self, entry: SkillEntry) -> None:
        """Adds a new skill, which ``entries`` already has."""
        for dependency in entry.dependencies:
            self._dependents.setdefault(dependency, []).append(entry.skill_name)
        self._missing[entry.skill_name] = {name for name in entry.dependencies if not self._is_completed(name)}
        if entry.is_usable:
            self.complete(entry.skill_name)

    def complete(self, name: str) -> list[SkillEntry]:
        """Notes that the skill is in the library. Returns the waiting skills that lacked only this one."""
        freed = []
        for dependent in self.dependents(name):
            self._missing[dependent.skill_name].discard(name)
            if self.are_met(dependent.skill_name) and dependent.status is Status.WAITING:
                freed.append(dependent)
        return freed

    def are_met(self, name: str) -> bool:
        """Whether all dependencies of the skill are in the library."""
        return not self._missing[name]

    def dependents(self, name: str) -> list[SkillEntry]:
        """The skills that need this one directly."""
        return [self._entries[dependent] for dependent in self._dependents.get(name, ())]

    def culprits(self, entry: SkillEntry) -> list[str]:
        """The failed or cancelled skills, among all that it directly or indirectly needs, that keep it from ever
        running; sorted."""
        culprits: set[str] = set()
        for dependency in (self._entries[name] for name in entry.dependencies if name in self._entries):
            if dependency.status is Status.BLOCKED:
                culprits.update(dependency.blocked_by)
            elif dependency.status in USELESS:
                culprits.add(dependency.skill_name)
        return sorted(culprits)

    def _is_completed(self, name: str) -> bool:
        return name in self._entries and self._entries[name].is_usable
