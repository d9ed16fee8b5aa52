"""The reward menu: a skill's two functions, written from a few terms with weights instead of by hand.

``task_is_done`` holds when every one of a skill's gains holds. ``task_reward`` is a sum of terms, each of which is a
difference of a potential over the step, so that its total over a task depends on where the task began and ended and
not on the way (Ng, Harada and Russell, *Policy invariance under reward transformations*, 1999; undiscounted here):
going to and fro, or placing a stone and mining it again, pays nothing. Weights are chosen so that gaining pays 1 for
each unit of ``n``, and clearly more than all the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flowrl.errors import BadInput
from flowrl.skills.facts import FEATURES, GameFacts, Kind
from flowrl.skills.spec import Amount, SkillSpec

MONSTERS_TO_CLEAR = 8
"""Monsters to beat on a floor before its ladder down opens (Craftax: ``MONSTERS_KILLED_TO_CLEAR_LEVEL``)."""

INTRINSICS = ("health", "food", "drink", "energy", "mana")
"""The entries of ``player_intrinsics``."""


class Term(Protocol):
    """One line of the menu."""

    def code(self, facts: GameFacts) -> str:
        """The term as one Python expression."""


@dataclass(frozen=True)
class Gain:
    """``weight`` for each unit of a resource that is gained; the same is taken back when it is lost.

    Clearing a floor pays half of it for each monster: a fight costs more health than an eighth would pay for.
    """

    resource: str
    weight: float = 1.0

    def code(self, facts: GameFacts) -> str:
        family, _, member = self.resource.partition(":")
        match facts.kind(self.resource), family:
            case _, "achievement":
                change = f"achievements_diff[Achievement.{member}.value]"
            case _, "near":
                change = f"(1.0 * {_near(member)} - 1.0 * {_near(member, 'closest_blocks_prev')})"
            case _, "level":
                floor = facts.levels.index(member)
                change = f"(1.0 * (player_level == {floor}) - 1.0 * (player_level - player_level_diff == {floor}))"
            case _, "cleared":
                change = f"0.5 * monsters_killed_diff[{facts.levels.index(member)}]"
            case _:
                change = f"inventory_diff.{_field(self.resource)}"
        return f"{self.weight:g} * {change}"


@dataclass(frozen=True)
class Approach:
    """Up to ``weight`` for coming close to a block, a tenth of it for each step; 0 while none is in view.

    The potential is ``max(0, 1 - distance / 10)``, with the distance in steps (L1) to the nearest one in view. When
    that one is collected the next is further away, so keep the weight below that of the gain.
    """

    block: str
    weight: float = 0.5

    def code(self, facts: GameFacts) -> str:
        facts.kind(f"near:{self.block}")
        return f"{self.weight:g} * ({_closeness(self.block)} - {_closeness(self.block, 'closest_blocks_prev')})"


@dataclass(frozen=True)
class Recover:
    """``weight`` for each point by which health, food, drink, energy or mana rises; the same is lost when it falls."""

    intrinsic: str
    weight: float = 0.1

    def code(self, facts: GameFacts) -> str:
        if self.intrinsic not in INTRINSICS:
            raise BadInput(f"unknown intrinsic {self.intrinsic!r}; choose one of {', '.join(INTRINSICS)}")
        return f"{self.weight:g} * player_intrinsics_diff[{INTRINSICS.index(self.intrinsic)}]"


@dataclass(frozen=True)
class AvoidDamage:
    """``weight`` times the game's own penalty, 0.1 for each point of health lost."""

    weight: float = 1.0

    def code(self, facts: GameFacts) -> str:
        return f"{self.weight:g} * health_penalty"


@dataclass(frozen=True)
class Recipe:
    """A skill without code, or without much: its functions are written from its gains and from terms of the menu."""

    name: str
    description: str
    gains: dict[str, Amount]
    requires: dict[str, Amount] = field(default_factory=dict)
    consumes: dict[str, Amount] = field(default_factory=dict)
    reward: tuple[Term, ...] = ()
    """What is paid beside the gain itself and what is taken for damage."""
    task_reward: str = ""
    """A reward's source, in place of the gain, ``reward`` and the damage."""
    also_gains: tuple[str, ...] = ()
    """What the game gives with the gains, and ``task_is_done`` need not look at: the achievement, as a rule."""
    max_task_steps: int | None = None
    """As in the spec."""

    def spec(self, facts: GameFacts) -> SkillSpec:
        """The skill, with code.

        Raises:
            BadInput: it names something that the game does not have, or has a reward of both kinds.
        """
        if self.reward and self.task_reward:
            raise BadInput(f"{self.name} has reward terms and a task_reward of its own; leave one of them out")
        terms = (*map(Gain, self.gains), *self.reward, AvoidDamage())
        return SkillSpec(
            name=self.name,
            description=self.description,
            requires=self.requires,
            consumes=self.consumes,
            gains={**self.gains, **dict.fromkeys(self.also_gains, once(1))},
            task_is_done=write_is_done(self.gains, facts),
            task_reward=self.task_reward or write_reward(terms, facts),
            max_task_steps=self.max_task_steps,
        )


def each(per: int | float) -> Amount:
    """So much for each unit of ``n``."""
    return Amount(per=per)


def once(fixed: int | float) -> Amount:
    """So much, whatever ``n`` is."""
    return Amount(fixed=fixed)


def write_reward(terms: Sequence[Term], facts: GameFacts) -> str:
    """The source of a ``task_reward`` that is the sum of ``terms``.

    Raises:
        BadInput: there is no term, or one names something that the game does not have.
    """
    if not terms:
        raise BadInput("a reward needs at least one term, as in [Gain('wood'), AvoidDamage()]; add what is gained")
    first, *others = (term.code(facts) for term in terms)
    lines = [f"reward = {first}", *(f"reward = reward + {code}" for code in others), "return reward"]
    return _function("task_reward", lines)


def write_is_done(gains: dict[str, Amount], facts: GameFacts) -> str:
    """The source of a ``task_is_done`` that holds when all of ``gains`` hold, as absolute amounts.

    Raises:
        BadInput: there is no gain, or one names something that the game does not have.
    """
    if not gains:
        raise BadInput("a skill that gains nothing is never done; declare what it gains")
    first, *others = (_holds(resource, amount, facts) for resource, amount in gains.items())
    lines = [f"done = {first}", *(f"done = jnp.logical_and(done, {other})" for other in others), "return done"]
    return _function("task_is_done", [f"return {first}"] if not others else lines)


def _holds(resource: str, amount: Amount, facts: GameFacts) -> str:
    family, _, member = resource.partition(":")
    match facts.kind(resource), family:
        case _, "achievement":
            return f"achievements[Achievement.{member}.value]"
        case _, "near":
            return _near(member)
        case _, "level":
            return f"player_level == {facts.levels.index(member)}"
        case _, "cleared":
            return f"monsters_killed[{facts.levels.index(member)}] >= {MONSTERS_TO_CLEAR}"
        case Kind.STOCK, _:
            return f"inventory.{_field(resource)} >= {_amount(amount)}"
        case _:
            return f"inventory.{_field(resource)} >= {amount.at(1):g}"


def _amount(amount: Amount) -> str:
    if not amount.per:
        return f"{amount.fixed:g}"
    times_n = "n" if amount.per == 1 else f"{amount.per:g} * n"
    return f"{times_n} + {amount.fixed:g}" if amount.fixed else times_n


def _field(resource: str) -> str:
    # Inventory fields that are arrays count as the sum of their entries; a sum of a number is the number.
    return f"{resource}.sum()" if resource in ("armour", "potions") else resource


def _near(block: str, offsets: str = "closest_blocks") -> str:
    """Within the 3x3 ring: both offsets at most 1. Of blocks as far away as each other, the first in view counts."""
    return f"(jnp.abs({offsets}[BlockType.{block}.value]).max() <= 1)"


def _closeness(block: str, offsets: str = "closest_blocks") -> str:
    return f"jnp.maximum(1.0 - 0.1 * jnp.abs({offsets}[BlockType.{block}.value]).sum(), 0.0)"


def _function(name: str, lines: Sequence[str]) -> str:
    body = "\n".join(f"    {line}" for line in lines)
    parameters = [feature for feature in FEATURES if feature in _words(body)]
    return f"def {name}({', '.join(parameters)}):\n{body}\n"


def _words(text: str) -> set[str]:
    return set("".join(character if character.isalnum() or character == "_" else " " for character in text).split())
