"""What the front door asks of whoever proposes skills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from flowrl.skills.facts import GameFacts
from flowrl.skills.spec import SkillSpec


@dataclass(frozen=True)
class LibraryView:
    """What a proposer may know of an experiment when it is asked for the next skill."""

    facts: GameFacts
    completed: Mapping[str, SkillSpec]
    """The library: trained and merged, in the order in which they were added."""
    training: Mapping[str, SkillSpec] = field(default_factory=dict)
    """Added, and still waiting or running."""
    unavailable: frozenset[str] = frozenset()
    """Names that are taken but cannot be built upon: failed, cancelled and blocked skills."""

    @property
    def available(self) -> dict[str, SkillSpec]:
        """What a new skill may depend on."""
        return {**self.completed, **self.training}

    def knows(self, skill_name: str) -> bool:
        """Whether the name is taken, whatever became of the skill."""
        return skill_name in self.available or skill_name in self.unavailable


class Proposer(Protocol):
    """Proposes one skill at a time. It may be slow, and it may be wrong: the caller checks what it is given."""

    @property
    def state(self) -> dict[str, Any]:
        """For the state file: ``kind``, ``cost_usd``, ``last_error``."""

    def propose(self, library: LibraryView) -> SkillSpec | None:
        """The next skill, or None: there is nothing more to propose."""

    def describe(self) -> str:
        """One line for a person: who proposes, and what it costs."""
