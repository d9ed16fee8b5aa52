"""The generation loop: proposes while a slot is free and the frontier is open, and waits for news when not."""

import threading
import time

import pytest

from flowrl.envs.registry import game
from flowrl.errors import BadInput, FlowrlError
from flowrl.experiment import generation
from flowrl.experiment.flow_graph import FlowGraph
from flowrl.experiment.generation import Generation
from flowrl.experiment.rehearsals import Rehearsals
from flowrl.records.rehearsal_settings import RehearsalRequest
from flowrl.skills.explore import explore
from tests.experiment.fakes import COAL, PICKAXE, SAPLING, STONE, WOOD, FakeScheduler, ListProposer, until

FACTS = game("Craftax-Classic-Symbolic-v1").facts


def no_more_dependencies(skill_name, all_skills, training_skills):
    return []


class Loop:
    """A generation loop that runs in its own thread."""

    def __init__(
        self, proposer, max_parallel=2, max_nodes=10, known=(), get_dependencies=no_more_dependencies,
        explore_frames=0, rehearse_every=None, rehearsed=0,
    ):  # fmt: skip
        in_state = ("skill_name", "status", "dependencies", "expert_idx")
        self.scheduler = FakeScheduler(max_parallel, [{key: d[key] for key in in_state if key in d} for d in known])
        if rehearsed:
            self.scheduler.finish_rehearsal(self.scheduler.add_rehearsal(RehearsalRequest(1000)))
        self.flow_graph = FlowGraph(self.scheduler, proposer, FACTS, get_dependencies)
        self.flow_graph.load({data["skill_name"]: data for data in known})
        self.lines: list[str] = []
        rehearsals = Rehearsals(self.scheduler, rehearse_every, RehearsalRequest(1000), self.lines.append)
        self.generation = Generation(self.scheduler, self.flow_graph, max_nodes, rehearsals, self.lines.append, explore_frames)
        self.scheduler.set_callbacks(
            on_skill_complete=self.flow_graph.on_skill_complete,
            on_skill_final=self.generation.on_final,
            on_rehearsal_final=self.generation.on_final,
            prepare_training_run=None,
            process_completed_training=None,
        )
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            self.generation.run()
        except BaseException as error:
            self.error = error

    def has_added(self, *names):
        until(lambda: len(self.scheduler.added) >= len(names), f"adding {names[-1]}")
        self.waits()
        assert self.scheduler.added == list(names)

    def waits(self):
        """Long enough for a loop that does not wait to be found out."""
        time.sleep(0.15)

    def ends(self):
        until(lambda: not self.thread.is_alive(), "the end")
        assert self.error is None, self.error


@pytest.fixture(autouse=True)
def no_looking_around(monkeypatch):
    """What the loop does at once, it does because it was notified, not because it polled."""
    monkeypatch.setattr(generation, "LOOK_EVERY_S", 60.0)


def test_skills_are_proposed_while_a_slot_is_free():
    loop = Loop(ListProposer(WOOD, STONE, COAL, SAPLING))
    loop.has_added("Collect_Wood", "Collect_Stone")
    loop.scheduler.finish("Collect_Wood")
    loop.has_added("Collect_Wood", "Collect_Stone", "Collect_Coal")
    for name in ("Collect_Stone", "Collect_Coal"):
        loop.scheduler.finish(name)
    loop.has_added("Collect_Wood", "Collect_Stone", "Collect_Coal", "Collect_Sapling")
    loop.scheduler.finish("Collect_Sapling")
    loop.ends()


def test_a_blocked_frontier_pauses_proposals_until_all_that_it_needs_is_there():
    loop = Loop(ListProposer(WOOD, STONE, PICKAXE, COAL), max_parallel=4)
    loop.has_added("Collect_Wood", "Collect_Stone", "Make_Pickaxe")
    assert any("frontier blocked" in line for line in loop.lines)
    loop.scheduler.finish("Collect_Wood")
    loop.has_added("Collect_Wood", "Collect_Stone", "Make_Pickaxe")
    loop.scheduler.finish("Collect_Stone")
    loop.has_added("Collect_Wood", "Collect_Stone", "Make_Pickaxe", "Collect_Coal")
    for name in ("Make_Pickaxe", "Collect_Coal"):
        loop.scheduler.finish(name)
    loop.ends()


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_bad_end_unblocks_the_frontier_too(status):
    loop = Loop(ListProposer(WOOD, STONE, PICKAXE, COAL), max_parallel=4)
    loop.has_added("Collect_Wood", "Collect_Stone", "Make_Pickaxe")
    loop.scheduler.finish("Collect_Wood", status)
    loop.has_added("Collect_Wood", "Collect_Stone", "Make_Pickaxe", "Collect_Coal")
    view = loop.flow_graph.proposer.views[3]
    assert view.unavailable == {"Collect_Wood", "Make_Pickaxe"}
    assert set(view.available) == {"Collect_Stone"}
    for name in ("Collect_Stone", "Collect_Coal"):
        loop.scheduler.finish(name)
    loop.ends()


def test_a_proposer_that_has_no_more_lets_training_finish():
    loop = Loop(ListProposer(WOOD))
    loop.has_added("Collect_Wood")
    assert loop.thread.is_alive()
    loop.scheduler.finish("Collect_Wood")
    loop.ends()
    assert loop.generation.proposer_error is None


def test_proposals_stop_at_max_nodes():
    loop = Loop(ListProposer(WOOD, STONE, COAL), max_parallel=3, max_nodes=2)
    loop.has_added("Collect_Wood", "Collect_Stone")
    for name in ("Collect_Wood", "Collect_Stone"):
        loop.scheduler.finish(name)
    loop.ends()


def test_max_nodes_counts_the_skills_of_earlier_starts():
    known = [{**spec.to_data(), "status": "completed", "expert_idx": i} for i, spec in enumerate((WOOD, STONE))]
    loop = Loop(ListProposer(PICKAXE, COAL), max_nodes=3, known=known)
    loop.has_added("Make_Pickaxe")
    assert loop.scheduler.state["skills"][-1]["dependencies"] == ["Collect_Wood", "Collect_Stone"]
    loop.scheduler.finish("Make_Pickaxe")
    loop.ends()


def test_a_resumed_frontier_is_still_blocked():
    known = [
        {**WOOD.to_data(), "status": "running", "expert_idx": 0},
        {**STONE.to_data(), "status": "completed", "expert_idx": 1},
        {**PICKAXE.to_data(), "status": "waiting", "expert_idx": None, "dependencies": ["Collect_Wood", "Collect_Stone"],
         "execution_plan": [{"skill_name": name, "n": 1} for name in ("Collect_Wood", "Collect_Stone", "Make_Pickaxe")]},
    ]  # fmt: skip
    loop = Loop(ListProposer(COAL), max_parallel=4, known=known)
    loop.waits()
    assert loop.scheduler.added == []
    loop.scheduler.finish("Collect_Wood")
    loop.has_added("Collect_Coal")


def test_an_error_in_the_schedulers_thread_ends_the_loop_with_that_error():
    loop = Loop(ListProposer(WOOD))
    loop.has_added("Collect_Wood")
    planted = RuntimeError("planted")
    loop.scheduler.fail(planted)
    until(lambda: not loop.thread.is_alive())
    assert loop.error is planted


def test_a_proposer_that_gives_up_lets_training_finish_and_says_why():
    loop = Loop(ListProposer(WOOD, FlowrlError("the model does not answer")))
    loop.has_added("Collect_Wood")
    until(lambda: loop.generation.proposer_error)
    assert loop.scheduler.proposer_state["last_error"] == "the model does not answer"
    assert loop.thread.is_alive()
    loop.scheduler.finish("Collect_Wood")
    loop.ends()
    assert loop.generation.proposer_error == "the model does not answer"


def test_a_first_proposal_that_cannot_be_planned_is_bad_input():
    loop = Loop(ListProposer(PICKAXE))
    until(lambda: not loop.thread.is_alive())
    assert isinstance(loop.error, BadInput) and "Make_Pickaxe needs" in str(loop.error)
    assert loop.scheduler.added == []


def test_a_slow_proposer_does_not_hold_up_what_has_finished():
    loop = Loop(ListProposer(WOOD, STONE, delay_s=1.0))
    until(lambda: loop.scheduler.added == ["Collect_Wood"])
    began = time.monotonic()
    loop.scheduler.finish("Collect_Wood")
    assert time.monotonic() - began < 0.5
    assert loop.flow_graph.skills["Collect_Wood"]["status"] == "completed"


def test_dependencies_of_ones_own_are_added_to_those_of_the_plan():
    def manual(skill_name, all_skills, training_skills):
        assert skill_name in all_skills and training_skills.keys() <= all_skills.keys()
        return {"Make_Pickaxe": ["Collect_Coal", "Collect_Wood"]}.get(skill_name, [])

    loop = Loop(ListProposer(WOOD, STONE, COAL, PICKAXE), max_parallel=4, get_dependencies=manual)
    until(lambda: len(loop.scheduler.added) == 4)
    entry = loop.scheduler.state["skills"][-1]
    assert (entry["skill_name"], entry["dependencies"]) == ("Make_Pickaxe", ["Collect_Wood", "Collect_Stone", "Collect_Coal"])


def test_a_dependency_that_is_no_skill_is_named():
    loop = Loop(ListProposer(WOOD), get_dependencies=lambda name, skills, training: ["Mine_Diamond"])
    until(lambda: not loop.thread.is_alive())
    assert isinstance(loop.error, BadInput) and "'Mine_Diamond'" in str(loop.error)


def test_a_skill_that_was_not_taken_is_no_skill():
    needs = {"Collect_Stone": ["Mine_Diamond"]}
    loop = Loop(ListProposer(WOOD, STONE), get_dependencies=lambda name, skills, training: needs.get(name, []))
    until(lambda: loop.generation.proposer_error)
    assert "'Mine_Diamond'" in loop.generation.proposer_error
    assert list(loop.flow_graph.skills) == ["Collect_Wood"]
    assert list(loop.flow_graph.usable()) == ["Collect_Wood"]
    assert loop.flow_graph.proposer.was_accepted == ["Collect_Wood"]
    loop.scheduler.finish("Collect_Wood")
    loop.ends()


def test_a_skill_that_the_scheduler_refuses_is_no_skill(monkeypatch):
    def refuse(self, skill_name, skill_data, dependencies):
        raise BadInput("planted")

    monkeypatch.setattr(FakeScheduler, "add_skill", refuse)
    loop = Loop(ListProposer(WOOD))
    until(lambda: not loop.thread.is_alive())
    assert "planted" in str(loop.error)
    assert loop.flow_graph.skills == {}


def test_the_scheduler_is_given_the_library(monkeypatch):
    known = [{**WOOD.to_data(), "status": "completed", "expert_idx": 0}]
    given = []
    run = FakeScheduler.run
    monkeypatch.setattr(FakeScheduler, "run", lambda self, library: (given.append(library), run(self, library)))
    loop = Loop(ListProposer(STONE), known=known)
    loop.has_added("Collect_Stone")
    loop.scheduler.finish("Collect_Stone")
    loop.ends()
    assert [(name, skill["expert_idx"]) for library in given for name, skill in library.items()] == [("Collect_Wood", 0)]


def test_the_hook_is_asked_once_for_each_skill_however_long_they_train():
    asked = []

    def manual(skill_name, all_skills, training_skills):
        asked.append(skill_name)
        return ["Collect_Wood"] if skill_name == "Collect_Stone" else []

    loop = Loop(ListProposer(WOOD, STONE, COAL), max_parallel=3, get_dependencies=manual)
    loop.has_added("Collect_Wood", "Collect_Stone")
    for _ in range(5):
        loop.generation.on_final("Collect_Wood", "running")  # a look at all, as every half second
        time.sleep(0.02)
    loop.scheduler.finish("Collect_Wood")
    loop.has_added("Collect_Wood", "Collect_Stone", "Collect_Coal")
    for name in ("Collect_Stone", "Collect_Coal"):
        loop.scheduler.finish(name)
    loop.ends()
    assert asked == ["Collect_Wood", "Collect_Stone", "Collect_Coal"]


@pytest.mark.parametrize("said", [None, "Collect_Wood", 3, KeyError("planted")], ids=str)
def test_a_hook_that_is_of_no_use_ends_proposing_and_nothing_else(said):
    def manual(skill_name, all_skills, training_skills):
        if skill_name == "Collect_Wood":
            return []
        if isinstance(said, Exception):
            raise said
        return said

    loop = Loop(ListProposer(WOOD, STONE, COAL), max_parallel=3, get_dependencies=manual)
    until(lambda: loop.generation.proposer_error)
    assert "get_skill_dependencies" in loop.generation.proposer_error and "Collect_Stone" in loop.generation.proposer_error
    assert loop.scheduler.added == ["Collect_Wood"] and loop.flow_graph.proposer.was_accepted == ["Collect_Wood"]
    loop.scheduler.finish("Collect_Wood")
    loop.ends()


def test_the_terminal_is_told_what_becomes_of_each_skill():
    loop = Loop(ListProposer(WOOD, STONE))
    loop.has_added("Collect_Wood", "Collect_Stone")
    loop.scheduler.finish("Collect_Wood")
    loop.scheduler.finish("Collect_Stone", "failed")
    loop.ends()
    told = "\n".join(loop.lines)
    assert "proposed   Collect_Wood" in told
    assert "completed  Collect_Wood   success 0.90 (random 0.10), 1.0k frames, 0.5 min" in told
    assert "failed     Collect_Stone" in told


class Thinking(ListProposer):
    """Works on its second proposal until the test lets it go on, and changes its state meanwhile."""

    def __init__(self, *proposals):
        super().__init__(*proposals)
        self.go_on = threading.Event()

    def propose(self, library, examine):
        if self.views:
            self.state = {**self.state, "last_error": "still thinking"}
            assert self.go_on.wait(20)
        return super().propose(library, examine)


def test_what_happens_in_training_is_told_while_the_proposer_thinks():
    proposer = Thinking(WOOD, STONE)
    loop = Loop(proposer, max_nodes=2)
    until(lambda: loop.scheduler.added == ["Collect_Wood"])
    loop.scheduler.finish("Collect_Wood")
    until(lambda: any("completed  Collect_Wood" in line for line in loop.lines), "telling")
    assert loop.scheduler.added == ["Collect_Wood"]
    assert loop.scheduler.proposer_state["last_error"] == "still thinking"
    proposer.go_on.set()
    loop.has_added("Collect_Wood", "Collect_Stone")
    assert proposer.was_accepted == ["Collect_Wood", "Collect_Stone"]
    loop.scheduler.finish("Collect_Stone")
    loop.ends()


def test_a_proposer_that_thinks_for_ever_does_not_outlive_the_scheduler():
    loop = Loop(Thinking(WOOD, STONE))
    until(lambda: loop.scheduler.added == ["Collect_Wood"])
    loop.scheduler.fail(RuntimeError("planted"))
    loop.scheduler.finish("Collect_Wood")
    until(lambda: not loop.thread.is_alive(), "the end")
    assert "planted" in str(loop.error)
    assert not any("no more skills" in line for line in loop.lines)


# Rehearsals


def test_a_rehearsal_comes_after_every_few_skills_and_once_more_at_the_end():
    loop = Loop(ListProposer(WOOD, STONE, COAL), max_parallel=1, max_nodes=3, rehearse_every=2)
    loop.has_added("Collect_Wood")
    loop.scheduler.finish("Collect_Wood")
    loop.has_added("Collect_Wood", "Collect_Stone")
    assert loop.scheduler.rehearsals() == []
    loop.scheduler.finish("Collect_Stone")
    until(lambda: loop.scheduler.rehearsals() == ["rehearsal_1"], "the rehearsal")
    loop.has_added("Collect_Wood", "Collect_Stone", "Collect_Coal")
    loop.scheduler.finish("Collect_Coal")
    loop.waits()
    assert loop.scheduler.rehearsals() == ["rehearsal_1"]  # one at a time
    loop.scheduler.finish_rehearsal("rehearsal_1")
    until(lambda: loop.scheduler.rehearsals() == ["rehearsal_1", "rehearsal_2"], "the last rehearsal")
    loop.scheduler.finish_rehearsal("rehearsal_2")
    loop.ends()
    assert any(line.startswith("completed  rehearsal_2   12.50 achievements, 1.0k frames") for line in loop.lines)


def test_nothing_more_is_asked_for_once_the_loop_has_ended():
    """A training may end while the scheduler is left, after Ctrl-C for one."""
    loop = Loop(ListProposer(WOOD), max_nodes=1, rehearse_every=1)
    loop.has_added("Collect_Wood")
    loop.generation._is_closed = True
    loop.scheduler.finish("Collect_Wood")
    loop.generation.wait_for_news()
    assert loop.scheduler.rehearsals() == []


def test_without_a_new_skill_there_is_no_last_rehearsal():
    known = [{**WOOD.to_data(), "status": "completed", "expert_idx": 0}]
    loop = Loop(ListProposer(), max_nodes=1, known=known, rehearse_every=1, rehearsed=1)
    loop.ends()
    assert loop.scheduler.rehearsals() == ["rehearsal_1"]


def explored(status: str) -> dict:
    """Explore, as an earlier start left it."""
    return {**explore(FACTS).to_data(), "status": status, "expert_idx": 0}


def test_explore_comes_first_and_is_no_part_of_any_plan_and_is_not_counted():
    loop = Loop(ListProposer(WOOD, STONE, PICKAXE), max_nodes=2, explore_frames=5000)
    loop.has_added("Explore")
    assert loop.flow_graph.skills["Explore"]["settings"]["total_timesteps"] == 5000
    loop.scheduler.finish("Explore")
    loop.has_added("Explore", "Collect_Wood", "Collect_Stone")
    assert loop.scheduler.state["skills"][1]["dependencies"] == []
    for view in loop.flow_graph.proposer.views:
        assert view.knows("Explore") and "Explore" not in view.available and "Explore" not in view.unavailable
    assert loop.flow_graph.proposer.was_accepted == ["Collect_Wood", "Collect_Stone"]
    for name in ("Collect_Wood", "Collect_Stone"):
        loop.scheduler.finish(name)
    loop.ends()


def test_the_others_go_on_without_an_explore_that_has_failed():
    loop = Loop(ListProposer(WOOD), explore_frames=5000)
    loop.has_added("Explore")
    loop.scheduler.finish("Explore", "failed")
    loop.has_added("Explore", "Collect_Wood")
    assert loop.lines.count("continuing without Explore: it has failed") == 1
    loop.scheduler.finish("Collect_Wood")
    loop.ends()


@pytest.mark.parametrize(
    ("status", "explore_frames", "waits"), [("running", 5000, True), ("running", 0, False), ("completed", 5000, False)]
)
def test_a_later_start_waits_for_an_explore_under_way_and_trains_no_second_one(status, explore_frames, waits):
    loop = Loop(ListProposer(WOOD), known=[explored(status)], explore_frames=explore_frames)
    if waits:
        loop.waits()
        assert loop.scheduler.added == []
        loop.scheduler.finish("Explore")
    loop.has_added("Collect_Wood")
    if status == "running" and not waits:
        loop.scheduler.finish("Explore")
    loop.scheduler.finish("Collect_Wood")
    loop.ends()


def test_an_explore_that_is_trained_further_is_in_the_library():
    loop = Loop(ListProposer(WOOD), known=[explored("running")], explore_frames=5000)
    loop.scheduler._entries["Explore"]["extra_timesteps"] = 100
    loop.generation.on_final("Explore", "completed")
    loop.has_added("Collect_Wood")
    for name in ("Explore", "Collect_Wood"):
        loop.scheduler.finish(name)
    loop.ends()


def test_a_skill_that_is_only_called_explore_is_left_alone():
    known = [{**WOOD.to_data(), "skill_name": "Explore", "status": "completed", "expert_idx": 0}]
    loop = Loop(ListProposer(STONE), known=known, explore_frames=5000)
    loop.has_added("Collect_Stone")
    assert any("continuing without Explore: the experiment has another skill Explore" in line for line in loop.lines)
    loop.scheduler.finish("Collect_Stone")
    loop.ends()
