"""The frontier: what the library and the skills in training can reach, and what a new skill still needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from flowrl.skills.facts import GameFacts
from flowrl.skills.graph import needs, provides
from flowrl.skills.spec import SkillSpec


def reachable_skills(skills: Mapping[str, SkillSpec], facts: GameFacts) -> dict[str, SkillSpec]:
    """The skills that can be done from a fresh world, using what the others among them provide, in order."""
    reached: dict[str, SkillSpec] = {}
    waiting = dict(skills)
    while ready := {name: spec for name, spec in waiting.items() if not missing(spec, reached, facts)}:
        reached |= ready
        waiting = {name: spec for name, spec in waiting.items() if name not in ready}
    return reached


def missing(spec: SkillSpec, available: Mapping[str, SkillSpec], facts: GameFacts) -> list[str]:
    """The resources that a skill needs and no available skill provides."""
    return [
        resource
        for resource, level in needs(spec, facts).items()
        if not any(provides(other, resource, level, facts) for name, other in available.items() if name != spec.name)
    ]


def feasible(spec: SkillSpec, available: Mapping[str, SkillSpec], facts: GameFacts) -> bool:
    """Whether a skill can be reached from a fresh world with the available ones."""
    return not missing(spec, reachable_skills(available, facts), facts)


def blocked_by(dependencies: Collection[str], training: Collection[str]) -> list[str]:
    """The dependencies that are still in training: while there are any, the frontier is blocked."""
    return [name for name in dependencies if name in training]
