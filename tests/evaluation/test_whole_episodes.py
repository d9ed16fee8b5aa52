"""Whole episodes, skill tests and rehearsal in a game that can be worked out by hand."""

from __future__ import annotations

from collections import Counter

import jax
import numpy as np
import pytest

from flowrl.evaluation import bench as benches
from flowrl.evaluation import findings, rehearsal
from flowrl.evaluation.catalogue import NO_SKILL
from flowrl.evaluation.composition import Planned, begin
from flowrl.evaluation.planner import PlannerSettings, Weights
from flowrl.evaluation.skill_tests import OUT_OF_STEPS
from tests.evaluation.camp import Camp, camp_library

NUM_ENVS = 4
CHOP, DRINK, BUILD = range(3)
SETTINGS = PlannerSettings()


def bench_of(**button):
    return benches.set_up(camp_library(**button), Camp(), NUM_ENVS)


@pytest.fixture(scope="module")
def bench():
    return bench_of()


def planned(bench, upkeep=DRINK, success=(1.0, 1.0, 1.0), settings=SETTINGS):
    catalogue, _ = benches.make_catalogue(bench.library, bench.adapter.facts)
    weights = Weights(np.array(success, np.float32), np.ones(3, np.float32), np.array([upkeep], np.int32))
    return Planned(catalogue, weights, settings)


def test_a_library_unlocks_everything_in_the_cheapest_order_and_then_stays_alive(bench):
    lines = []
    found = benches.play_whole(bench, planned(bench), 6, 10, 0, log=lines.append)
    # Chop twice (the hut takes two), build on the spot, drink; then drink on until the longest length.
    assert found.length.tolist() == [10] * 6 and found.goals.all()
    assert found.usage.frames.tolist() == [2 * 6, 7 * 6, 6]
    assert found.ending.tolist() == [-1] * 6 and found.skill.tolist() == [DRINK] * 6
    assert [line.partition(": ")[2].partition(":")[0] for line in lines[:4]] == [
        "Chop x2 for Chop",
        "Build x1 for Build",
        "Drink x1 for Drink",
        "Drink x1 to stay alive",
    ]
    assert lines[1].startswith("step 2, 1 of 3 unlocked: ")


def test_a_library_that_does_not_look_after_itself_dies_of_thirst(bench):
    found = benches.play_whole(bench, planned(bench, upkeep=NO_SKILL), 5, 100, 0)
    # After drinking in the fourth step the nine units of water last for nine steps of chopping.
    assert found.length.tolist() == [13] * 5 and found.ending.tolist() == [0] * 5
    assert found.skill.tolist() == [CHOP] * 5 and found.usage.deaths.tolist() == [5, 0, 0]
    shown = findings.of_episodes(found, bench.library, bench.adapter)
    assert shown["endings"] == {"thirst": 1.0} and shown["acting_at_the_end"] == {"Chop": 1.0}
    assert shown["achievements"] == {"value": 3.0, "low": 3.0, "high": 3.0} and shown["score"] == pytest.approx(100)
    assert sum(skill["frames"] for skill in shown["skills"].values()) == found.length.sum()


def test_a_low_vital_interrupts_a_task_that_does_nothing_about_it():
    bench = bench_of(Build="WAIT")
    found = benches.play_whole(bench, planned(bench, success=(1.0, 1.0, 1.0)), 4, 12, 0)
    # Chop x2, Build waits for 3 steps and gives up, Drink at the sixth step; Build again, 3 steps, then interrupted once
    # water is below 3, or until it gives up: never more than MAX_TASK_STEPS at a time, and nobody dies.
    assert (found.ending == -1).all() and found.usage.deaths.sum() == 0
    assert not found.goals[:, BUILD].any() and found.goals[:, DRINK].all()
    assert found.usage.successes[BUILD] == 0 and found.usage.tries[BUILD] > 4


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
    found = benches.measured(bench, bench.library.named(name), 0)
    assert (found.successes, found.done, dict(found.failures)) == (successes, done, failures)
    assert found.episodes == NUM_ENVS
    if successes:
        assert found.brings == {name.upper(): 1.0} and found.own_rate == 1.0 and found.steps == 1.0


def test_what_tests_measure_is_what_the_planner_goes_by():
    bench = bench_of(Build="WAIT")
    tests = {skill.name: benches.measured(bench, skill, 0) for skill in bench.library.skills}
    of, upkeep = benches.planned_by(bench, tests, SETTINGS)
    assert of.weights.success.tolist() == [1.0, 1.0, 0.0]
    assert of.weights.steps.tolist() == [1.0, 1.0, 3.0]
    # Drinking fills no water here: it is full when the test begins, so nothing is known to recover it.
    assert upkeep == ("",)


def test_rehearsal_cuts_where_tasks_change_and_passes_the_value_on(bench):
    composition, _ = benches.composed(bench, 100)
    of = planned(bench)
    games = begin(composition, jax.random.key(0), NUM_ENVS, of)
    pay = rehearsal.Pay(own=0.5, game=1.0)
    after, transitions, shown = rehearsal.collect(composition, bench.params, games, of, jax.random.key(1), 6, pay)
    first = [jax.tree.map(lambda leaf: np.asarray(leaf)[0], step) for step in transitions]
    assert [int(step.expert) for step in first] == [CHOP, CHOP, BUILD, DRINK, DRINK, DRINK]
    assert [bool(step.continues) for step in first] == [True, False, False, False, False, False]
    # Half of the skill's pay and all of the game's: wood 1 + deed 1, wood 1, deed 1 + deed 1, deed 1 + deed 1; then drinking
    # to stay alive is paid by how much the water rose: it fell by one and was filled.
    assert [float(step.reward) for step in first] == [1.5, 0.5, 1.5, 1.5, 0.0, 0.0]
    heirs = [NO_SKILL, BUILD, DRINK, DRINK, DRINK, DRINK]
    for number, heir in enumerate(heirs):
        expected = 0.0
        if heir != NO_SKILL:
            observation = transitions[number + 1].observation if number < 5 else after.scene.observation
            expected = value_of(bench, heir, observation)
        assert float(first[number].truncation_value) == pytest.approx(expected, abs=1e-5), number
    usage = rehearsal.usage_of(shown, 3)
    assert Counter(dict(enumerate((usage.frames / NUM_ENVS).tolist()))) == Counter({CHOP: 2, DRINK: 3, BUILD: 1})


def value_of(bench, skill, observation) -> float:
    network = bench.programs.source.network
    return float(network.value(bench.library.skills[skill].params, observation)[0])


def test_experience_forgets_old_tries():
    known = rehearsal.Experience(np.array([1.0]), np.array([10.0]), trust=10, memory=0.5)
    assert known.success.tolist() == [1.0] and known.steps.tolist() == [10.0]
    known.add(rehearsal.Usage(*(np.array([value]) for value in (10, 0, 0, 300))))
    # 5 remembered tries and 10 new ones: 5 of 15 succeeded; 50 + 300 steps.
    assert known.success[0] == pytest.approx(1 / 3) and known.steps[0] == pytest.approx(350 / 15)
