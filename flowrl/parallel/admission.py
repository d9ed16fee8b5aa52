"""Which new skills a scheduler accepts, and the skills that are added before it runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from flowrl.errors import BadInput
from flowrl.parallel.events import SkillAdded
from flowrl.skills.graph import check_acyclic, names_graph


class EarlySkills:
    """Skills that were added before the scheduler runs: in any order, so that their dependencies are checked together.

    Args:
        root: the experiment's folder, for messages.
    """

    def __init__(self, root: Path):
        self._root = root
        self._events: dict[str, SkillAdded] = {}

    def __iter__(self) -> Iterator[SkillAdded]:
        return iter(self._events.values())

    def __len__(self) -> int:
        return len(self._events)

    def __contains__(self, name: str) -> bool:
        return name in self._events

    def add(self, event: SkillAdded) -> None:
        self._events[event.name] = event

    def clear(self) -> None:
        self._events = {}

    def check(self, known: Collection[str]) -> None:
        """Raises BadInput if a name is already ``known``, a dependency is unknown, or dependencies form a circle."""
        for name in self._events:
            check_is_new(name, known, self._root)
        check_acyclic(names_graph({event.name: event.dependencies for event in self}))
        for event in self:
            check_dependencies(event.name, event.dependencies, {*known, *self._events})


def check_is_new(name: str, known: Collection[str], root: Path) -> None:
    """Raises BadInput if a skill has this name already."""
    if name in known:
        raise BadInput(f"there is already a skill {name} in {root}; give the new one another name")


def check_not_on_itself(name: str, dependencies: Sequence[str]) -> None:
    """Raises BadInput if a skill depends on itself."""
    if name in dependencies:
        raise BadInput(f"these skills depend on each other in a circle: {name} -> {name}; drop that dependency")


def check_dependencies(name: str, dependencies: Sequence[str], known: Collection[str]) -> None:
    """Raises BadInput if a dependency is not a known skill."""
    if unknown := [dependency for dependency in dependencies if dependency not in known]:
        raise BadInput(
            f"{name} depends on {', '.join(unknown)}, which this experiment does not have; "
            f"add {unknown[0]} first, or remove it from the dependencies of {name}"
        )
