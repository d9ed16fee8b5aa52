"""Which skill of a library is most like a new one: its expert is what the new one's starts from (``--init_from auto``).

Skills are alike if they are done in the same way: two skills that find things of one kind (blocks, creatures), that craft
beside the same thing, that use something up on the spot, or that lead to another place. Of those, the one comes first that
finds the same thing; then the one with the same things beside it, with the same kind of gain, that needs most of the same
things, directly or through the skills that provide them; then the one that was added last. So coal starts from stone, and
iron, which needs a better pickaxe, from coal.

What is crafted, placed or drunk, or collected without looking for anything, takes one action that no other skill takes so, and
an expert that has learned anything has given up the actions that brought it nothing: there a fresh expert, which tries all of
them, comes before any other.

Being *weakly* alike is better than nothing: a skill that is done in the same way, but gains or uses up something of another
kind; or, for a skill that meets something, one that collects without looking for anything, and so tries whatever is in front
of the player. A skill that is never done, and plays for the game's own reward, goes before these.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, auto

from flowrl.skills.facts import GameFacts, Kind
from flowrl.skills.graph import needs, provider
from flowrl.skills.sights import Sight, sights_of
from flowrl.skills.spec import SkillSpec


class _Way(Enum):
    """How a skill is done."""

    FIND = auto()
    """It gets to a thing, and uses nothing up."""
    COLLECT_BLINDLY = auto()
    """It collects a stock without looking for anything."""
    CRAFT = auto()
    """It uses something up beside something."""
    USE_UP = auto()
    """It uses something up on the spot: what is placed, drunk or shot."""
    TRAVEL = auto()
    """It leads to another place."""
    OTHER = auto()


class _Likeness(IntEnum):
    NONE = 0
    WEAK = 1
    STRONG = 2


@dataclass(frozen=True)
class _Traits:
    """What likeness is judged by."""

    way: _Way
    finds: frozenset[Sight]
    gains: frozenset[Kind | None]
    """Of what kind its gains are; None: a goal of the game, of a skill that gains nothing else."""
    beside: frozenset[str]
    """What has to be next to the player."""
    uses_up: frozenset[str]
    needs: frozenset[tuple[str, int | float]]
    """Directly or through the skills that provide it."""


def relatives(spec: SkillSpec, library: Mapping[str, SkillSpec], facts: GameFacts) -> list[str | None]:
    """What a new skill's expert may start from, the best first; None is a fresh expert.

    Args:
        spec: the new skill.
        library: the completed skills by name, in the order in which they were added.
    """
    if spec.never_done:
        return [None]
    others = {name: other for name, other in library.items() if name != spec.name and not other.never_done}
    traits = _traits(spec, others, facts)
    ranked = [
        (*_rank(traits, _traits(other, others, facts)), position, name) for position, (name, other) in enumerate(others.items())
    ]
    ranked.sort(reverse=True)
    strong, weak = (
        [name for likeness, *_, name in ranked if likeness is wanted] for wanted in (_Likeness.STRONG, _Likeness.WEAK)
    )
    explorers = [name for name, other in library.items() if other.never_done]
    if traits.way in (_Way.CRAFT, _Way.USE_UP, _Way.COLLECT_BLINDLY):
        return [None, *strong, *explorers, *weak]
    return [*strong, *explorers, *weak, None]


def _rank(traits: _Traits, other: _Traits) -> tuple[_Likeness, float, float, bool, float]:
    return (
        _likeness(traits, other),
        _overlap(traits.finds, other.finds),
        _overlap(traits.beside, other.beside),
        not traits.gains.isdisjoint(other.gains),
        _overlap(traits.needs, other.needs),
    )


def _likeness(traits: _Traits, other: _Traits) -> _Likeness:
    meets = traits.way is _Way.FIND and traits.gains == {None}
    if meets and other.way is _Way.COLLECT_BLINDLY:
        return _Likeness.WEAK
    if traits.way is not other.way or traits.way in (_Way.OTHER, _Way.COLLECT_BLINDLY):
        return _Likeness.NONE
    if traits.way is _Way.FIND:
        return _likeness_of_finding(traits, other)
    shared = {_Way.CRAFT: traits.beside & other.beside, _Way.USE_UP: traits.uses_up & other.uses_up, _Way.TRAVEL: True}
    return _Likeness.STRONG if shared[traits.way] else _Likeness.WEAK


def _likeness_of_finding(traits: _Traits, other: _Traits) -> _Likeness:
    if _constants(traits.finds).isdisjoint(_constants(other.finds)):
        return _Likeness.NONE
    is_close = traits.finds & other.finds or traits.gains & other.gains
    return _Likeness.STRONG if is_close else _Likeness.WEAK


def _traits(spec: SkillSpec, skills: Mapping[str, SkillSpec], facts: GameFacts) -> _Traits:
    kinds = {resource: facts.kind(resource) for resource in (*spec.gains, *needs(spec, facts))}
    beside = frozenset(resource for resource in needs(spec, facts) if kinds[resource] is Kind.NEARNESS)
    others = [resource for resource in spec.gains if not resource.startswith(f"{facts.goals}:")]
    finds = _things_named(spec, facts) or frozenset(sights_of(spec, facts))
    gains = frozenset(kinds[resource] for resource in others) or frozenset([None])
    way = _Way.OTHER if _is_about_no_thing(others, facts) else _way(spec, gains, finds, beside)
    return _Traits(way, finds, gains, beside, frozenset(spec.consumes), _all_needs(spec, skills, facts))


def _way(spec: SkillSpec, gains: Collection[Kind | None], finds: Collection[Sight], beside: Collection[str]) -> _Way:
    if Kind.PLACE in gains:
        return _Way.TRAVEL
    if spec.consumes:
        return _Way.CRAFT if beside else _Way.USE_UP
    if beside:
        return _Way.OTHER
    if finds:
        return _Way.FIND
    return _Way.COLLECT_BLINDLY if Kind.STOCK in gains else _Way.OTHER


def _is_about_no_thing(gains: Collection[str], facts: GameFacts) -> bool:
    """Whether a skill brings about something around the player that is no thing, such as a shelter: that takes many steps."""
    things = {member for sights in facts.sights for member in facts.constants[sights.constant]}
    return any(facts.kind(gain) is Kind.NEARNESS and gain.partition(":")[2] not in things for gain in gains)


def _things_named(spec: SkillSpec, facts: GameFacts) -> frozenset[Sight]:
    """The things in the names of the skill and of the goals that it gains, as ``COW`` in ``achievement:EAT_COW``."""
    goals = (resource.partition(":")[2] for resource in spec.gains if resource.startswith(f"{facts.goals}:"))
    names = [f"_{name.upper()}_" for name in (spec.name, *goals)]
    return frozenset(
        (sights.constant, member)
        for sights in facts.sights
        for member in facts.constants[sights.constant]
        if any(f"_{member}_" in name for name in names)
    )


def _all_needs(spec: SkillSpec, skills: Mapping[str, SkillSpec], facts: GameFacts) -> frozenset[tuple[str, int | float]]:
    found: set[tuple[str, int | float]] = set()
    seekers = [spec]
    while seekers:
        seeker = seekers.pop()
        for resource, level in needs(seeker, facts).items():
            need = (resource, level if facts.kind(resource) is Kind.POSSESSION else 1)
            if need not in found:
                found.add(need)
                seekers += filter(None, [provider(resource, level, skills, facts, seeker.name)])
    return frozenset(found)


def _constants(sights: Collection[Sight]) -> set[str]:
    return {constant for constant, _ in sights}


def _overlap(one: frozenset, other: frozenset) -> float:
    """Of the members of both, the share that is in each; 1 if both are empty."""
    return len(one & other) / len(one | other) if one | other else 1.0
