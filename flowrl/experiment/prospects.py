"""What whole episodes would gain if a skill became better: an estimate, from how often each skill succeeds at its own task.

An achievement comes with a skill, and the skill after the tasks before it in its plan. So its rate is taken to be the product
of the rates of all those skills; of several skills that unlock it, the best counts. What an episode unlocks is the sum over all
achievements. A planner tries a task again that has failed, so episodes unlock more than that, but a skill that stands in the
way of many achievements stands out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from flowrl.evaluation.library import LibrarySkill
from flowrl.skills.facts import GameFacts
from flowrl.skills.graph import goals_of


class Way(NamedTuple):
    """A skill that unlocks something: the skills of its plan, its own last."""

    skills: tuple[str, ...]

    def rate(self, rates: Mapping[str, float]) -> float:
        return prod(rates.get(name, 0.0) for name in self.skills)


@dataclass(frozen=True)
class Prospects:
    """The ways to each achievement, with what it is worth."""

    ways: Mapping[str, tuple[Way, ...]]
    values: Mapping[str, float]
    what: str = "achievements"
    """What an episode unlocks."""

    @classmethod
    def of(cls, skills: Sequence[LibrarySkill], facts: GameFacts) -> Prospects:
        """Of a library. Where no skill unlocks an achievement, as in a game without any, each skill is worth the same."""
        done = [skill for skill in skills if not skill.spec.never_done]
        unlocks = {skill.name: goals_of(skill.spec, facts) for skill in done}
        what = "achievements" if any(unlocks.values()) else "skills"
        if what == "skills":
            unlocks = {skill.name: {skill.name} for skill in done}
        ways: dict[str, tuple[Way, ...]] = {}
        for skill in done:
            way = Way(tuple(dict.fromkeys(task.skill_name for task in skill.plan)))
            for goal in sorted(unlocks[skill.name]):
                ways[goal] = (*ways.get(goal, ()), way)
        return cls(ways, {goal: facts.goal_values.get(goal, 1.0) for goal in ways}, what)

    def unlocked(self, rates: Mapping[str, float]) -> float:
        """What an episode unlocks, each achievement with its value.

        Args:
            rates: of each skill's tries at its own task; one that is not named never succeeds.
        """
        return sum(self.values[goal] * max(way.rate(rates) for way in ways) for goal, ways in self.ways.items())

    def gain(self, name: str, rates: Mapping[str, float], goal: float) -> float:
        """By how much that would rise if one skill reached ``goal``; 0 if it is there already."""
        if rates.get(name, 0.0) >= goal:
            return 0.0
        return self.unlocked({**rates, name: goal}) - self.unlocked(rates)
