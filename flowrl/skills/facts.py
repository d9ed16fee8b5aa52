"""What is true of a game, as data: its resources, and what the code of skills may ask for. Each game declares its own.

A *resource* is a name that a skill may require, consume or gain. It is an inventory field, such as ``wood``, or a member
of a `Family` that the game declares, such as ``near:TABLE``. Its kind says how it behaves along a plan (`Kind`).

A *feature* is what a skill's functions may ask for by parameter name: a `Feature` is read off a state of the game, and
offers its value before a step or its change over the step as well; a `Penalty` is computed from a step. ``n``, how often
the skill is to be done, can always be asked for.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from flowrl.errors import BadInput
from flowrl.skills.spec import SkillSpec

COUNT = "n"
"""The parameter for how often a skill is to be done, in every game."""
_COUNT_LINE = f"{COUNT}: how often the skill is to be done"


class Kind(Enum):
    """How a resource behaves along a plan."""

    STOCK = "stock"
    """Counted: it adds up along a plan, and is used up."""
    POSSESSION = "possession"
    """Once had, it is kept."""
    NEARNESS = "nearness"
    """Something is beside the player. It must hold when its consumer starts, and any other skill may end it."""
    PLACE = "place"
    """Where the player is: always one place of the game. Only a skill that gains another place changes it."""


class OverStep(Enum):
    """What a step offers of a feature, beside the value after the step: the ending of the parameter's name."""

    BEFORE = "prev"
    """The value before the step."""
    CHANGE = "diff"
    """The value after the step less the one before; of truth values, whether it became true."""


@dataclass(frozen=True)
class Feature:
    """What can be read off a state of the game."""

    name: str
    meaning: str
    """As a language model reads it; the units and the range are part of it."""
    shape: str = ""
    """As a language model reads it, such as ``[number of blocks, 2, 1]``; empty where the meaning says it."""
    over_step: OverStep | None = None
    step_meaning: str = ""
    """What `over_step` offers, as a language model reads it."""

    @property
    def step_name(self) -> str | None:
        """The parameter under which `over_step` is offered."""
        return f"{self.name}_{self.over_step.value}" if self.over_step else None

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters of functions that ask for it."""
        return (self.name,) if self.step_name is None else (self.name, self.step_name)

    @property
    def lines(self) -> list[str]:
        """A description of each parameter."""
        lines = [f"{self.name}: {self.shape}, {self.meaning}" if self.shape else f"{self.name}: {self.meaning}"]
        return lines if self.step_name is None else [*lines, f"{self.step_name}: {self.step_meaning}"]


@dataclass(frozen=True)
class Penalty:
    """What a step cost: ``weight`` for each unit by which one entry of a feature fell, as a number that is never positive."""

    name: str
    meaning: str
    feature: str
    entry: int
    weight: float

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def lines(self) -> list[str]:
        return [f"{self.name}: {self.meaning}"]


@dataclass(frozen=True)
class Family:
    """Resources that are called ``name:MEMBER``, and the code that tests and pays for them.

    In code, ``{member}`` stands for the member's name and ``{index}`` for its number among the members, from 0.
    """

    name: str
    kind: Kind
    """All but `Kind.STOCK`. Of a family of places, the first member is where an episode starts."""
    members: tuple[str, ...]
    held: str
    """An expression: whether the member is held."""
    gained: str
    """An expression: what a reward pays for it in a step, 1 where the member is gained in it and -1 where it is lost."""
    is_at_places: bool = False
    """Whether each member is had at the place of the same name, and so only where that place can be reached."""

    def resource(self, member: str) -> str:
        return f"{self.name}:{member}"

    @property
    def resources(self) -> tuple[str, ...]:
        return tuple(map(self.resource, self.members))

    def written(self, code: str, resource: str) -> str:
        """``held`` or ``gained`` for one resource of the family."""
        member = resource.partition(":")[2]
        return code.format(member=member, index=self.members.index(member))


@dataclass(frozen=True)
class RewardTerm:
    """A line of the game's reward menu. Terms of one name may have different code, each for targets of its own."""

    name: str
    code: str
    """An expression: what it pays in a step, for a weight of 1. ``{target}`` and ``{index}``, the number among the targets,
    are filled in."""
    targets: tuple[str, ...] = ()
    """What it can be paid for; empty where it needs no target."""
    weight: float = 1.0
    """The weight where none is given."""
    is_in_every_reward: bool = False
    """Whether each reward that is written from a recipe ends with it."""


@dataclass(frozen=True)
class GameFacts:
    """A game as the planner, the checks and a proposer see it.

    Raises:
        BadInput: the declarations contradict each other.
    """

    env_name: str
    features: tuple[Feature | Penalty, ...]
    """What a skill's functions may ask for, in the order in which it is listed."""
    stocks: Mapping[str, int] = field(default_factory=dict)
    """Inventory fields that are used up, each with the most that the game lets a player hold."""
    possessions: Mapping[str, int] = field(default_factory=dict)
    """Inventory fields that are kept, each with its highest level."""
    arrays: frozenset[str] = frozenset()
    """Those of the inventory fields that are arrays. Such a field counts as the sum of its entries."""
    families: tuple[Family, ...] = ()
    terms: tuple[RewardTerm, ...] = ()
    """The reward menu, beside paying for what is gained."""
    constants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the game that are in scope of a skill's code, such as ``BlockType``, each with its members; with none where
    they are not listed, and then any is accepted."""
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The game's words that a language model has to know, by heading."""

    def __post_init__(self):
        names = self.feature_names
        fields = self.inventory_fields
        read = {penalty.feature for penalty in self.features if isinstance(penalty, Penalty)} | (
            {"inventory"} if fields else set()
        )
        twice = self._terms_twice()
        faults = {
            "two features have one name": len(set(names)) < len(names),
            f"features are read that are not declared: {sorted(read - set(names))}": not read <= set(names),
            f"arrays that are no inventory fields: {sorted(self.arrays - set(fields))}": not self.arrays <= set(fields),
            "there are two families of places": sum(family.kind is Kind.PLACE for family in self.families) > 1,
            f"reward terms of one name share a target: {', '.join(twice)}": bool(twice),
        }
        for fault, is_there in faults.items():
            if is_there:
                raise BadInput(f"the facts of {self.env_name} cannot hold: {fault}; correct its declarations")

    def _terms_twice(self) -> list[str]:
        paid = Counter((term.name, target) for term in self.terms for target in term.targets or (None,))
        return [name if target is None else f"{name} {target}" for (name, target), count in paid.items() if count > 1]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What a skill's functions may ask for by parameter name."""
        return (*(name for feature in self.features for name in feature.names), COUNT)

    @property
    def feature_lines(self) -> list[str]:
        """A description of each of `feature_names`, as a language model reads it."""
        return [*(line for feature in self.features for line in feature.lines), _COUNT_LINE]

    @property
    def inventory_fields(self) -> tuple[str, ...]:
        return (*self.stocks, *self.possessions)

    @property
    def places(self) -> tuple[str, ...]:
        """The resources that say where the player is; the first is where an episode starts. Empty: it makes no difference."""
        return next((family.resources for family in self.families if family.kind is Kind.PLACE), ())

    @property
    def start_place(self) -> str | None:
        return self.places[0] if self.places else None

    def family_of(self, resource: str) -> Family | None:
        """The family that a resource is a member of; None for an inventory field, and for what is no resource."""
        name, _, member = resource.partition(":")
        return next((family for family in self.families if family.name == name and member in family.members), None)

    def members(self, family_name: str) -> tuple[str, ...]:
        """The members of a family; none where the game has no such family."""
        return next((family.members for family in self.families if family.name == family_name), ())

    def kind(self, resource: str) -> Kind:
        """The kind of a resource.

        Raises:
            BadInput: the game has no such resource; names the closest ones.
        """
        if resource in self.stocks:
            return Kind.STOCK
        if resource in self.possessions:
            return Kind.POSSESSION
        if family := self.family_of(resource):
            return family.kind
        raise BadInput(f"{self.env_name} has no resource {resource!r}; {self._closest(resource)}")

    def highest(self, resource: str) -> int:
        """The most of a resource that can be held: a stock's cap, a possession's highest level, 1 for the rest.

        Raises:
            BadInput: as for `kind`.
        """
        self.kind(resource)
        return self.stocks.get(resource, self.possessions.get(resource, 1))

    def resources(self) -> list[str]:
        """Every resource of the game, by name."""
        return [*self.inventory_fields, *(name for family in self.families for name in family.resources)]

    def term(self, name: str, target: str | None) -> RewardTerm:
        """The line of the reward menu that pays for a target; ``target`` is None for a term that needs none.

        Raises:
            BadInput: the game's menu has no such term, or none for that target.
        """
        named = [term for term in self.terms if term.name == name]
        if not named:
            known = ", ".join(dict.fromkeys(term.name for term in self.terms)) or "none"
            raise BadInput(f"{self.env_name} has no reward term {name!r}; its terms are: {known}")
        for term in named:
            if target in term.targets or (target is None and not term.targets):
                return term
        targets = [other for term in named for other in term.targets]
        if not targets:
            raise BadInput(f"the reward term {name} of {self.env_name} takes no target, found {target!r}; leave it out")
        found = f"has no target {target!r}" if target else "needs a target"
        raise BadInput(f"the reward term {name} of {self.env_name} {found}; {close_matches(target or '', targets)}")

    def _closest(self, resource: str) -> str:
        matches = difflib.get_close_matches(resource, self.resources(), n=3, cutoff=0.5)
        if matches:
            return f"did you mean {', '.join(matches)}?"
        ways = [
            *(["an inventory field"] if self.inventory_fields else []),
            *(family.resource("NAME") for family in self.families),
        ]
        return (
            f"use {', '.join(ways[:-1])} or {ways[-1]}" if len(ways) > 1 else f"use {ways[0] if ways else 'none: it has none'}"
        )


def close_matches(word: str, known: Iterable[str]) -> str:
    """What a wrong word may have meant: the closest known ones, or the first few of them."""
    known = list(known)
    if matches := difflib.get_close_matches(word, known, n=3, cutoff=0.6):
        return f"did you mean {', '.join(matches)}?"
    return f"choose one of {', '.join(known[:24])}{', ...' if len(known) > 24 else ''}"


def check_resources(spec: SkillSpec, facts: GameFacts) -> None:
    """Accepts a skill whose resources the game knows, in amounts that the game allows.

    Raises:
        BadInput: an unknown resource, more than can be held, or something consumed that is not a stock.
    """
    for role in ("requires", "consumes", "gains"):
        for resource, amount in getattr(spec, role).items():
            try:
                kind, highest = facts.kind(resource), facts.highest(resource)
            except BadInput as error:
                raise BadInput(f"skill {spec.name} {role} an unknown resource: {error}") from error
            if role == "consumes" and kind is not Kind.STOCK:
                raise BadInput(
                    f"skill {spec.name} consumes {resource}, which is a {kind.value}: only stocks are used up; "
                    "declare it in requires alone"
                )
            if amount.at(1) > highest:
                raise BadInput(
                    f"skill {spec.name} {role} {amount.at(1):g} of {resource}, but {facts.env_name} lets a player "
                    f"hold {highest}; declare {highest} or less"
                )
