"""The flow graph: proposals become plans, and news decides what may be built upon."""

import pytest

from flowrl.envs.registry import GAMES, game
from flowrl.errors import BadInput
from flowrl.flow_graph import FlowGraph
from flowrl.proposers.base import Measured
from flowrl.proposers.curriculum import CurriculumProposer
from flowrl.skills.spec import SkillSpec
from tests.front_door.fakes import PICKAXE, STONE, WOOD, ListProposer, spec

FACTS = game("Craftax-Classic-Symbolic-v1").facts


def graph_of(*proposals, get_dependencies=lambda name, skills, training: []) -> FlowGraph:
    return FlowGraph(ListProposer(*proposals), FACTS, get_dependencies)


def entry(name: str, status: str, expert_idx=None) -> dict:
    return {"skill_name": name, "status": status, "expert_idx": expert_idx}


def test_a_proposal_becomes_skill_data_with_its_plan():
    graph = graph_of(WOOD, STONE, PICKAXE)
    for _ in range(2):
        graph.next_skill()
    name, data = graph.next_skill()
    assert name == "Make_Pickaxe"
    assert data["execution_plan"] == [
        {"skill_name": "Collect_Wood", "n": 1},
        {"skill_name": "Collect_Stone", "n": 1},
        {"skill_name": "Make_Pickaxe", "n": 1},
    ]
    assert data["task_is_done"] == PICKAXE.task_is_done
    assert graph.dependencies(name) == ["Collect_Wood", "Collect_Stone"]


def test_the_frontier_is_blocked_while_what_the_newest_needs_is_in_training():
    graph = graph_of(WOOD, STONE, PICKAXE)
    assert not any(graph.check_frontier_blocked(*graph.next_skill()) for _ in range(2))
    newest = graph.next_skill()
    assert graph.check_frontier_blocked(*newest)
    graph.on_skill_complete("Collect_Wood")
    assert graph.check_frontier_blocked(*newest)
    graph.on_skill_complete("Collect_Stone")
    assert not graph.check_frontier_blocked(*newest)


def test_news_moves_skills_between_training_library_and_neither():
    graph = graph_of(WOOD, STONE, PICKAXE)
    for _ in range(3):
        graph.next_skill()
    graph.news([entry("Collect_Wood", "completed", 0), entry("Collect_Stone", "running", 1), entry("Make_Pickaxe", "failed")])
    assert list(graph.completed()) == ["Collect_Wood"]
    assert graph.completed()["Collect_Wood"]["expert_idx"] == 0
    assert list(graph.in_training()) == ["Collect_Stone"]
    assert graph.view().unavailable == {"Make_Pickaxe"}


def test_nothing_is_built_on_what_failed():
    graph = graph_of(WOOD, STONE, PICKAXE)
    for _ in range(2):
        graph.next_skill()
    graph.news([entry("Collect_Wood", "failed")])
    with pytest.raises(BadInput, match="Make_Pickaxe needs wood"):
        graph.next_skill()


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(BadInput, match="Collect_Wood was proposed again"):
        graph = graph_of(WOOD, WOOD)
        graph.next_skill()
        graph.next_skill()


@pytest.mark.parametrize(
    "proposal, names",
    [
        (spec("Find_Gold", "gold"), ["Find_Gold", "gold"]),
        (spec("Make_Pickaxe", "wood_pickaxe", requires=["wood"]), ["Make_Pickaxe", "wood"]),
        (
            SkillSpec(name="Escape", gains={"wood": {"per": 1}}, task_is_done=WOOD.task_is_done,
                      task_reward="def task_reward(inventory_diff):\n    return open('x')"),
            ["Escape", "task_reward", "open"],
        ),
    ],
)  # fmt: skip
def test_a_proposal_that_cannot_be_trained_is_refused_and_leaves_no_trace(proposal, names):
    graph = graph_of(proposal)
    with pytest.raises(BadInput) as refused:
        graph.next_skill()
    for name in names:
        assert name in str(refused.value)
    assert graph.skills == {}


def test_a_dependency_of_ones_own_blocks_the_frontier_too():
    graph = graph_of(WOOD, STONE, get_dependencies=lambda name, skills, training: {"Collect_Stone": ["Collect_Wood"]}.get(name, []))
    graph.next_skill()
    assert graph.check_frontier_blocked(*graph.next_skill())


def test_skills_of_earlier_starts_are_built_upon():
    graph = graph_of(PICKAXE)
    graph.load(
        {
            "Collect_Wood": {**WOOD.to_data(), "status": "completed", "expert_idx": 0},
            "Collect_Stone": {**STONE.to_data(), "status": "running", "expert_idx": 1},
        }
    )
    newest = graph.next_skill()
    assert graph.dependencies("Make_Pickaxe") == ["Collect_Wood", "Collect_Stone"]
    assert graph.check_frontier_blocked(*newest)


class Repairing(ListProposer):
    """Takes refusals in, and goes on with its list."""

    def __init__(self, *proposals):
        super().__init__(*proposals)
        self.was_refused: list[tuple[str, str]] = []

    def propose(self, library, examine):
        while self.proposals:
            proposal = self.proposals[0]
            try:
                return super().propose(library, examine)
            except BadInput as error:
                self.was_refused.append((proposal.name, str(error)))
        return None


def test_a_proposer_that_can_repair_is_told_and_goes_on():
    proposer = Repairing(WOOD, WOOD, PICKAXE, STONE)
    graph = FlowGraph(proposer, FACTS, lambda name, skills, training: [])
    for expected in ("Collect_Wood", "Collect_Stone"):
        name, _ = graph.next_skill()
        graph.added(name)
        assert name == expected
    assert graph.next_skill() is None
    (twice, why_twice), (early, why_early) = proposer.was_refused
    assert (twice, early) == ("Collect_Wood", "Make_Pickaxe")
    assert "proposed again" in why_twice and "needs stone" in why_early
    assert proposer.was_accepted == ["Collect_Wood", "Collect_Stone"]


def test_a_gate_of_the_callers_own_is_passed_last():
    asked = []

    def gate(spec):
        asked.append(spec.name)
        if spec.name == "Collect_Wood":
            raise BadInput("not this one")

    graph = FlowGraph(Repairing(PICKAXE, WOOD, STONE), FACTS, lambda name, skills, training: [], gate)
    assert graph.next_skill()[0] == "Collect_Stone"
    assert asked == ["Collect_Wood", "Collect_Stone"]  # what cannot be planned does not come that far
    assert graph.proposer.was_refused[-1] == ("Collect_Wood", "not this one")


def test_a_proposer_is_told_what_was_measured_of_the_library():
    graph = graph_of(WOOD, STONE)
    for _ in range(2):
        graph.next_skill()
    results = {"success_rate": 0.9, "random_success_rate": 0.1, "frames": 1000, "frames_per_success": 57.4}
    graph.news([entry("Collect_Wood", "completed", 0) | results, entry("Collect_Stone", "running", 1)])
    assert graph.view().measured == {"Collect_Wood": Measured(0.9, 0.1, 1000, 57.4)}


@pytest.mark.parametrize("env_name", GAMES)
def test_the_whole_curriculum_can_be_planned_one_by_one(env_name):
    entry = game(env_name)
    graph = FlowGraph(CurriculumProposer(entry.curriculum, entry.facts), entry.facts, lambda name, skills, training: [])
    while (found := graph.next_skill()) is not None:
        graph.on_skill_complete(found[0])
    assert len(graph.skills) >= {"Craftax-Classic-Symbolic-v1": 22, "Craftax-Symbolic-v1": 30}[env_name]


def test_a_plan_does_not_depend_on_what_finished_first():
    plans = []
    for first in ("Collect_Wood", "Collect_Stone"):
        graph = graph_of(WOOD, STONE, PICKAXE)
        for _ in range(2):
            graph.next_skill()
        graph.on_skill_complete(first)
        plans.append(graph.next_skill()[1]["execution_plan"])
    assert plans[0] == plans[1]
