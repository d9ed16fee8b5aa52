"""What the front door asks of whoever proposes skills."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from flowrl.errors import FlowrlError
from flowrl.skills.candidates import Offer
from flowrl.skills.facts import GameFacts
from flowrl.skills.spec import SkillSpec


class ProposerError(FlowrlError):
    """Whoever proposes skills cannot go on. What is in training goes on."""


@dataclass(frozen=True)
class Measured:
    """What the training of a skill came to; None for what was not measured."""

    success_rate: float | None = None
    random_success_rate: float | None = None
    """Of a random policy on the same task."""
    frames: int | None = None
    """That its run trained."""
    frames_per_success: float | None = None
    """Steps of all fresh episodes behind the rate, failures included, for each success."""


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
    measured: Mapping[str, Measured] = field(default_factory=dict)
    """Of completed skills, by name."""

    @property
    def available(self) -> dict[str, SkillSpec]:
        """What a new skill may depend on."""
        return {**self.completed, **self.training}

    def knows(self, skill_name: str) -> bool:
        """Whether the name is taken, whatever became of the skill."""
        return skill_name in self.available or skill_name in self.unavailable


Examined = TypeVar("Examined")


class Proposer(Protocol):
    """Proposes one skill at a time. It may be slow, and it may be wrong: the caller examines each skill that it has found.

    What to do about a skill that does not pass is the proposer's own affair: it repairs it, finds another, or gives up.
    """

    @property
    def state(self) -> dict[str, Any]:
        """For the state file: ``kind``, ``cost_usd``, ``last_error``. May be read while ``propose`` is at work."""

    def prepare(self, is_resumed: bool) -> None:
        """Finds out, before anything is trained, what can be found out then. Touches no file.

        Args:
            is_resumed: there are skills already, and they are not to wait.

        Raises:
            BadInput: this proposer will not be able to propose; says what to do.
        """

    def propose(self, library: LibraryView, examine: Callable[[Offer], Examined]) -> Examined | None:
        """What the caller makes of the next skill that passes, or None: there is nothing more to propose.

        Args:
            examine: the caller's checks. Drops the rewards of an offer that cannot be trained, and raises ``BadInput`` where
                the skill cannot be trained at all.

        Raises:
            FlowrlError: it cannot go on; says why. ``BadInput`` is ``examine``'s, where this proposer cannot repair a skill.
        """

    def accepted(self, spec: SkillSpec) -> None:
        """The skill that was returned last is now part of the experiment."""

    def num_left(self, library: LibraryView) -> int | None:
        """How many more skills it could propose at most; None if that is not known."""

    def describe(self) -> str:
        """One line for a person: who proposes, and what it costs."""
