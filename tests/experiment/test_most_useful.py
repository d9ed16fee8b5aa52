"""``--continue_skill most_useful``: which skills get the frames."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowrl.envs.registry import game
from flowrl.errors import BadInput
from flowrl.evaluation.library import LibrarySkill, frames_trained
from flowrl.experiment.further import LibraryBooks, own_rates
from flowrl.experiment.most_useful import Allowance, Figures, MostUseful
from flowrl.experiment.prospects import Prospects, Way
from flowrl.files import write_json
from flowrl.paths import ExperimentPaths
from flowrl.records.result import Outcome, RunResult, TaskRate
from flowrl.records.run_record import PlannedTask
from flowrl.skills.spec import Amount
from tests.experiment.fakes import COAL, PICKAXE, STONE, WOOD
from tests.experiment.starts import CLASSIC

FACTS, FULL = game("Craftax-Classic-Symbolic-v1").facts, game("Craftax-Symbolic-v1").facts
GOAL = 0.8


def library_skill(spec, *before, goal=None, rate=None):
    gains = spec.gains | ({f"achievement:{goal}": Amount(fixed=1)} if goal else {})
    plan = tuple(PlannedTask(name, 1, 0, 0) for name in (*before, spec.name))
    tasks = tuple(TaskRate(task.skill_name, 1, rate, 0.0) for task in plan)
    result = RunResult(1, Outcome.COMPLETED, frames=100, tasks=tasks)
    return LibrarySkill(0, spec.name, spec.model_copy(update={"gains": gains}), "", plan, (200,) * len(plan), result, None)


CHAIN = (
    library_skill(WOOD, goal="COLLECT_WOOD"),
    library_skill(PICKAXE, "Collect_Wood", goal="MAKE_WOOD_PICKAXE"),
    library_skill(STONE, "Collect_Wood", "Make_Pickaxe", "Collect_Wood", goal="COLLECT_STONE"),
    library_skill(COAL, goal="COLLECT_STONE"),
)


# Prospects.


def test_an_achievement_comes_after_every_skill_of_the_plan_and_the_best_of_several_ways_counts():
    prospects = Prospects.of(CHAIN, FACTS)
    rates = {"Collect_Wood": 0.5, "Make_Pickaxe": 0.6, "Collect_Stone": 0.7, "Collect_Coal": 0.1}
    assert prospects.unlocked(rates) == pytest.approx(0.5 + 0.3 + 0.21)  # wood twice in a plan counts once
    assert prospects.unlocked({**rates, "Collect_Coal": 0.4}) == pytest.approx(0.5 + 0.3 + 0.4)
    assert prospects.unlocked({}) == 0


def test_the_gain_of_a_skill_is_that_of_all_that_it_stands_in_the_way_of():
    prospects = Prospects.of(CHAIN, FACTS)
    rates = {"Collect_Wood": 0.4, "Make_Pickaxe": 0.5, "Collect_Stone": 1.0, "Collect_Coal": 0.0}
    assert prospects.gain("Collect_Wood", rates, GOAL) == pytest.approx(0.4 + 0.2 + 0.2)
    assert prospects.gain("Make_Pickaxe", rates, GOAL) == pytest.approx(0.12 + 0.12)
    assert prospects.gain("Collect_Stone", rates, GOAL) == 0  # it is there
    assert prospects.gain("Collect_Stone", rates | {"Make_Pickaxe": 0.0, "Collect_Stone": 0.1}, GOAL) == 0  # out of reach


def test_achievements_count_with_their_values():
    goal, value = next((goal, value) for goal, value in FULL.goal_values.items() if value > 1)
    assert Prospects.of([library_skill(WOOD, goal=goal)], FULL).unlocked({"Collect_Wood": 0.5}) == 0.5 * value


def test_without_achievements_every_skill_counts_the_same():
    prospects = Prospects.of([library_skill(WOOD), library_skill(PICKAXE, "Collect_Wood")], FACTS)
    assert prospects.unlocked({"Collect_Wood": 0.5, "Make_Pickaxe": 0.5}) == 0.75


def test_a_skill_that_is_never_done_has_no_prospects():
    explore = WOOD.model_copy(update={"never_done": True})
    assert Prospects.of([library_skill(explore, goal="COLLECT_WOOD")], FACTS).ways == {}


RATES = st.fixed_dictionaries({skill.name: st.floats(0, 1) for skill in CHAIN})


@given(RATES, st.sampled_from([skill.name for skill in CHAIN]))
def test_no_skill_makes_an_episode_worse_by_reaching_its_goal(rates, name):
    assert Prospects.of(CHAIN, FACTS).gain(name, rates, GOAL) >= 0


# Handing out.

UPDATE = 10
APART = Prospects({name: (Way((name,)),) for name in "ABC"}, {"A": 1.0, "B": 1.0, "C": 3.0})
"""Three skills, each with an achievement of its own; that of C is worth three times as much."""


class Trainer:
    """A scheduler whose trainings end when the test says so, and the files in which they leave their figures."""

    def __init__(self, slots=1, refused=()):
        self.slots, self.refused = slots, refused
        self.under_way: dict[str, int] = {}
        self.given: list[tuple[str, int]] = []
        self.rehearsals: list[dict] = []
        self._errors: dict[str, str] = {}
        self._figures: dict[str, Figures] = {}
        self._unmerged: dict[str, int] = {}

    @property
    def state(self):
        statuses = {name: "waiting" if name in self.under_way else "completed" for name in "ABC"}
        skills = [{"skill_name": name, "status": now, "error": self._errors.get(name)} for name, now in statuses.items()]
        return {"skills": skills, "rehearsals": self.rehearsals}

    def free_slots(self):
        return 0 if self.rehearsals else self.slots - len(self.under_way)

    def continue_skill(self, name, frames, to_goal=False):
        assert to_goal and name not in self.under_way
        if name in self.refused:
            raise BadInput(f"{name} has used its budget")
        self.given.append((name, frames))
        self.under_way[name] = frames
        self._errors.pop(name, None)
        return frames

    def figures(self, name):
        return self._figures[name]

    def unmerged_frames(self, name):
        return self._unmerged.get(name, 0)

    def end(self, rate, frames=None, error=None):
        """The oldest training ends; with an error, its run is not merged."""
        name, asked = next(iter(self.under_way.items()))
        frames = asked if frames is None else frames
        if error:
            self._errors[name], self._unmerged[name] = error, frames
        else:
            self._figures[name] = Figures(rate, frames)
            self._unmerged.pop(name, None)
        del self.under_way[name]


def most_useful(trainer, lines, frames=1000, piece=100, **rates):
    return MostUseful(trainer, APART, rates, Allowance(frames, piece, UPDATE, GOAL), trainer, lines.append)


def test_frames_go_where_most_is_to_be_gained_as_long_as_the_skill_gets_better():
    trainer, lines = Trainer(), []
    useful = most_useful(trainer, lines, frames=550, A=0.5, B=0.2, C=0.5)
    for name, rate in (
        ("C", 0.7),  # 3 x 0.3 is to be gained, half of it by the first piece; of A and B 0.3 and 0.6
        ("B", 0.2),  # 0.6 x 1/2, and of C 3 x 0.1 x 2/3
        ("C", 0.71),  # 3 x 0.1 x 2/3, and of B, which got no better, 0.6 x 1/4
        ("A", 0.8),  # 0.3 x 1/2, as much as of B, and of C 3 x 0.09 x 1/3
        ("B", 0.5),  # A is at its goal
        ("B", 0.5),  # half of the way there was made
    ):
        assert not useful.look_at_the_end()
        assert list(trainer.under_way) == [name]
        trainer.end(rate)
    assert useful.look_at_the_end() and useful.look_at_the_end()
    assert trainer.given == [("C", 100), ("B", 100), ("C", 100), ("A", 100), ("B", 100), ("B", 50)]
    assert lines[-1] == "trained    B 250 (0.20 to 0.50), C 200 (0.50 to 0.71), A 100 (0.50 to 0.80)"
    assert lines[0] == "further    C   100 frames, 450 left; 0.50 of its tries succeed, 0.90 achievements to gain"


def test_a_skill_that_hardly_ever_succeeds_comes_after_those_that_do():
    trainer = Trainer()
    useful = most_useful(trainer, [], A=0.5, B=0.02, C=0.0)
    for name, rate in (
        ("A", 0.65),  # 0.3 x 1/2; B has more to gain, but 0.78 x 1/20, and C 2.4 x 1/20
        ("C", 0.08),  # 2.4 x 1/20; of A 0.15 x 1/2
        ("C", 0.08),  # 2.16 x 1/10
        ("C", 0.08),  # 2.16 x 1/20
        ("A", 0.8),  # 0.15 x 1/2; of C 2.16 x 1/40
        ("C", 0.08),  # 2.16 x 1/40, and of B 0.78 x 1/20
    ):
        useful.look()
        assert list(trainer.under_way) == [name]
        trainer.end(rate)
    useful.look()
    assert list(trainer.under_way) == ["B"]


def test_frames_that_a_piece_did_not_need_are_handed_out_again():
    trainer, lines = Trainer(), []
    useful = most_useful(trainer, lines, frames=150, A=0.5)
    useful.look()
    trainer.end(0.6, 30)
    useful.look()
    assert trainer.given == [("A", 100), ("A", 100)]
    trainer.end(0.8)
    assert useful.look_at_the_end()
    assert lines[-1] == "20 frames are left: episodes would gain by no skill that can be trained further"


def test_less_than_an_update_is_not_handed_out_and_a_piece_is_at_least_one():
    trainer, lines = Trainer(), []
    useful = most_useful(trainer, lines, frames=24, piece=3, A=0.5)
    for _ in range(2):
        useful.look()
        trainer.end(0.5)
    assert useful.look_at_the_end() and trainer.given == [("A", 10), ("A", 10)]
    assert lines[-1].startswith("trained    A 20")


def test_a_skill_that_an_earlier_start_left_in_training_is_not_chosen_meanwhile():
    trainer = Trainer(slots=2)
    trainer.under_way["C"] = 500
    useful = most_useful(trainer, [], frames=200, A=0.5, C=0.5)
    useful.look()
    assert trainer.given == [("A", 100)]
    trainer.end(0.6)
    useful.look()
    assert trainer.given == [("A", 100), ("C", 100)]


def test_every_free_slot_gets_a_skill_of_its_own():
    trainer = Trainer(slots=3)
    most_useful(trainer, [], A=0.5, C=0.5).look()
    assert trainer.given == [("C", 100), ("A", 100)]


@pytest.mark.parametrize(("how", "why"), [({"frames": 40, "error": "it died"}, "it died"), ({"frames": 0}, "no update")])
def test_a_skill_whose_training_came_to_nothing_is_not_chosen_again(how, why):
    trainer, lines = Trainer(), []
    useful = most_useful(trainer, lines, frames=260 + how["frames"], A=0.5, C=0.5)
    useful.look()
    trainer.end(0.5, **how)
    for _ in range(2):
        useful.look()
        trainer.end(0.5)
    useful.look()
    assert trainer.given == [("C", 100), ("A", 100), ("A", 100), ("A", 60)]
    assert any(line.startswith("C gets no more frames: ") and why in line for line in lines)
    assert useful.trained == {"A", "C"}


def test_a_version_that_the_library_did_not_take_over_leaves_the_rate_as_it_was():
    trainer, lines = Trainer(), []
    useful = most_useful(trainer, lines, frames=200, C=0.5)
    for _ in range(2):
        useful.look()
        trainer.end(None)
    assert useful.look_at_the_end() and lines[-1] == "trained    C 200 (0.50 to 0.50)"


def test_a_piece_goes_on_with_a_run_that_was_not_merged_and_counts_only_what_is_new():
    """An earlier start left one with 400 frames."""
    trainer, lines = Trainer(), []
    trainer._unmerged["C"] = 400
    useful = most_useful(trainer, lines, frames=150, C=0.5)
    useful.look()
    trainer.end(0.6, 480)
    useful.look()
    trainer.end(0.7)
    assert useful.look_at_the_end() and trainer.given == [("C", 500), ("C", 70)]
    assert lines[-1] == "trained    C 150 (0.50 to 0.70)"


def test_nothing_is_over_while_an_earlier_start_keeps_the_slots():
    trainer, lines = Trainer(), []
    trainer.under_way["C"] = 500
    useful = most_useful(trainer, lines, frames=100, A=0.5, C=0.5)
    assert not useful.look_at_the_end() and trainer.given == lines == []
    trainer.end(0.79)  # its rate is another one by now: 3 x 0.01 is less than 0.3
    assert not useful.look_at_the_end() and trainer.given == [("A", 100)]


def test_nothing_is_over_while_a_rehearsal_is_under_way_and_nothing_is_handed_out_afterwards():
    trainer, lines = Trainer(), []
    trainer.rehearsals = [{"skill_name": "rehearsal_1", "status": "running"}]
    useful = most_useful(trainer, lines, frames=100, A=0.9)
    assert not useful.look_at_the_end()
    trainer.rehearsals = []
    assert useful.look_at_the_end()
    useful._skills["A"].rate = 0.1
    useful.look()
    assert trainer.given == []


def test_a_skill_that_has_used_its_budget_is_named_and_left_out():
    trainer, lines = Trainer(refused=("C",)), []
    most_useful(trainer, lines, A=0.5, C=0.5).look()
    assert trainer.given == [("A", 100)]
    assert lines[0] == "C gets no more frames: C has used its budget"


@given(
    st.fixed_dictionaries({name: st.floats(0, 1) for name in "ABC"}),
    st.integers(UPDATE, 1000),
    st.integers(1, 3),
    st.lists(st.tuples(st.floats(0, 1) | st.none(), st.floats(0, 1)), max_size=40),
)
def test_never_more_frames_than_there_are_and_none_for_a_skill_at_its_goal(rates, frames, slots, ends):
    trainer, lines = Trainer(slots), []
    useful = most_useful(trainer, lines, frames, 100, **rates)
    known, used = dict(rates), 0
    for rate, share in ends:
        useful.look()
        assert used + sum(trainer.under_way.values()) <= frames and len(trainer.under_way) <= slots
        assert all(known[name] < GOAL for name in trainer.under_way)
        if not trainer.under_way:
            break
        name, wanted = next(iter(trainer.under_way.items()))
        made = max(1, int(wanted * share))
        known[name], used = (known[name] if rate is None else rate), used + made
        trainer.end(rate, made)
    assert used <= frames


# From the library's files, and from a shell.


def test_an_evaluation_of_the_library_as_it_is_counts_more_than_what_trainings_measured(tmp_path):
    experiment = ExperimentPaths(tmp_path)
    skills = (library_skill(WOOD, rate=0.5), library_skill(STONE, rate=0.3), library_skill(COAL))
    by_trainings = {"Collect_Wood": 0.5, "Collect_Stone": 0.3, "Collect_Coal": 0.0}
    assert own_rates(experiment, skills) == by_trainings
    figures = {"Collect_Wood": 0.9, "Collect_Stone": None}
    found = [{"skill_name": name, "own_success_rate": rate, "success_rate": None} for name, rate in figures.items()]
    for frames, expected in ((0, by_trainings | {"Collect_Wood": 0.9}), (1, by_trainings)):
        write_json(experiment.evaluation, {"frames": frames, "skills": found})
        assert own_rates(experiment, skills) == expected


def test_the_most_useful_skills_are_trained_further_until_the_frames_are_used_up(practice):
    """Stone is needed for the pickaxe; it gets better once, and then no more."""
    wishes = {
        "Collect_Wood": {"rate": 0.9, "frames": 500},
        "Collect_Stone": {"rate": [0.2, 0.6, 0.6], "frames": 500},
        "Make_Pickaxe": {"rate": [0.7, 0.8], "frames": 500},
    }
    flags = (*CLASSIC, "--max_nodes", "3", "--max_parallel_skills", "1", "--num_envs", "4", "--num_steps", "8")
    assert practice.run(*flags, wishes=wishes)[0] == 0
    before = frames_trained(practice.paths)
    further = ("--continue_skill", "most_useful", "--extra_timesteps", "4000", "--hold_dependencies")
    code, output, error = practice.run(*further)
    assert (code, error) == (0, "")
    chosen = [line.split()[2] for line in output.splitlines() if "further    " in line]
    # With 0.2 x 0.9 for stone, the pickaxe waits for it.
    assert chosen[0] == "Collect_Stone" and "Make_Pickaxe" in chosen and "Collect_Wood" not in chosen
    assert "further    Collect_Stone   500 frames, 3.5k left; 0.20 of its tries succeed, " in output
    assert " skills to gain\n" in output
    assert "Make_Pickaxe 500 (0.70 to 0.80)" in output and "(0.20 to 0.60)" in output
    assert frames_trained(practice.paths) == before + 4000
    settings = json.loads((practice.paths.skill_folder(1, "Collect_Stone") / "run.json").read_text())["settings"]
    assert (settings["total_timesteps"], settings["stop_at_goal"], settings["hold_dependencies"]) == (500, True, True)
    assert LibraryBooks(practice.paths, {"Make_Pickaxe": 2}).figures("Make_Pickaxe") == Figures(0.8, 500)
    assert set(practice.statuses().values()) == {"completed"}
