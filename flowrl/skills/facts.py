"""The facts of a game, as data: its resources, and what the code of skills may use. Each game declares its own.

A *resource* is a name that a skill may require, consume or gain. It is an inventory field, such as ``wood``, or a member
of a `Family` that the game declares, such as ``near:TABLE``. Its kind says how it behaves along a plan (`Kind`).

A *feature* is a value that a skill's functions may take as a parameter: a `Feature` is read from a state of the game, and may
also offer its value before a step or its change over the step; a `Penalty` is computed from a step. ``n``, how many times
the skill is to be done, is always available.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from flowrl.errors import BadInput
from flowrl.skills.spec import SkillSpec
from flowrl.suggestions import suggestion

COUNT = "n"
"""The parameter for how many times a skill is to be done, in every game."""
_COUNT_LINE = f"{COUNT}: how many times the skill is to be done"


class Kind(Enum):
    """How a resource behaves along a plan."""

    STOCK = "stock"
    """Counted: amounts add up along a plan, and can be used up."""
    POSSESSION = "possession"
    """Kept once obtained."""
    NEARNESS = "nearness"
    """Something is next to the player. It must hold when its consumer starts, and any other skill may end it."""
    PLACE = "place"
    """Where the player is: always at exactly one place. Only a skill that gains another place changes it."""


class OverStep(Enum):
    """What a step offers of a feature besides the value after it. The value is the suffix of the parameter's name."""

    BEFORE = "prev"
    """The value before the step."""
    CHANGE = "diff"
    """The value after the step minus the one before; for a boolean, whether it became true."""


@dataclass(frozen=True)
class Feature:
    """A value that can be read from a state of the game."""

    name: str
    meaning: str
    """For the language model's prompt, with units and range."""
    shape: str = ""
    """For the language model's prompt, such as ``[number of blocks, 2, 1]``; empty if the meaning says it."""
    over_step: OverStep | None = None
    step_meaning: str = ""
    """What `over_step` offers, for the language model's prompt."""

    @property
    def step_name(self) -> str | None:
        """The name of the parameter for `over_step`."""
        return f"{self.name}_{self.over_step.value}" if self.over_step else None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its parameters."""
        return (self.name,) if self.step_name is None else (self.name, self.step_name)

    @property
    def lines(self) -> list[str]:
        """A description of each parameter."""
        lines = [f"{self.name}: {self.shape}, {self.meaning}" if self.shape else f"{self.name}: {self.meaning}"]
        return lines if self.step_name is None else [*lines, f"{self.step_name}: {self.step_meaning}"]


@dataclass(frozen=True)
class Penalty:
    """The cost of a step: ``weight`` for each unit by which one entry of a feature fell; never positive."""

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
    """Resources called ``name:MEMBER``, and the code that tests and pays for them.

    In the code, ``{member}`` stands for the member's name and ``{index}`` for its position among the members, from 0.
    """

    name: str
    kind: Kind
    """Any kind except `Kind.STOCK`. The first member of a family of places is where an episode starts."""
    members: tuple[str, ...]
    held: str
    """An expression that tests whether the member is held."""
    gained: str
    """An expression for what a reward pays in a step: 1 if the member is gained, -1 if it is lost."""
    is_at_places: bool = False
    """Whether each member can be obtained only at the place of the same name."""

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
    """A term of the game's reward menu. Terms with the same name may have different code for different targets."""

    name: str
    code: str
    """An expression for what it pays in a step, with a weight of 1. ``{target}`` and ``{index}``, its position among the
    targets, are filled in."""
    targets: tuple[str, ...] = ()
    """The allowed targets; empty if the term needs none."""
    weight: float = 1.0
    """The default weight."""
    is_in_every_reward: bool = False
    """Whether every reward written from a recipe ends with this term."""
    meaning: str = ""
    """What it pays, as a language model reads it; of terms with one name, the first one's is shown."""


@dataclass(frozen=True)
class Vital:
    """A level of the player's that falls while it plays, and that may end the game when it is gone."""

    name: str
    level: str
    """An expression over features: the level."""
    restored_by: tuple[str, ...] = ()
    """The goals of the game that are unlocked by raising it: skills that gain one of them can raise it again and again."""
    restored_with: tuple[str, ...] = ()
    """Other resources: skills that gain one of them raise it too."""
    low: float = math.inf
    """It is restored only below this, even where a player restores its vitals earlier."""
    pays: float = 1.0
    """In a rehearsal, for each point by which a task raises it that is to restore it: a goal is unlocked, and paid for, only
    once. 0: the code of the task's skill says what it pays."""


@dataclass(frozen=True)
class Ending:
    """A reason why the game is over."""

    name: str
    holds: str
    """An expression over the features of the last state: whether this was the reason."""


@dataclass(frozen=True)
class Sights:
    """A feature that says where the nearest thing of each kind is, as offsets: whether one is in view at all."""

    feature: str
    constant: str
    """The constant whose members are the kinds: how a skill's code names what it looks for."""
    not_in_view: int
    """The offset where none is in view."""


@dataclass(frozen=True)
class GameFacts:
    """A game as the planner, the checks and a proposer see it.

    Raises:
        BadInput: the declarations contradict each other.
    """

    env_name: str
    features: tuple[Feature | Penalty, ...]
    """What a skill's functions may take as parameters, in the order in which prompts list them."""
    stocks: Mapping[str, int] = field(default_factory=dict)
    """Inventory fields that are used up, each with the most that a player can hold."""
    possessions: Mapping[str, int] = field(default_factory=dict)
    """Inventory fields that are kept, each with its highest level."""
    arrays: frozenset[str] = frozenset()
    """The inventory fields that are arrays. Such a field counts as the sum of its entries."""
    families: tuple[Family, ...] = ()
    terms: tuple[RewardTerm, ...] = ()
    """The reward menu, besides paying for gains."""
    goals: str = ""
    """The family whose members the game counts, its achievements: what a whole episode is played for."""
    goal_values: Mapping[str, float] = field(default_factory=dict)
    """What the game's own reward pays for a member of `goals`, where that is not 1."""
    own_reward: str = ""
    """An expression over what a step offers: the game's own reward."""
    vitals: tuple[Vital, ...] = ()
    action_kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kinds of actions, such as moving: for each its members of the constant ``Action``; ``MAKE_`` is all that begin so. What
    an expert tries is shown by kind."""
    busy: str = ""
    """An expression over features: whether the player does not act at the moment, as in its sleep."""
    endings: tuple[Ending, ...] = ()
    """The first that holds is the reason; "other" where none does."""
    sights: tuple[Sights, ...] = ()
    constants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The game's names in scope of a skill's code, such as ``BlockType``, each with its members. An empty list accepts any
    member."""
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other words of the game for the language model's prompt, by heading."""

    def __post_init__(self):
        names = self.feature_names
        fields = self.inventory_fields
        read = {penalty.feature for penalty in self.features if isinstance(penalty, Penalty)} | (
            {"inventory"} if fields else set()
        )
        twice = self._terms_twice()
        restoring = {goal for vital in self.vitals for goal in vital.restored_by}
        restoring_too = {resource for vital in self.vitals for resource in vital.restored_with}
        faults = {
            "two features have one name": len(set(names)) < len(names),
            f"features that are used but not declared: {sorted(read - set(names))}": not read <= set(names),
            f"arrays that are not inventory fields: {sorted(self.arrays - set(fields))}": not self.arrays <= set(fields),
            "there are two families of places": sum(family.kind is Kind.PLACE for family in self.families) > 1,
            f"vitals are restored by unknown goals: {sorted(restoring - set(self.members(self.goals)))}": not restoring
            <= set(self.members(self.goals)),
            f"vitals are restored with unknown resources: {sorted(restoring_too - set(self.resources()))}": not restoring_too
            <= set(self.resources()),
            f"its goals are not a family: {self.goals}": self.goals not in ("", *(family.name for family in self.families)),
            f"values of unknown goals: {sorted(set(self.goal_values) - set(self.members(self.goals)))}": not set(
                self.goal_values
            )
            <= set(self.members(self.goals)),
            f"reward terms of one name share a target: {', '.join(twice)}": bool(twice),
        }
        for fault, is_there in faults.items():
            if is_there:
                raise BadInput(f"the facts of {self.env_name} contradict each other: {fault}; correct its declarations")

    def _terms_twice(self) -> list[str]:
        paid = Counter((term.name, target) for term in self.terms for target in term.targets or (None,))
        return [name if target is None else f"{name} {target}" for (name, target), count in paid.items() if count > 1]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The parameters that a skill's functions may have."""
        return (*(name for feature in self.features for name in feature.names), COUNT)

    @property
    def feature_lines(self) -> list[str]:
        """A description of each of `feature_names`, for the language model's prompt."""
        return [*(line for feature in self.features for line in feature.lines), _COUNT_LINE]

    @property
    def inventory_fields(self) -> tuple[str, ...]:
        return (*self.stocks, *self.possessions)

    @property
    def places(self) -> tuple[str, ...]:
        """The resources that say where the player is, starting with that of a new episode. Empty if the game has no places."""
        return next((family.resources for family in self.families if family.kind is Kind.PLACE), ())

    @property
    def start_place(self) -> str | None:
        return self.places[0] if self.places else None

    def family_of(self, resource: str) -> Family | None:
        """The family that a resource is a member of; None for an inventory field or an unknown resource."""
        name, _, member = resource.partition(":")
        return next((family for family in self.families if family.name == name and member in family.members), None)

    def members(self, family_name: str) -> tuple[str, ...]:
        """The members of a family; none if the game has no such family."""
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
        """The most of a resource that can be held: a stock's cap, a possession's highest level, 1 for others.

        Raises:
            BadInput: as for `kind`.
        """
        self.kind(resource)
        return self.stocks.get(resource, self.possessions.get(resource, 1))

    def resources(self) -> list[str]:
        """Every resource of the game, by name."""
        return [*self.inventory_fields, *(name for family in self.families for name in family.resources)]

    def term(self, name: str, target: str | None) -> RewardTerm:
        """The term of the reward menu for a target; ``target`` is None for a term that needs none.

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
        raise BadInput(f"the reward term {name} of {self.env_name} {found}; {suggestion(target or '', targets)}")

    def _closest(self, resource: str) -> str:
        matches = difflib.get_close_matches(resource, self.resources(), n=3, cutoff=0.5)
        if matches:
            return f"did you mean {', '.join(matches)}?"
        spellings = [
            *(["an inventory field"] if self.inventory_fields else []),
            *(family.resource("NAME") for family in self.families),
        ]
        return (
            f"use {', '.join(spellings[:-1])} or {spellings[-1]}"
            if len(spellings) > 1
            else f"use {spellings[0] if spellings else 'none: the game has no resources'}"
        )


def check_resources(spec: SkillSpec, facts: GameFacts) -> None:
    """Checks that the game has a skill's resources, and allows their amounts.

    Raises:
        BadInput: a resource is unknown, more than can be held, or consumed although it is not a stock.
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
                    "declare it in requires only"
                )
            if amount.at(1) > highest:
                raise BadInput(
                    f"skill {spec.name} {role} {amount.at(1):g} of {resource}, but {facts.env_name} lets a player "
                    f"hold {highest}; declare {highest} or less"
                )
