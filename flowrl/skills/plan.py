"""Execution plans: the tasks that take an agent from a fresh world through a new skill.

A plan is found backwards, the way a bill of materials is exploded (Orlicky, *Material Requirements Planning*, 1975).
The last task is the new skill; what it needs becomes the *demand* at the front of the plan; a provider is put before
it, whose own needs join the demand; and so on until the demand is empty. Three rules keep the plan short and honest:

*Stocks are pooled as far back as they can be.* Of all providers that the demand asks for, one is put in front only
when no other one needs what it provides; so wood, which almost everything needs, is collected first and once, in the
amount that all later tasks use. Where that is more than the game lets a player hold, the demand is split: it is filled
in the middle of the plan, and again before. ``task_is_done`` judges absolute amounts, so a provider's ``n`` says how
much is *held* when it is done, not how much is added.

*Possessions are provided once,* by the same rule.

*Places come last.* What stands ``near:`` its consumer is put directly before it (a *block* of tasks). A floor
(``level:``) is changed by a *mover*, a skill that gains one floor and requires another; a skill that names no floor can
be done on any, and is planned on the floor of what it needs, else where episodes start.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx

from flowrl.errors import BadInput
from flowrl.skills.facts import GameFacts, Kind
from flowrl.skills.frontier import missing, reachable_skills
from flowrl.skills.graph import check_acyclic, dependencies, dependency_graph, needs, provider, topological_order
from flowrl.skills.spec import SkillSpec

MAX_TASKS = 200
"""Longer plans are refused: no agent would get through them, and it ends any disagreement about floors."""

Plan = list[dict[str, Any]]
"""``[{"skill_name": "Collect_Wood", "n": 3}, ...]``, the new skill last."""


def build_plan(spec: SkillSpec, available: Mapping[str, SkillSpec], facts: GameFacts, n: int = 1) -> Plan:
    """The tasks from a fresh world through ``n`` times ``spec``.

    Args:
        spec: the new skill.
        available: the skills that may be used, by name, in the order in which they were added.
        facts: the game.
        n: how often the new skill is to be done in the end.

    Raises:
        BadInput: something that is needed is provided by no skill, skills depend on each other in a circle, more is
            needed at once than can be held, or no skill leads from one floor to another; names them and the remedy.
    """
    others = {name: other for name, other in available.items() if name != spec.name}
    reached = reachable_skills(others, facts)
    if lacking := missing(spec, reached, facts):
        check_acyclic(dependency_graph({**others, spec.name: spec}, facts))
        raise _nothing_provides(spec.name, lacking, reached)
    return [task.data() for task in _Explosion(spec, reached, facts).explode(n)]


def plan_in_order(dependency_names: Sequence[str], skill_name: str) -> Plan:
    """The plan where nothing is known of the dependencies but their names: each of them once, then the skill."""
    return [{"skill_name": name, "n": 1} for name in (*dependency_names, skill_name)]


@dataclass(frozen=True)
class _Task:
    spec: SkillSpec
    n: int

    def data(self) -> dict[str, Any]:
        return {"skill_name": self.spec.name, "n": self.n}


@dataclass
class _Demand:
    """What must hold at the front of the plan that stands so far."""

    floor: str | None
    stocks: dict[str, int | float] = field(default_factory=dict)
    possessions: dict[str, int | float] = field(default_factory=dict)

    def items(self) -> list[tuple[str, int | float]]:
        return [*self.stocks.items(), *self.possessions.items()]


class _Explosion:
    """One plan in the making: the tasks found so far, and the demand at their front."""

    def __init__(self, goal: SkillSpec, reached: Mapping[str, SkillSpec], facts: GameFacts):
        self.goal = goal
        self.facts = facts
        self.skills = {**reached, goal.name: goal}
        self.graph = dependency_graph(self.skills, facts)
        self.rank = {name: position for position, name in enumerate(topological_order(self.graph))}
        self.floors = _floor_graph(reached, facts)
        self.tasks: list[_Task] = []
        self.being_put: list[str] = []
        self.demand = _Demand(floor=facts.start_level)

    def explode(self, n: int) -> list[_Task]:
        self.demand.floor = self.end_floor(self.goal)
        self.put_in_front(self.block(_Task(self.goal, n)))
        while (task := self.next_task()) is not None:
            self.put_in_front(self.block(task))
        return self.tasks

    def next_task(self) -> _Task | None:
        """What to put in front next: a provider on the floor at hand, else a change of floor, else nothing."""
        wanted = {self.provider(resource, level).name for resource, level in self.demand.items()}
        route = self.route(self.facts.start_level, self.demand.floor)
        ready = self.not_needed_by_others(wanted, route)
        here = [name for name in ready if self.end_floor(self.skills[name]) == self.demand.floor]
        if here:
            return self.enough_of(self.skills[max(here, key=self.rank.__getitem__)])
        if ready:
            latest = max(ready, key=self.rank.__getitem__)
            route = self.route(self.end_floor(self.skills[latest]), self.demand.floor)
        return _Task(route[-1], 1) if route else None

    def not_needed_by_others(self, wanted: set[str], route: Sequence[SkillSpec]) -> list[str]:
        """The wanted providers that neither another wanted one nor a mover still to come depends on."""
        later = [dependencies(self.graph, name) for name in wanted.union(mover.name for mover in route)]
        return [name for name in sorted(wanted) if not any(name in needed for needed in later)]

    def enough_of(self, spec: SkillSpec) -> _Task:
        """A provider, as often as it takes to bring all that the demand wants of it."""
        wanted = [(name, level) for name, level in self.demand.items() if self.provider(name, level) is spec]
        return _Task(spec, max(spec.gains[name].count_for(level) for name, level in wanted))

    def block(self, task: _Task, floor: str | None = None) -> list[_Task]:
        """A task after the providers of what must stand near it, each of these once, all on one floor."""
        floor = floor or self.home(task.spec)
        before: list[_Task] = []
        for resource, level in needs(task.spec, self.facts, task.n).items():
            if resource.startswith("near:"):
                found = self.provider(resource, level, task.spec.name)
                if _floor(found.requires) not in (None, floor):
                    raise self.on_another_floor(task.spec, floor, found, resource)
                provided = self.block(_Task(found, found.gains[resource].count_for(level)), floor)
                before += [other for other in provided if other not in before]
        return [*before, task]

    def put_in_front(self, block: list[_Task]) -> None:
        """Puts a block before the tasks so far, with what must go between them: a refill, a change of floor."""
        name = block[-1].spec.name
        if name in self.being_put:  # a refill waits for a way there, which waits for the refill
            raise BadInput(
                f"skill {self.goal.name}: {name} and what follows it need more than a player can carry from floor to "
                "floor; let them require less"
            )
        self.being_put.append(name)
        while between := self.between(block):
            self.put_in_front(self.block(between))
        self.being_put.remove(name)
        self.demand = self.demand_before(block)
        self.tasks = [*block, *self.tasks]
        if len(self.tasks) > MAX_TASKS:
            raise BadInput(
                f"the plan for {self.goal.name} has more than {MAX_TASKS} tasks; let it require less, or add a skill "
                "that provides what it needs more directly"
            )

    def between(self, block: list[_Task]) -> _Task | None:
        """What has to come after a block, before it can be put in front; None where it can be at once."""
        if route := self.route(self.end_floor(block[-1].spec), self.demand.floor):
            return _Task(route[-1], 1)
        for resource, level in self.demand_before(block).stocks.items():
            if level > self.most(resource):
                if not self.demand.stocks.get(resource):
                    raise self.over_cap(block, resource, level)
                return self.enough_of(self.provider(resource, self.demand.stocks[resource]))
        return None

    def most(self, resource: str) -> int | float:
        """The most of a stock that its provider can bring: whole times of it, within the game's cap."""
        cap = self.facts.stocks[resource]
        gain = self.provider(resource, 1).gains[resource]
        return gain.fixed if gain.per == 0 else gain.at(math.floor((cap - gain.fixed) / gain.per))

    def demand_before(self, block: list[_Task]) -> _Demand:
        """The demand once a block stands in front: walks backwards through its tasks."""
        stocks, possessions, floor = dict(self.demand.stocks), dict(self.demand.possessions), self.demand.floor
        for task in reversed(block):
            for resource, amount in task.spec.gains.items():
                for demanded in (stocks, possessions):
                    if amount.at(task.n) >= demanded.get(resource, 0):
                        demanded.pop(resource, None)
            for resource, amount in task.spec.consumes.items():
                stocks[resource] = stocks.get(resource, 0) + amount.at(task.n)
            for resource, level in needs(task.spec, self.facts, task.n).items():
                kind = self.facts.kind(resource)
                if kind is not Kind.NEARNESS:
                    demanded = stocks if kind is Kind.STOCK else possessions
                    demanded[resource] = max(demanded.get(resource, 0), level)
            floor = _floor(task.spec.requires) or (self.facts.start_level if _floor(task.spec.gains) else floor)
        return _Demand(floor, {name: level for name, level in stocks.items() if level > 0}, possessions)

    def provider(self, resource: str, level: int | float, consumer: str | None = None) -> SkillSpec:
        found = provider(resource, level, self.skills, self.facts, consumer or self.goal.name)
        if found is None:
            raise _nothing_provides(consumer or self.goal.name, [resource], self.skills)
        return found

    def home(self, spec: SkillSpec) -> str | None:
        """The floor that a skill is planned on: its own, else the deepest of what it needs, else the first."""
        if own := _floor(spec.requires):
            return own
        deepest = self.facts.start_level
        for resource, level in needs(spec, self.facts).items():
            if not resource.startswith("level:"):
                deepest = max(deepest, self.home(self.provider(resource, level, spec.name)), key=self.depth)
        return deepest

    def end_floor(self, spec: SkillSpec) -> str | None:
        """The floor that the player is on when a skill is done."""
        return _floor(spec.gains) or self.home(spec)

    def depth(self, floor: str | None) -> int:
        return self.facts.levels.index(floor) if floor else 0

    def route(self, start: str | None, end: str | None) -> list[SkillSpec]:
        """The movers from one floor to another, in order; none where it is the same floor."""
        if start == end:
            return []
        try:
            floors = nx.shortest_path(self.floors, start, end)
        except (nx.NetworkXNoPath, nx.NodeNotFound) as error:
            raise BadInput(
                f"skill {self.goal.name} needs things on floor {start} and then floor {end}, and no skill leads "
                f"there; add one that requires level:{start} and gains level:{end}"
            ) from error
        return [self.floors.edges[edge]["mover"] for edge in zip(floors, floors[1:])]

    def on_another_floor(self, consumer: SkillSpec, floor: str | None, found: SkillSpec, resource: str) -> BadInput:
        return BadInput(
            f"skill {self.goal.name}: {consumer.name} is done on floor {floor}, but {found.name}, which provides "
            f"{resource}, on floor {_floor(found.requires)}; add a skill that provides {resource} on floor {floor}"
        )

    def over_cap(self, block: list[_Task], resource: str, level: int | float) -> BadInput:
        names = ", ".join(f"{task.spec.name} x{task.n}" for task in block)
        return BadInput(
            f"skill {self.goal.name}: {names} need {math.ceil(level)} {resource} at once, but a player can be given "
            f"{self.most(resource):g} at most; let it require less, or split it into two skills"
        )


def _floor(resources: Mapping[str, Any]) -> str | None:
    return next((name.partition(":")[2] for name in resources if name.startswith("level:")), None)


def _floor_graph(skills: Mapping[str, SkillSpec], facts: GameFacts) -> nx.DiGraph:
    """Floors, with an edge for each mover; where two skills make the same move, the first."""
    graph = nx.DiGraph()
    for spec in skills.values():
        end = _floor(spec.gains)
        start = _floor(spec.requires) or facts.start_level
        if end and start != end and not graph.has_edge(start, end):
            graph.add_edge(start, end, mover=spec)
    return graph


def _nothing_provides(skill_name: str, lacking: Sequence[str], reached: Collection[str]) -> BadInput:
    return BadInput(
        f"skill {skill_name} needs {', '.join(lacking)}, which none of the {len(reached)} skills in reach provides; "
        f"first add a skill that gains {lacking[0]}, or take it out of what {skill_name} requires and consumes"
    )
