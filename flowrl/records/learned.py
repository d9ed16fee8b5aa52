"""Which skills count as learned: those that reach their goal where chance does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

GOAL = 0.8
"""The success rate from which a skill of a library counts as learned, where no run names its own goal."""
BY_CHANCE = 0.9
"""What a random policy does in so many worlds is not learned, however well the experts do it. Such a skill stays usable."""
RARE_BY_CHANCE = 0.5
"""Below this rate of the random policy, a skill that counts as learned is one that has to be learned."""
HOPELESS_RATE = 0.02
"""A success rate that is no progress. Of 22 skills of Craftax-Classic, five never succeeded, and only these were no better
after 500,000 frames."""


def is_done_by_chance(random_success_rate: float | None) -> bool:
    """Whether a random policy does the skill anyway; not where its rate was not measured."""
    return random_success_rate is not None and random_success_rate >= BY_CHANCE


def counts_as_learned(reaches_goal: bool | None, random_success_rate: float | None) -> bool:
    """Whether a skill counts as learned.

    Args:
        reaches_goal: whether its success rate is at least the goal; None if that is not known.
    """
    return bool(reaches_goal) and not is_done_by_chance(random_success_rate)


def num_learned(rows: Iterable[Mapping[str, Any]]) -> int:
    """How many skills an evaluation of the whole library found learned.

    Args:
        rows: ``skills`` of evaluation.json.
    """
    return sum(row.get("is_learned") is True for row in rows)


def why_not_learned(skill_name: str, random_success_rate: float | None) -> str | None:
    """The line about a skill that is done by chance; None about any other."""
    if not is_done_by_chance(random_success_rate):
        return None
    return f"{skill_name}: a random policy does it in {random_success_rate:.2f} of worlds; it does not count as learned"
