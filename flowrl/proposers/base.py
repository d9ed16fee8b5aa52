"""What the front door asks of whoever proposes skills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from flowrl.errors import BadInput, FlowrlError
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


class Proposer(Protocol):
    """Proposes one skill at a time. It may be slow, and it may be wrong: the caller checks what it is given.

    After each proposal the caller says what became of it, with ``refused`` or ``accepted``, before it asks again.
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

    def propose(self, library: LibraryView) -> SkillSpec | None:
        """The next skill, or None: there is nothing more to propose.

        Raises:
            FlowrlError: it cannot go on; says why.
        """

    def refused(self, spec: SkillSpec, error: BadInput) -> None:
        """The last proposal cannot be trained. To be asked again, mended or with another skill; or raises ``error``."""

    def dropped(self, spec: SkillSpec, number: int, error: BadInput) -> None:
        """One of the several rewards of the last proposal cannot be trained. Said before ``refused``, or ``accepted``.

        Args:
            number: of the reward; 1 is the skill's ``task_reward``, its ``candidates`` follow.
        """

    def accepted(self, spec: SkillSpec) -> None:
        """The last proposal is a skill of the experiment now."""

    def describe(self) -> str:
        """One line for a person: who proposes, and what it costs."""
