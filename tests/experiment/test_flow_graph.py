"""The flow graph: proposals become plans, and the scheduler says what may be built upon."""

import pytest

from flowrl.envs.registry import GAMES, game
from flowrl.errors import BadInput
from flowrl.experiment.flow_graph import FlowGraph, NothingTrained
from flowrl.proposers.base import Measured
from flowrl.proposers.curriculum import CurriculumProposer
from flowrl.skills.spec import SkillSpec
from tests.experiment.fakes import COAL, PICKAXE, SAPLING, STONE, WOOD, Entries, ListProposer, spec

FACTS = game("Craftax-Classic-Symbolic-v1").facts


def nothing_to_add(name, skills, training):
    return []


def graph_of(*proposals, get_dependencies=nothing_to_add) -> FlowGraph:
    return FlowGraph(Entries(), ListProposer(*proposals), FACTS, get_dependencies)


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
    graph.scheduler.has("Collect_Wood", "completed")
    assert graph.check_frontier_blocked(*newest)
    graph.scheduler.has("Collect_Stone", "completed")
    assert not graph.check_frontier_blocked(*newest)


def test_the_scheduler_says_what_is_in_training_in_the_library_and_neither():
    graph = graph_of(WOOD, STONE, PICKAXE)
    for _ in range(3):
        graph.next_skill()
    assert list(graph.in_training()) == ["Collect_Wood", "Collect_Stone", "Make_Pickaxe"]  # they wait to be added
    graph.scheduler.has("Collect_Wood", "completed", expert_idx=0)
    graph.scheduler.has("Collect_Stone", "running", expert_idx=1)
    graph.scheduler.has("Make_Pickaxe", "failed")
    assert list(graph.completed()) == ["Collect_Wood"]
    assert graph.completed()["Collect_Wood"]["expert_idx"] == 0
    assert list(graph.in_training()) == ["Collect_Stone"]
    assert graph.view().unavailable == {"Make_Pickaxe"}


def test_nothing_is_built_on_what_failed():
    graph = graph_of(WOOD, STONE, PICKAXE)
    for _ in range(2):
        graph.next_skill()
    graph.scheduler.has("Collect_Wood", "failed")
    with pytest.raises(BadInput, match="Make_Pickaxe needs wood"):
        graph.next_skill()


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(BadInput, match="Collect_Wood exists already"):
        graph = graph_of(WOOD, WOOD)
        graph.next_skill()
        graph.next_skill()


@pytest.mark.parametrize(
    ("proposal", "names"),
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
    graph = graph_of(
        WOOD, STONE, get_dependencies=lambda name, skills, training: {"Collect_Stone": ["Collect_Wood"]}.get(name, [])
    )
    graph.next_skill()
    assert graph.check_frontier_blocked(*graph.next_skill())


def test_skills_of_earlier_starts_are_built_upon():
    graph = graph_of(PICKAXE)
    graph.load({"Collect_Wood": WOOD.to_data(), "Collect_Stone": {**STONE.to_data(), "status": "failed", "expert_idx": 7}})
    graph.scheduler.has("Collect_Wood", "completed", expert_idx=0)
    graph.scheduler.has("Collect_Stone", "running", expert_idx=1)
    assert (graph.skills["Collect_Stone"]["status"], graph.skills["Collect_Stone"]["expert_idx"]) == ("running", 1)
    newest = graph.next_skill()
    assert graph.dependencies("Make_Pickaxe") == ["Collect_Wood", "Collect_Stone"]
    assert graph.check_frontier_blocked(*newest)


class Repairing(ListProposer):
    """Records refusals, and goes on with its list."""

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
    graph = FlowGraph(Entries(), proposer, FACTS, nothing_to_add)
    for expected in ("Collect_Wood", "Collect_Stone"):
        name, _ = graph.next_skill()
        graph.added(name)
        assert name == expected
    assert graph.next_skill() is None
    (twice, why_twice), (early, why_early) = proposer.was_refused
    assert (twice, early) == ("Collect_Wood", "Make_Pickaxe")
    assert "exists already" in why_twice and "needs stone" in why_early
    assert proposer.was_accepted == ["Collect_Wood", "Collect_Stone"]


def test_a_gate_of_the_callers_own_is_passed_last():
    asked = []

    def gate(spec):
        asked.append(spec.name)
        if spec.name == "Collect_Wood":
            raise BadInput("not this one")

    graph = FlowGraph(Entries(), Repairing(PICKAXE, WOOD, STONE), FACTS, nothing_to_add, gate)
    assert graph.next_skill()[0] == "Collect_Stone"
    assert asked == ["Collect_Wood", "Collect_Stone"]  # what cannot be planned does not come that far
    assert graph.proposer.was_refused[-1] == ("Collect_Wood", "not this one")


def test_a_proposer_is_told_what_was_measured_of_the_library():
    graph = graph_of(WOOD, STONE)
    for _ in range(2):
        graph.next_skill()
    results = {"success_rate": 0.9, "random_success_rate": 0.1, "frames": 1000, "frames_per_success": 57.4}
    graph.scheduler.has("Collect_Wood", "completed", expert_idx=0, **results)
    graph.scheduler.has("Collect_Stone", "running", expert_idx=1)
    assert graph.view().measured == {"Collect_Wood": Measured(0.9, 0.1, 1000, 57.4)}


# What a training observed.

ADDED = {"gains": {"wood": {"per": 1}, "achievement:EAT_COW": {"fixed": 1}}}
OBSERVED = {
    "differences": [{"kind": "", "resource": "", "text": "Collect_Wood: eats a cow"}],
    "added_gains": ["achievement:EAT_COW"],
}
DINNER = spec("Dine", "stone", requires=["achievement:EAT_COW"])


class Archive:
    """What the library has of skills; notes when it is asked."""

    def __init__(self, **data):
        self.data, self.asked = data, []

    def __call__(self, expert_idx, name):
        self.asked.append((expert_idx, name))
        return self.data.get(name, {})


def observing_graph(archive, *proposals) -> FlowGraph:
    graph = FlowGraph(Entries(), ListProposer(*proposals), FACTS, nothing_to_add, archived=archive)
    graph.next_skill()
    return graph


def test_plans_are_built_with_what_was_observed_of_a_skill():
    archive = Archive(Collect_Wood={**ADDED, "observed": OBSERVED, "description": "of the library"})
    graph = observing_graph(archive, WOOD, DINNER, DINNER)
    with pytest.raises(BadInput, match="Dine needs achievement:EAT_COW"):
        graph.next_skill()
    graph.scheduler.has("Collect_Wood", "completed", expert_idx=4, attempt=1)
    name, data = graph.next_skill()
    assert [step["skill_name"] for step in data["execution_plan"]] == ["Collect_Wood", "Dine"]
    assert graph.dependencies(name) == ["Collect_Wood"]
    view = graph.view()
    assert "achievement:EAT_COW" in view.completed["Collect_Wood"].gains
    assert view.differences == {"Collect_Wood": ("Collect_Wood: eats a cow",)}
    assert archive.asked == [(4, "Collect_Wood")]  # once for each attempt
    graph.scheduler.has("Collect_Wood", "completed", expert_idx=4, attempt=2)
    graph.view()
    assert len(archive.asked) == 2


def test_a_later_start_builds_its_plans_with_it_too():
    graph = graph_of(DINNER)
    graph.load({"Collect_Wood": WOOD.to_data() | ADDED | {"observed": OBSERVED}})
    graph.scheduler.has("Collect_Wood", "completed", expert_idx=0)
    assert [step["skill_name"] for step in graph.next_skill()[1]["execution_plan"]] == ["Collect_Wood", "Dine"]
    assert graph.view().differences == {"Collect_Wood": ("Collect_Wood: eats a cow",)}


def test_a_gain_is_not_added_if_skills_would_need_each_other_by_it():
    cow, stone = spec("Eat_Cow", "achievement:EAT_COW"), spec("Dine", "stone", requires=["achievement:EAT_COW"])
    table = spec("Mine", "coal", requires=["stone"])
    added = {"gains": {"coal": {"per": 1}, "achievement:EAT_COW": {"fixed": 1}}, "observed": OBSERVED}
    known = {"Mine": table.to_data() | added, "Eat_Cow": cow.to_data(), "Dine": stone.to_data()}
    graph = graph_of(spec("Smelt", "iron", requires=["coal"]))
    graph.load(known)
    for index, name in enumerate(known):
        graph.scheduler.has(name, "completed", expert_idx=index)
    assert [step["skill_name"] for step in graph.next_skill()[1]["execution_plan"]] == ["Eat_Cow", "Dine", "Mine", "Smelt"]


def test_a_proposer_hears_why_skills_cannot_be_built_on():
    graph = graph_of(WOOD, STONE, COAL, SAPLING)
    for _ in range(4):
        graph.next_skill()
    why = "no progress: Collect_Wood succeeds in 0.000 of fresh episodes; give it another reward, or ..."
    graph.scheduler.has("Collect_Wood", "failed", error=why)
    graph.scheduler.has("Collect_Stone", "failed", error="attempt 1 exited with code 1 without a result; see /secret/place")
    graph.scheduler.has("Collect_Coal", "cancelled", error="cancelled in its pane")
    graph.scheduler.has("Collect_Sapling", "blocked", blocked_by=["Collect_Wood"])
    assert graph.view().reasons == {
        "Collect_Wood": "no progress: Collect_Wood succeeds in 0.000 of fresh episodes",
        "Collect_Stone": "its training ended with an error",
        "Collect_Coal": "cancelled by the user",
        "Collect_Sapling": "blocked, since it needs Collect_Wood",
    }


@pytest.mark.parametrize("env_name", GAMES)
def test_the_whole_curriculum_can_be_planned_one_by_one(env_name):
    entry = game(env_name)
    graph = FlowGraph(Entries(), CurriculumProposer(entry.curriculum, entry.facts), entry.facts, nothing_to_add)
    while (found := graph.next_skill()) is not None:
        graph.scheduler.has(found[0], "completed")
    assert len(graph.skills) >= {"Craftax-Classic-Symbolic-v1": 24, "Craftax-Symbolic-v1": 30}[env_name]


def test_a_plan_does_not_depend_on_what_finished_first():
    plans = []
    for first in ("Collect_Wood", "Collect_Stone"):
        graph = graph_of(WOOD, STONE, PICKAXE)
        for _ in range(2):
            graph.next_skill()
        graph.scheduler.has(first, "completed")
        plans.append(graph.next_skill()[1]["execution_plan"])
    assert plans[0] == plans[1]


def test_before_the_first_start_nothing_is_trained():
    graph = FlowGraph(NothingTrained(), ListProposer(WOOD), FACTS, nothing_to_add)
    assert graph.view().completed == {} and graph.next_skill()[0] == "Collect_Wood"


def test_a_name_that_only_the_scheduler_knows_is_taken_too():
    graph = graph_of(WOOD)
    graph.scheduler.has("Collect_Wood", "completed")
    with pytest.raises(BadInput, match="Collect_Wood exists already"):
        graph.next_skill()


class Hook:
    """Records what it was asked."""

    def __init__(self, **needs):
        self.needs, self.asked = needs, []

    def __call__(self, name, skills, training):
        self.asked.append((name, list(skills), list(training)))
        skills.clear()  # it may do with them as it likes
        return self.needs.get(name, [])


def test_the_hook_is_asked_once_for_each_skill_and_its_answer_kept():
    hook = Hook(Collect_Stone=["Collect_Wood"])
    graph = graph_of(WOOD, STONE, get_dependencies=hook)
    for _ in range(2):
        name, data = graph.next_skill()
        for _ in range(3):
            graph.check_frontier_blocked(name, data)
            graph.dependencies(name)
        graph.scheduler.has(name, "running", graph.dependencies(name))
    assert graph.dependencies("Collect_Stone") == ["Collect_Wood"] and graph.check_frontier_blocked("Collect_Stone", {})
    both = ["Collect_Wood", "Collect_Stone"]
    assert hook.asked == [("Collect_Wood", ["Collect_Wood"], ["Collect_Wood"]), ("Collect_Stone", both, both)]
    assert list(graph.skills) == both


def test_a_later_start_takes_what_the_hook_said_from_the_scheduler():
    hook = Hook(Collect_Stone=[])
    graph = graph_of(get_dependencies=hook)
    graph.load({"Collect_Wood": WOOD.to_data(), "Collect_Stone": STONE.to_data()})
    graph.scheduler.has("Collect_Wood", "running")
    graph.scheduler.has("Collect_Stone", "waiting", ["Collect_Wood"])
    assert graph.check_frontier_blocked("Collect_Stone", graph.skills["Collect_Stone"])
    assert hook.asked == []
