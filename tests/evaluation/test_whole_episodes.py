"""Whole episodes and skill tests in a game that can be worked out by hand."""

from __future__ import annotations

import dataclasses
import io

import jax
import numpy as np
import pytest
from rich.console import Console

from flowrl.evaluation import bench as benches
from flowrl.evaluation import findings
from flowrl.evaluation.catalogue import make_catalogue
from flowrl.evaluation.composition import begin, play_step, steps_of_try
from flowrl.evaluation.planner import Planned, PlannerSettings, Weights
from flowrl.evaluation.skill_tests import OUT_OF_STEPS
from flowrl.records.observed import Difference, DifferenceKind, Observed
from flowrl.records.result import Outcome, RunResult
from flowrl.skills.facts import Vital
from tests.evaluation.camp import Camp, camp_library

NUM_ENVS = 4
CHOP, DRINK, BUILD = range(3)
SETTINGS = PlannerSettings()


def bench_of(**how):
    return benches.set_up(camp_library(**how), Camp(), NUM_ENVS)


@pytest.fixture(scope="module")
def bench():
    return bench_of()


def planned(bench, success=(1.0, 1.0, 1.0), settings=SETTINGS):
    catalogue, _ = make_catalogue(bench.library, bench.adapter.facts)
    return Planned(catalogue, Weights(np.array(success, np.float32), np.ones(3, np.float32)), settings)


def test_a_library_unlocks_everything_in_the_cheapest_order_and_then_passes_the_time(bench):
    lines = []
    found = benches.play_whole(bench, planned(bench), 6, 10, 0, log=lines.append)
    # Chop twice (the hut takes two), build on the spot, drink; then the best skill, the first one, until its steps are up.
    assert found.length.tolist() == [10] * 6 and found.goals.all()
    assert found.usage.frames.tolist() == [8 * 6, 6, 6]
    assert found.ending.tolist() == [-1] * 6 and found.skill.tolist() == [CHOP] * 6
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == [
        "Chop x2 for Chop",
        "Build x1 for Build",
        "Drink x1 for Drink",
        "Chop x1",
        "Chop x1",
    ]
    assert lines[1].startswith("step 2, 1 of 3 unlocked: ") and lines[4].startswith("step 7, ")
    assert found.usage.successes.tolist() == [6, 6, 6]


def test_a_library_that_does_not_look_after_itself_dies_of_thirst(bench):
    found = benches.play_whole(bench, planned(bench, settings=SETTINGS._replace(low=0.0)), 5, 100, 0)
    # After drinking in the fourth step the nine units of water last for nine steps of chopping.
    assert found.length.tolist() == [13] * 5 and found.ending.tolist() == [0] * 5
    assert found.skill.tolist() == [CHOP] * 5 and found.usage.deaths.tolist() == [5, 0, 0]
    shown = findings.of_episodes(found, bench.library, bench.adapter)
    assert shown["endings"] == {"thirst": 1.0} and shown["acting_at_the_end"] == {"Chop": 1.0}
    assert shown["achievements"] == {"value": 3.0, "low": 3.0, "high": 3.0} and shown["score"] == pytest.approx(100)
    assert sum(skill["frames"] for skill in shown["skills"].values()) == found.length.sum()


def test_a_low_vital_interrupts_a_task_for_a_goal():
    # Build waits for up to 20 steps, so that only an interruption saves the player: drinking costs a step, and water lasts.
    bench = bench_of(limit=20, Build="WAIT")
    found = benches.play_whole(bench, planned(bench), 4, 60, 0)
    assert (found.ending == -1).all() and found.usage.deaths.sum() == 0
    assert not found.goals[:, BUILD].any() and found.goals[:, DRINK].all()
    assert found.usage.frames[DRINK] >= 4 * 5 and found.usage.successes[BUILD] == 0
    without = benches.play_whole(bench, planned(bench, settings=SETTINGS._replace(low=0.0)), 4, 60, 0)
    assert without.usage.deaths.sum() == 4


def test_a_low_vital_interrupts_a_task_that_restores_another_one():
    class Cold(Camp):
        facts = dataclasses.replace(Camp.facts, vitals=(*Camp.facts.vitals, Vital("warmth", "3.0", ("CHOP",))))

    # Chop waits for 20 steps at a time and never warms anybody; the water lasts for nine.
    bench = benches.set_up(camp_library(limit=20, Chop="WAIT"), Cold(), NUM_ENVS)
    found = benches.play_whole(bench, planned(bench), 4, 60, 0)
    assert (found.ending == -1).all() and found.usage.successes[DRINK] >= 4 * 5


def test_a_task_that_is_broken_off_again_and_again_uses_up_its_steps_nevertheless():
    class Windy(Camp):
        """Every third step has to be spent on something else, so that no task for a goal has more than two at a time."""

        facts = dataclasses.replace(Camp.facts, vitals=(Vital("calm", "jnp.where(water % 3 == 0, 0.0, 9.0)", ("CHOP",)),))

    bench = benches.set_up(camp_library(limit=3, Build="WAIT"), Windy(), NUM_ENVS)
    composition, _ = benches.composed(bench, 100)
    of, key = planned(bench), jax.random.key(0)
    games, shown = begin(composition, key, NUM_ENVS, of), []
    for number in range(12):
        games, _ = play_step(composition, bench.params, games, of, key, key, number)
        course = games.course
        shown.append((int(course.past.failures[0, BUILD]), float(course.past.spent[0, BUILD]), float(steps_of_try(course)[0])))
    failures, spent, _ = zip(*shown)
    assert max(spent) == 2 and max(failures) == 1
    assert spent[failures.index(1)] == 0, "a failure is counted once"
    begun = [number for number, (_, used, of_try) in enumerate(shown) if used == 2 and of_try == 3]
    assert begun, "the next try of the skill has one step left"


def test_a_task_that_uses_its_materials_up_for_something_else_has_failed_and_is_not_paid_for_that():
    class Fires(Camp):
        """Drinking takes two pieces of wood, for a fire."""

        def step(self, key, state, action):
            wood = state.pack.wood - 2 * ((action == 1) & (state.pack.wood >= 2))
            return super().step(key, state._replace(pack=state.pack._replace(wood=wood)), action)

    bench = benches.set_up(camp_library(limit=20, Build="DRINK"), Fires(), NUM_ENVS)
    composition, _ = benches.composed(bench, 100)
    of, key = planned(bench), jax.random.key(0)
    for makes in (False, True):
        of = of._replace(catalogue=of.catalogue._replace(makes=np.array([False, False, makes])))
        games = begin(composition, key, NUM_ENVS, of)
        for number in range(3):
            assert games.course.choice.skill.tolist() == [[CHOP, CHOP, BUILD][number]] * NUM_ENVS
            games, step = play_step(composition, bench.params, games, of, key, key, number)
        assert step.judgement.goals[:, DRINK].all() and not step.judgement.task_done.any()
        assert step.judgement.failed.tolist() == [makes] * NUM_ENVS
        assert step.judgement.game_reward.tolist() == [0.0 if makes else 1.0] * NUM_ENVS


def test_a_restoring_task_that_fails_twice_lets_goals_go_on():
    bench = bench_of(Drink="WAIT")
    found = benches.play_whole(bench, planned(bench), 4, 60, 0)
    # Drinking is a goal at first, and fails; chopping and building are done nevertheless, and thirst ends the game.
    assert found.goals[:, CHOP].all() and found.goals[:, BUILD].all() and (found.ending == 0).all()


def test_a_task_that_is_done_before_it_begins_counts_as_failed(bench):
    # As if drinking brought the hut: Drink stays a goal, for what it can never unlock, and must not be chosen for ever.
    of = planned(bench)
    catalogue = of.catalogue._replace(goals=of.catalogue.goals.at[DRINK, BUILD].set(True).at[CHOP, CHOP].set(False))
    found = benches.play_whole(bench, of._replace(catalogue=catalogue, settings=SETTINGS._replace(stockpile=1.0)), 4, 12, 0)
    assert found.goals.all()
    assert found.usage.successes[DRINK] < found.usage.frames[DRINK]


def test_the_same_seed_gives_the_same_episodes(bench):
    one, other = (benches.play_whole(bench, planned(bench), 6, 10, 3) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one[:4], other[:4]))


@pytest.mark.parametrize(
    ("name", "button", "successes", "done", "failures"),
    [
        ("Drink", {}, 4, (4,), {}),
        ("Build", {}, 4, (4, 4), {}),
        ("Build", {"Build": "WAIT"}, 0, (4, 0), {("Build", OUT_OF_STEPS): 4}),
        ("Build", {"Chop": "WAIT"}, 0, (0, 0), {("Chop", OUT_OF_STEPS): 4}),
    ],
)
def test_a_skill_is_tested_on_its_own_plan(name, button, successes, done, failures):
    bench = bench_of(**button)
    (skill,) = (skill for skill in bench.library.skills if skill.name == name)
    found = benches.measured(bench, skill, 0)
    assert (found.successes, found.done, dict(found.failures)) == (successes, done, failures)
    assert found.episodes == NUM_ENVS
    if successes:
        assert found.brings == {name.upper(): 1.0} and found.own_rate == 1.0 and found.steps == 1.0


def test_what_tests_measure_is_what_the_planner_goes_by():
    bench = bench_of(Build="WAIT")
    tests = {skill.name: benches.measured(bench, skill, 0) for skill in bench.library.skills}
    of = benches.planned_by(bench, tests, SETTINGS)
    assert of.weights.success.tolist() == [1.0, 1.0, 0.0] and of.weights.steps.tolist() == [1.0, 1.0, 3.0]
    assert of.catalogue.restores.tolist() == [[False], [True], [False]]


DIFFERENCE = Difference(DifferenceKind.CONSUMPTION, "wood", "Build: declares to use up 5 wood; 1.00 of ... used less")


def test_skills_that_count_as_learned_are_counted_and_what_differs_is_shown(bench):
    by_chance = {"Chop": 0.96, "Drink": 0.6, "Build": 0.2}
    observed = {"Chop": None, "Drink": Observed(1, 9, 0, {}, ()), "Build": Observed(1, 40, 0, {}, (DIFFERENCE,))}
    shown = []
    for skill in bench.library.skills:
        result = RunResult(1, Outcome.COMPLETED, random_success_rate=by_chance[skill.name], observed=observed[skill.name])
        measured = benches.measured(bench, skill, 0)
        shown.append(findings.of_skill(dataclasses.replace(skill, result=result), measured))
    assert [skill["is_learned"] for skill in shown] == [False, True, True]
    assert [skill["differences"] for skill in shown] == [[], [], [DIFFERENCE.text]]
    out = io.StringIO()
    findings.print_skills(shown, Console(file=out, width=120))
    assert out.getvalue().splitlines()[-1] == DIFFERENCE.text
    count, remark = findings.learned_lines(shown)
    assert count.startswith("2 of 3 skills learned: ") and "(1 with a random policy below 0.50)" in count
    assert remark == "Chop: a random policy does it in 0.96 of worlds; it does not count as learned"
