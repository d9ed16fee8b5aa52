"""The reward menu: a skill's two functions, generated from a few weighted terms instead of written by hand.

``task_is_done`` is true when all of a skill's gains hold. ``task_reward`` is a sum of terms: the gains, and terms that the
game declares (`flowrl.skills.facts.RewardTerm`). A term should be the difference of a potential over the step, so that its
total over a task depends only on where the task began and ended (Ng, Harada and Russell, *Policy invariance under reward
transformations*, 1999; undiscounted here): walking back and forth then pays nothing. Weights are chosen so that gaining
pays 1 for each unit of ``n``, and clearly more than all other terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from flowrl.errors import BadInput
from flowrl.skills.facts import GameFacts, Kind
from flowrl.skills.spec import Amount, SkillSpec


class Term(Protocol):
    """One term of a reward."""

    def code(self, facts: GameFacts) -> str:
        """The term as one Python expression.

        Raises:
            BadInput: it names something that the game does not have.
        """


@dataclass(frozen=True)
class Gain:
    """Pays ``weight`` for each unit gained of a resource, and takes it back for each unit lost."""

    resource: str
    weight: float = 1.0

    def code(self, facts: GameFacts) -> str:
        facts.kind(self.resource)
        family = facts.family_of(self.resource)
        change = family.written(family.gained, self.resource) if family else f"inventory_diff.{_field(self.resource, facts)}"
        return f"{self.weight:g} * {change}"


@dataclass(frozen=True)
class Pay:
    """A term of the game's menu, with a target if it needs one. The default weight is the game's."""

    term: str
    target: str | None = None
    weight: float | None = None

    def code(self, facts: GameFacts) -> str:
        term = facts.term(self.term, self.target)
        index = term.targets.index(self.target) if self.target else None
        weight = term.weight if self.weight is None else self.weight
        return f"{weight:g} * {term.code.format(target=self.target, index=index)}"


Approach = partial(Pay, "approach")
"""A term of games with a map: pays for getting close to the target."""
Recover = partial(Pay, "recover")
"""A term of games in which the player has needs: pays for each point recovered."""


@dataclass(frozen=True)
class Recipe:
    """A skill without code: its functions are generated from its gains and from terms of the menu."""

    name: str
    description: str
    gains: dict[str, Amount]
    requires: dict[str, Amount] = field(default_factory=dict)
    consumes: dict[str, Amount] = field(default_factory=dict)
    reward: tuple[Term, ...] = ()
    """Terms besides the gains and the terms that the game adds to every reward."""
    task_reward: str = ""
    """Source of the reward, replacing all terms."""
    without: tuple[str, ...] = ()
    """Terms of every reward that this one lacks. A penalty ends exploration where the gain is rare: there it is left out."""
    also_gains: tuple[str, ...] = ()
    """Resources that the game gives together with the gains, so that ``task_is_done`` need not test for them."""
    max_task_steps: int | None = None
    """See :class:`SkillSpec`."""

    def spec(self, facts: GameFacts) -> SkillSpec:
        """The skill, with code.

        Raises:
            BadInput: it names something that the game does not have, or has both reward terms and a task_reward.
        """
        if self.reward and self.task_reward:
            raise BadInput(f"{self.name} has both reward terms and a task_reward; leave one of them out")
        always = (Pay(term.name) for term in facts.terms if term.is_in_every_reward and term.name not in self.without)
        terms = (*map(Gain, self.gains), *self.reward, *always)
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
    """An amount per unit of ``n``."""
    return Amount(per=per)


def once(fixed: int | float) -> Amount:
    """An amount that does not depend on ``n``."""
    return Amount(fixed=fixed)


def write_reward(terms: Sequence[Term], facts: GameFacts) -> str:
    """The source of a ``task_reward`` that is the sum of ``terms``.

    Raises:
        BadInput: there is no term, or one names something that the game does not have.
    """
    if not terms:
        raise BadInput("a reward needs at least one term, as in [Gain('wood')]; add what is gained")
    first, *others = (term.code(facts) for term in terms)
    lines = [f"reward = {first}", *(f"reward = reward + {code}" for code in others), "return reward"]
    return _function("task_reward", lines, facts)


def write_own_reward(facts: GameFacts) -> str:
    """The source of a ``task_reward`` that pays what the game itself pays.

    Raises:
        BadInput: the game does not declare its own reward.
    """
    if not facts.own_reward:
        raise BadInput(f"the facts of {facts.env_name} declare no own_reward; add the expression for it")
    return _function("task_reward", [f"return {facts.own_reward}"], facts)


def write_is_done(gains: dict[str, Amount], facts: GameFacts) -> str:
    """The source of a ``task_is_done`` that is true when all of ``gains`` hold, as absolute amounts.

    Raises:
        BadInput: there is no gain, or one names something that the game does not have.
    """
    if not gains:
        raise BadInput("a skill that gains nothing is never done; declare what it gains")
    first, *others = (_holds(resource, amount, facts) for resource, amount in gains.items())
    lines = [f"done = {first}", *(f"done = jnp.logical_and(done, {other})" for other in others), "return done"]
    return _function("task_is_done", [f"return {first}"] if not others else lines, facts)


def _holds(resource: str, amount: Amount, facts: GameFacts) -> str:
    kind, family = facts.kind(resource), facts.family_of(resource)
    if family:
        return family.written(family.held, resource)
    return f"inventory.{_field(resource, facts)} >= {_amount(amount) if kind is Kind.STOCK else f'{amount.at(1):g}'}"


def _amount(amount: Amount) -> str:
    if not amount.per:
        return f"{amount.fixed:g}"
    times_n = "n" if amount.per == 1 else f"{amount.per:g} * n"
    return f"{times_n} + {amount.fixed:g}" if amount.fixed else times_n


def _field(resource: str, facts: GameFacts) -> str:
    return f"{resource}.sum()" if resource in facts.arrays else resource


def _function(name: str, lines: Sequence[str], facts: GameFacts) -> str:
    body = "\n".join(f"    {line}" for line in lines)
    parameters = [feature for feature in facts.feature_names if feature in _words(body)]
    return f"def {name}({', '.join(parameters)}):\n{body}\n"


def _words(text: str) -> set[str]:
    return set("".join(character if character.isalnum() or character == "_" else " " for character in text).split())
