"""Execution plans: the tasks that take an agent from a fresh world through a new skill.

A plan is built backwards, as in exploding a bill of materials (Orlicky, *Material Requirements Planning*, 1975). The last
task is the new skill. What it needs becomes the *demand* at the front of the plan; a provider is put in front, and its own
needs join the demand; and so on until the demand is empty. Three rules keep the plan short and correct:

*Stocks are pooled as early as possible.* Of all providers that the demand calls for, one is put in front only when no
other one needs what it provides. So wood, which almost everything needs, is collected first and once, in the amount that
all later tasks use. If that is more than a player can hold, the demand is split: part of it is provided in the middle of
the plan, and the rest earlier. ``task_is_done`` judges absolute amounts, so a provider's ``n`` says how much is *held* when
it is done, not how much is added.

*Possessions are provided once,* by the same rule.

*Positions come last.* A nearness is provided directly before its consumer (a *block* of tasks). A *mover*, a skill that
requires one place and gains another, changes the place. A skill that names no place can be done anywhere; it is planned
where its needs are provided, else where episodes start.
"""

from __future__ import annotations

import itertools
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
"""Longer plans are refused: no agent would finish them, and the limit stops a search that cycles between places."""

Plan = list[dict[str, Any]]
"""``[{"skill_name": "Collect_Wood", "n": 3}, ...]``, the new skill last."""


def build_plan(spec: SkillSpec, available: Mapping[str, SkillSpec], facts: GameFacts, n: int = 1) -> Plan:
    """The tasks from a fresh world through ``n`` times ``spec``.

    Args:
        spec: the new skill.
        available: the skills that may be used, by name, in the order in which they were added.
        facts: the game.
        n: how many times the new skill is to be done at the end.

    Raises:
        BadInput: no skill provides something that is needed, skills depend on each other in a circle, more is needed at
            once than can be held, or no skill leads from one place to another; names them and the remedy.
    """
    others = {name: other for name, other in available.items() if name != spec.name}
    reached = reachable_skills(others, facts)
    if lacking := missing(spec, reached, facts):
        check_acyclic(dependency_graph({**others, spec.name: spec}, facts))
        raise _nothing_provides(spec.name, lacking, reached)
    return [task.data() for task in _Explosion(spec, reached, facts).explode(n)]


def plan_in_order(dependency_names: Sequence[str], skill_name: str) -> Plan:
    """The plan if only the names of the dependencies are known: each of them once, then the skill."""
    return [{"skill_name": name, "n": 1} for name in (*dependency_names, skill_name)]


@dataclass(frozen=True)
class _Task:
    spec: SkillSpec
    n: int

    def data(self) -> dict[str, Any]:
        return {"skill_name": self.spec.name, "n": self.n}


@dataclass
class _Demand:
    """What must hold at the start of the plan built so far."""

    place: str | None
    stocks: dict[str, int | float] = field(default_factory=dict)
    possessions: dict[str, int | float] = field(default_factory=dict)

    def items(self) -> list[tuple[str, int | float]]:
        return [*self.stocks.items(), *self.possessions.items()]


class _Explosion:
    """A plan under construction: the tasks found so far, and the demand at their start."""

    def __init__(self, goal: SkillSpec, reached: Mapping[str, SkillSpec], facts: GameFacts):
        self.goal = goal
        self.facts = facts
        self.skills = {**reached, goal.name: goal}
        self.graph = dependency_graph(self.skills, facts)
        self.rank = {name: position for position, name in enumerate(topological_order(self.graph))}
        self.movers = _movers(reached, facts)
        self.tasks: list[_Task] = []
        self.in_progress: list[str] = []
        self.demand = _Demand(place=facts.start_place)

    def explode(self, n: int) -> list[_Task]:
        self.demand.place = self.end_place(self.goal)
        self.put_in_front(self.block(_Task(self.goal, n)))
        while (task := self.next_task()) is not None:
            self.put_in_front(self.block(task))
        return self.tasks

    def next_task(self) -> _Task | None:
        """The next task to put in front: a provider at the current place, else a mover, else None."""
        wanted = {self.provider(resource, level).name for resource, level in self.demand.items()}
        route = self.route(self.facts.start_place, self.demand.place)
        ready = self.not_needed_by_others(wanted, route)
        here = [name for name in ready if self.end_place(self.skills[name]) == self.demand.place]
        if here:
            return self.enough_of(self.skills[max(here, key=self.rank.__getitem__)])
        if ready:
            latest = max(ready, key=self.rank.__getitem__)
            route = self.route(self.end_place(self.skills[latest]), self.demand.place)
        return _Task(route[-1], 1) if route else None

    def not_needed_by_others(self, wanted: set[str], route: Sequence[SkillSpec]) -> list[str]:
        """The wanted providers on which no other wanted provider and no remaining mover depends."""
        later = [dependencies(self.graph, name) for name in wanted.union(mover.name for mover in route)]
        return [name for name in sorted(wanted) if not any(name in needed for needed in later)]

    def enough_of(self, spec: SkillSpec) -> _Task:
        """A task for a provider, with the ``n`` that meets all demand for it."""
        wanted = [(name, level) for name, level in self.demand.items() if self.provider(name, level) is spec]
        return _Task(spec, max(spec.gains[name].count_for(level) for name, level in wanted))

    def block(self, task: _Task, place: str | None = None) -> list[_Task]:
        """A task, preceded by the providers of the nearness that it needs, each once and all at one place."""
        place = place or self.home(task.spec)
        before: list[_Task] = []
        for resource, level in needs(task.spec, self.facts, task.n).items():
            if self.facts.kind(resource) is Kind.NEARNESS:
                found = self.provider(resource, level, task.spec.name)
                if _place(found.requires, self.facts) not in (None, place):
                    raise self.at_another_place(task.spec, place, found, resource)
                provided = self.block(_Task(found, found.gains[resource].count_for(level)), place)
                before += [other for other in provided if other not in before]
        return [*before, task]

    def put_in_front(self, block: list[_Task]) -> None:
        """Puts a block in front of the tasks so far, with what must go between them: a refill or a move."""
        name = block[-1].spec.name
        if name in self.in_progress:  # a refill needs a move that needs the refill
            raise BadInput(
                f"skill {self.goal.name}: {name} and the tasks after it need more than a player can carry from place to "
                "place; let them require less"
            )
        self.in_progress.append(name)
        while between := self.between(block):
            self.put_in_front(self.block(between))
        self.in_progress.remove(name)
        self.demand = self.demand_before(block)
        self.tasks = [*block, *self.tasks]
        if len(self.tasks) > MAX_TASKS:
            raise BadInput(
                f"the plan for {self.goal.name} has more than {MAX_TASKS} tasks; let it require less, or add a skill "
                "that provides what it needs more directly"
            )

    def between(self, block: list[_Task]) -> _Task | None:
        """The task that must go between a block and the plan so far; None if none is needed."""
        if route := self.route(self.end_place(block[-1].spec), self.demand.place):
            return _Task(route[-1], 1)
        for resource, level in self.demand_before(block).stocks.items():
            if level > self.most(resource):
                if not self.demand.stocks.get(resource):
                    raise self.over_cap(block, resource, level)
                return self.enough_of(self.provider(resource, self.demand.stocks[resource]))
        return None

    def most(self, resource: str) -> int | float:
        """The most of a stock that its provider can provide: the largest multiple within the game's cap."""
        cap = self.facts.stocks[resource]
        gain = self.provider(resource, 1).gains[resource]
        return gain.fixed if gain.per == 0 else gain.at(math.floor((cap - gain.fixed) / gain.per))

    def demand_before(self, block: list[_Task]) -> _Demand:
        """The demand after a block is put in front, found by walking backwards through its tasks."""
        stocks, possessions, place = dict(self.demand.stocks), dict(self.demand.possessions), self.demand.place
        for task in reversed(block):
            for resource, amount in task.spec.gains.items():
                for demanded in (stocks, possessions):
                    if amount.at(task.n) >= demanded.get(resource, 0):
                        demanded.pop(resource, None)
            for resource, amount in task.spec.consumes.items():
                stocks[resource] = stocks.get(resource, 0) + amount.at(task.n)
            for resource, level in needs(task.spec, self.facts, task.n).items():
                kind = self.facts.kind(resource)
                if kind in (Kind.STOCK, Kind.POSSESSION):
                    demanded = stocks if kind is Kind.STOCK else possessions
                    demanded[resource] = max(demanded.get(resource, 0), level)
            is_mover = _place(task.spec.gains, self.facts) is not None
            place = _place(task.spec.requires, self.facts) or (self.facts.start_place if is_mover else place)
        return _Demand(place, {name: level for name, level in stocks.items() if level > 0}, possessions)

    def provider(self, resource: str, level: int | float, consumer: str | None = None) -> SkillSpec:
        found = provider(resource, level, self.skills, self.facts, consumer or self.goal.name)
        if found is None:
            raise _nothing_provides(consumer or self.goal.name, [resource], self.skills)
        return found

    def home(self, spec: SkillSpec) -> str | None:
        """The place at which a skill is planned: its own, else the furthest place of what it needs, else the first."""
        if own := _place(spec.requires, self.facts):
            return own
        furthest = self.facts.start_place
        for resource, level in needs(spec, self.facts).items():
            if self.facts.kind(resource) is not Kind.PLACE:
                furthest = max(furthest, self.home(self.provider(resource, level, spec.name)), key=self.number_of)
        return furthest

    def end_place(self, spec: SkillSpec) -> str | None:
        """The place of the player when a skill is done."""
        return _place(spec.gains, self.facts) or self.home(spec)

    def number_of(self, place: str | None) -> int:
        return self.facts.places.index(place) if place else 0

    def route(self, start: str | None, end: str | None) -> list[SkillSpec]:
        """The movers from one place to another, in order; empty if the places are the same."""
        if start == end:
            return []
        try:
            places = nx.shortest_path(self.movers, start, end)
        except (nx.NetworkXNoPath, nx.NodeNotFound) as error:
            raise BadInput(
                f"skill {self.goal.name} needs things at {start} and then at {end}, and no skill leads "
                f"there; add one that requires {start} and gains {end}"
            ) from error
        return [self.movers.edges[edge]["mover"] for edge in itertools.pairwise(places)]

    def at_another_place(self, consumer: SkillSpec, place: str | None, found: SkillSpec, resource: str) -> BadInput:
        return BadInput(
            f"skill {self.goal.name}: {consumer.name} is done at {place}, but {found.name}, which provides {resource}, is "
            f"done at {_place(found.requires, self.facts)}; add a skill that provides {resource} at {place}"
        )

    def over_cap(self, block: list[_Task], resource: str, level: int | float) -> BadInput:
        names = ", ".join(f"{task.spec.name} x{task.n}" for task in block)
        return BadInput(
            f"skill {self.goal.name}: {names} need {math.ceil(level)} {resource} at once, but a player can get at "
            f"most {self.most(resource):g}; let it require less, or split it into two skills"
        )


def _place(resources: Collection[str], facts: GameFacts) -> str | None:
    return next((name for name in resources if name in facts.places), None)


def _movers(skills: Mapping[str, SkillSpec], facts: GameFacts) -> nx.DiGraph:
    """The graph of places, with an edge for each mover; if two skills make the same move, the first one."""
    graph = nx.DiGraph()
    for spec in skills.values():
        end = _place(spec.gains, facts)
        start = _place(spec.requires, facts) or facts.start_place
        if end and start != end and not graph.has_edge(start, end):
            graph.add_edge(start, end, mover=spec)
    return graph


def _nothing_provides(skill_name: str, lacking: Sequence[str], reached: Collection[str]) -> BadInput:
    return BadInput(
        f"skill {skill_name} needs {', '.join(lacking)}, which none of the {len(reached)} skills in reach provides; "
        f"first add a skill that gains {lacking[0]}, or remove it from what {skill_name} requires and consumes"
    )
