import pytest

from flowrl.errors import BadInput
from flowrl.skills.frontier import blocked_by, feasible, missing, reachable_skills
from flowrl.skills.graph import (
    check_acyclic,
    dependencies,
    dependency_graph,
    dependents,
    names_graph,
    needs,
    topological_order,
)
from tests.skills.builders import FACTS, by_name, skill

WOOD = skill("Wood", gains={"wood": "n"})
TABLE = skill("Table", {"wood": 2}, {"wood": 2}, {"near:TABLE": 1})
PICKAXE = skill("Pickaxe", {"wood": 1, "near:TABLE": 1}, {"wood": 1}, {"pickaxe": 1})
STONE = skill("Stone", {"pickaxe": 1}, gains={"stone": "n"})
LIBRARY = by_name(WOOD, TABLE, PICKAXE, STONE)


def test_edges_run_from_a_skill_to_the_providers_of_what_it_needs():
    graph = dependency_graph(LIBRARY, FACTS)
    assert set(graph.edges) == {("Table", "Wood"), ("Pickaxe", "Wood"), ("Pickaxe", "Table"), ("Stone", "Pickaxe")}
    assert dependencies(graph, "Stone") == {"Wood", "Table", "Pickaxe"}
    assert dependents(graph, "Table") == {"Pickaxe", "Stone"}


def test_dependencies_come_first_and_ties_keep_the_order_of_addition():
    graph = names_graph({"D": ["B", "C"], "A": [], "C": ["A"], "B": ["A"]})
    assert topological_order(graph) == ["A", "C", "B", "D"]


def test_a_circle_is_refused_with_its_skills():
    with pytest.raises(BadInput, match="circle: A -> B -> C -> A; remove one"):
        check_acyclic(names_graph({"A": ["B"], "B": ["C"], "C": ["A"], "D": ["A"]}))


def test_needs_are_the_larger_of_required_and_consumed():
    spec = skill("Smelt", {"wood": 1, "level:GROUND": 1}, {"wood": "2n", "stone": "n"})
    assert needs(spec, FACTS, n=3) == {"wood": 6, "stone": 3}


def test_a_possession_of_too_low_a_level_does_not_provide():
    iron = skill("Iron", {"pickaxe": 2}, gains={"gem": "n"})
    assert missing(iron, LIBRARY, FACTS) == ["pickaxe"]
    better = skill("Better", {"stone": 1}, gains={"pickaxe": 2})
    assert missing(iron, {**LIBRARY, **by_name(better)}, FACTS) == []


def test_reachable_skills_are_those_that_a_fresh_world_leads_to():
    orphan = skill("Orphan", {"bow": 1}, gains={"arrows": "n"})
    needs_orphan = skill("Needs_Orphan", {"arrows": 1}, gains={"gem": "n"})
    skills = {**by_name(needs_orphan, orphan), **LIBRARY}
    assert list(reachable_skills(skills, FACTS)) == ["Wood", "Table", "Pickaxe", "Stone"]
    assert not feasible(skill("X", {"gem": 1}), skills, FACTS)
    assert feasible(skill("X", {"stone": 3}), skills, FACTS)


def test_a_skill_does_not_provide_for_itself():
    assert missing(skill("Seed", {"wood": 1}, gains={"wood": "n"}), {}, FACTS) == ["wood"]


def test_the_frontier_is_blocked_by_dependencies_in_training():
    assert blocked_by(["Wood", "Table"], {"Table": ...}) == ["Table"]
    assert blocked_by(["Wood"], {"Table": ...}) == []
