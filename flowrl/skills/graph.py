"""The dependency graph: its edges run from a skill to the skills that provide what it needs.

A resource has one provider: the first skill, in the order of addition, that gains enough of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import networkx as nx

from flowrl.errors import BadInput
from flowrl.skills.facts import GameFacts, Kind
from flowrl.skills.spec import SkillSpec


def needs(spec: SkillSpec, facts: GameFacts, n: int = 1) -> dict[str, int | float]:
    """The resources that a skill needs at its start: for each one the larger of what it requires and consumes.

    Being at the place where episodes start is not a need.
    """
    found: dict[str, int | float] = {}
    for amounts in (spec.requires, spec.consumes):
        for resource, amount in amounts.items():
            found[resource] = max(found.get(resource, 0), amount.at(n))
    found.pop(facts.start_place, None)
    return {resource: level for resource, level in found.items() if level > 0}


def goals_of(spec: SkillSpec, facts: GameFacts) -> set[str]:
    """The achievements that a skill declares to gain."""
    family = f"{facts.goals}:"
    return {resource.removeprefix(family) for resource in spec.gains if facts.goals and resource.startswith(family)}


def provides(spec: SkillSpec, resource: str, level: int | float, facts: GameFacts) -> bool:
    """Whether a skill, done often enough, provides ``level`` of a resource. More than one stack needs two tasks."""
    gain = spec.gains.get(resource)
    if gain is None:
        return False
    if facts.kind(resource) is Kind.STOCK:
        return gain.per > 0 or gain.fixed >= level
    return gain.at(1) >= level


def provider(
    resource: str, level: int | float, skills: Mapping[str, SkillSpec], facts: GameFacts, consumer: str
) -> SkillSpec | None:
    """The first of ``skills``, other than the consumer, that provides ``level`` of a resource, or None."""
    return next((spec for name, spec in skills.items() if name != consumer and provides(spec, resource, level, facts)), None)


def dependency_graph(skills: Mapping[str, SkillSpec], facts: GameFacts) -> nx.DiGraph:
    """Edges from each skill to its providers. A need without a provider has no edge: see :mod:`flowrl.skills.frontier`."""
    graph = nx.DiGraph()
    graph.add_nodes_from(skills)
    for name, spec in skills.items():
        for resource, level in needs(spec, facts).items():
            found = provider(resource, level, skills, facts, consumer=name)
            if found is not None:
                graph.add_edge(name, found.name)
    return graph


def names_graph(dependencies: Mapping[str, Iterable[str]]) -> nx.DiGraph:
    """The same graph, built from the names of each skill's dependencies."""
    graph = nx.DiGraph()
    graph.add_nodes_from(dependencies)
    graph.add_edges_from((name, other) for name, others in dependencies.items() for other in others)
    return graph


def check_acyclic(graph: nx.DiGraph) -> None:
    """Checks that a graph has no cycle.

    Raises:
        BadInput: names the skills of one cycle.
    """
    try:
        cycle = nx.find_cycle(graph)
    except nx.NetworkXNoCycle:
        return
    path = " -> ".join([*(edge[0] for edge in cycle), cycle[0][0]])
    raise BadInput(f"these skills depend on each other in a circle: {path}; remove one of these requirements or dependencies")


def topological_order(graph: nx.DiGraph) -> list[str]:
    """Skills with their dependencies first; ties keep the order of addition.

    Raises:
        BadInput: there is a cycle.
    """
    check_acyclic(graph)
    added = {name: position for position, name in enumerate(graph)}
    return list(nx.lexicographical_topological_sort(graph.reverse(copy=False), key=added.__getitem__))


def dependencies(graph: nx.DiGraph, name: str) -> set[str]:
    """All skills that a skill needs, directly or through others."""
    return nx.descendants(graph, name)


def dependents(graph: nx.DiGraph, name: str) -> set[str]:
    """All skills that need a skill, directly or through others."""
    return nx.ancestors(graph, name)
