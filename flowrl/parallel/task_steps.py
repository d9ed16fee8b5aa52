"""How many steps a task of a plan may take: a fixed number, or one that follows what the successes of its skill took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TIMES = 2
"""A task may take so many times the steps within which 95 % of its skill's successes came."""
FEWEST = 20
"""A skill that needs a step or two beside its table needs some more where the table is around the corner."""


def following(most_steps: int, fixed: int) -> int:
    """Steps for each unit of a task's count.

    Args:
        most_steps: what 95 % of the successes of the skill took at most, by its newest training.
        fixed: what the skill may take without that. However often it is trained, it never gets more than `TIMES` as many.
    """
    return min(max(FEWEST, TIMES * most_steps), TIMES * fixed)


def most_steps_in(skill_data: Mapping[str, Any]) -> int | None:
    """What the newest training of a skill in the library observed; None where it observed too few successes to say."""
    observed = skill_data.get("observed")
    steps = observed.get("most_steps") if isinstance(observed, dict) else None
    return steps if isinstance(steps, int) and steps > 0 else None
