"""What a skill's successful episodes needed, spent and gained, held against what it declares; a part of ``result.json``.

Only tries at the skill's own task count: from the step in which it became active to the one that ended it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DifferenceKind(StrEnum):
    """How what was observed differs from what is declared."""

    GAIN_NOT_OBSERVED = "gain not observed"
    GAIN_NOT_DECLARED = "gain not declared"
    CONSUMPTION = "consumption"
    NEED_NOT_DECLARED = "need not declared"
    REQUIREMENT_NOT_HELD = "requirement not held"


@dataclass(frozen=True)
class Difference:
    """One difference, with its figures in words."""

    kind: DifferenceKind
    resource: str
    text: str


@dataclass(frozen=True)
class ObservedResource:
    """One resource in the tries at a skill's task; shares are of the successful ones, except where it says otherwise."""

    held_before: float
    """Share that held some of it as the task began."""
    held_before_failures: float | None
    """The same share of the failed tries; None without any."""
    requirement_held: float | None
    """Share that held what the skill declares to need as the task began; None if it declares no such need."""
    gain_held: float | None
    """Share that held the declared gain at the end; None if it declares none."""
    gained: float | None
    """Share with more of it at the end than at the start, of those that could get more; None if none could."""
    spent: float
    """Share with less of it at the end than at the start."""
    change: float
    """Median of the change over the task."""


@dataclass(frozen=True)
class Observed:
    """What the tries at a skill's own task showed."""

    n: int
    """How often the task was to be done."""
    successes: int
    failures: int
    resources: dict[str, ObservedResource]
    """Those that the skill declares, that changed in a tenth of the successes, or that a difference is about."""
    differences: tuple[Difference, ...]
    most_steps: int | None = None
    """Steps within which 95 % of the successes came, for each unit of ``n``; None with too few successes to say."""
    added_gains: tuple[str, ...] = ()
    """What the library adds to the skill's gains, one of each: achievements that nearly all successes unlocked."""

    @property
    def lines(self) -> list[str]:
        """The differences in words."""
        return [difference.text for difference in self.differences]
