"""The interface between the front door and a proposer of skills."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from flowrl.errors import FlowrlError
from flowrl.skills.candidates import Offer
from flowrl.skills.facts import GameFacts
from flowrl.skills.spec import SkillSpec


class ProposerError(FlowrlError):
    """The proposer cannot go on. Trainings under way continue."""


@dataclass(frozen=True)
class Measured:
    """The result of a skill's training; None for what was not measured."""

    success_rate: float | None = None
    random_success_rate: float | None = None
    """The rate of a random policy on the same task."""
    frames: int | None = None
    """The frames that its run trained."""
    frames_per_success: float | None = None
    """Steps of all fresh episodes behind the rate, failures included, per success."""


@dataclass(frozen=True)
class LibraryView:
    """What a proposer may know about an experiment when it is asked for the next skill."""

    facts: GameFacts
    completed: Mapping[str, SkillSpec]
    """The library: skills trained and merged, in the order in which they were added."""
    training: Mapping[str, SkillSpec] = field(default_factory=dict)
    """Skills that are still waiting or running."""
    unavailable: frozenset[str] = frozenset()
    """Names that are taken but cannot be built on: failed, cancelled and blocked skills."""
    reserved: frozenset[str] = frozenset()
    """Names that are taken by skills that are never done: nothing can build on them, whatever their status."""
    measured: Mapping[str, Measured] = field(default_factory=dict)
    """Results of completed skills, by name."""
    differences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By name of a completed skill: how what its training observed differs from what it declares, a line each."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """By name of an unavailable skill: why it cannot be built on."""

    @property
    def available(self) -> dict[str, SkillSpec]:
        """What a new skill may depend on."""
        return {**self.completed, **self.training}

    def knows(self, skill_name: str) -> bool:
        """Whether the name is taken, in whatever state the skill is."""
        return skill_name in self.available or skill_name in self.unavailable or skill_name in self.reserved


Examined = TypeVar("Examined")


class Proposer(Protocol):
    """Proposes one skill at a time. It may be slow, and it may be wrong: the caller examines each skill that it proposes.

    The proposer decides what to do about a skill that does not pass: repair it, find another, or give up.
    """

    @property
    def state(self) -> dict[str, Any]:
        """For the state file: ``kind``, ``cost_usd``, ``last_error``. May be read while ``propose`` runs."""

    def prepare(self, is_resumed: bool) -> None:
        """Checks, before anything is trained, what can be checked then. Touches no file.

        Args:
            is_resumed: there are skills already, and they must not wait.

        Raises:
            BadInput: this proposer will not be able to propose; says what to do.
        """

    def propose(self, library: LibraryView, examine: Callable[[Offer], Examined]) -> Examined | None:
        """The next skill that passes, as ``examine`` returns it, or None: there is nothing more to propose.

        Args:
            examine: the caller's checks. Drops the rewards of an offer that cannot be trained, and raises ``BadInput``
                if the skill cannot be trained.

        Raises:
            FlowrlError: it cannot go on; says why. A ``BadInput`` comes from ``examine``, if this proposer cannot
                repair a skill.
        """

    def accepted(self, spec: SkillSpec) -> None:
        """Called when the skill returned last has become part of the experiment."""

    def num_left(self, library: LibraryView) -> int | None:
        """The most skills that it could still propose; None if that is not known."""

    def describe(self) -> str:
        """One line for the user: who proposes, and what it costs."""
