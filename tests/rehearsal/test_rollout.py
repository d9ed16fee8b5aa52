"""What is played, cut and paid in a rehearsal, in a game that can be worked out by hand."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from flowrl.evaluation import bench as benches
from flowrl.evaluation.catalogue import NO_SKILL, make_catalogue
from flowrl.evaluation.composition import begin
from flowrl.evaluation.planner import Planned, PlannerSettings, Weights
from flowrl.rehearsal import rollout
from flowrl.rehearsal.experience import Experience
from flowrl.rehearsal.rollout import Pay, Rehearsed
from tests.evaluation.camp import Camp, camp_library

NUM_ENVS = 4
CHOP, DRINK, BUILD = range(3)


@pytest.fixture(scope="module")
def bench():
    return benches.set_up(camp_library(), Camp(), NUM_ENVS)


def planned(bench):
    catalogue, _ = make_catalogue(bench.library, bench.adapter.facts)
    return Planned(catalogue, Weights(np.ones(3, np.float32), np.ones(3, np.float32)), PlannerSettings())


def test_rehearsal_cuts_where_tasks_change_and_passes_the_value_on(bench):
    composition, _ = benches.composed(bench, 100)
    of = planned(bench)
    games = begin(composition, jax.random.key(0), NUM_ENVS, of)
    pay = Pay(own=0.5, game=1.0)
    after, transitions, shown = rollout.collect(composition, bench.params, games, of, jax.random.key(1), 6, pay)
    first = [jax.tree.map(lambda leaf: np.asarray(leaf)[0], step) for step in transitions]
    assert [int(step.expert) for step in first] == [CHOP, CHOP, BUILD, DRINK, CHOP, CHOP]
    assert [bool(step.continues) for step in first] == [True, False, False, False, True, True]
    # Half of the skill's pay and all of the game's: wood 1 + deed 1, wood 1, deed 1 + deed 1, deed 1 + deed 1, then wood 1.
    assert [float(step.reward) for step in first] == [1.5, 0.5, 1.5, 1.5, 0.5, 0.5]
    for number, heir in enumerate([None, BUILD, DRINK, CHOP, None, None]):
        expected = 0.0 if heir is None else value_of(bench, heir, transitions[number + 1].observation)
        assert float(first[number].truncation_value) == pytest.approx(expected, abs=1e-5), number
    assert [step.tried.tolist() for step in shown] == [[flag] * NUM_ENVS for flag in (False, True, True, True, False, False)]
    assert [float(step.steps[0]) for step in shown[:4]] == [0.5, 1.0, 1.0, 1.0]
    assert after.course.length.tolist() == [6] * NUM_ENVS


@pytest.mark.parametrize(("by_level", "paid"), [(True, 0.5 * 3 + 1), (False, 0.5 * 1 + 1)])
def test_what_restores_a_vital_is_paid_by_how_much_it_rises_or_by_its_own_code(bench, by_level, paid):
    composition, _ = benches.composed(bench, 100)
    of = planned(bench)
    of = of._replace(
        catalogue=of.catalogue._replace(pays=np.array([by_level], np.float32)), settings=of.settings._replace(low=7.0)
    )
    games = begin(composition, jax.random.key(0), NUM_ENVS, of)
    games, _, _ = rollout.collect(composition, bench.params, games, of, jax.random.key(1), 3, Pay())
    assert games.course.choice.until.tolist() == [0] * NUM_ENVS  # after two pieces of wood and a hut, 6 units of water are left
    _, (step,), (shown,) = rollout.collect(composition, bench.params, games, of, jax.random.key(1), 1, Pay())
    # Drinking lifts the water from 6 to 9; it is also the game's deed.
    assert step.reward.tolist() == [paid] * NUM_ENVS
    # The task ends by the water, which says nothing of how often drinking succeeds.
    assert shown.task_done.all() and not shown.tried.any()


def test_tasks_that_come_before_what_restores_a_vital_are_tries_too(bench):
    """Here water comes from the hut, for which two pieces of wood are collected."""
    composition, _ = benches.composed(bench, 100)
    of = planned(bench)
    restores = np.zeros_like(of.catalogue.restores)
    restores[BUILD] = True
    of = of._replace(catalogue=of.catalogue._replace(restores=restores), settings=of.settings._replace(low=9.5, enough=9.9))
    games = begin(composition, jax.random.key(0), NUM_ENVS, of)
    assert games.course.choice.goal.tolist() == [NO_SKILL] * NUM_ENVS
    _, _, shown = rollout.collect(composition, bench.params, games, of, jax.random.key(1), 2, Pay())
    assert [step.skill[0] for step in shown] == [CHOP, CHOP] and [step.tried[0] for step in shown] == [False, True]


def value_of(bench, skill, observation) -> float:
    network = bench.programs.source.network
    return float(network.value(bench.library.skills[skill].params, observation)[0])


def test_experience_forgets_old_tries_but_not_what_was_measured_before():
    known = Experience(np.array([1.0, 0.5]), np.array([10.0, 4.0]), trust=10, memory=0.5)
    assert known.success.tolist() == [1.0, 0.5] and known.steps.tolist() == [10.0, 4.0]
    tried = Rehearsed(
        skill=np.array([0] * 10 + [1]),
        tried=np.array([True] * 10 + [False]),
        task_done=np.zeros(11, bool),
        steps=np.full(11, 30, np.float32),
        ended=np.zeros(11, bool),
        num_goals=np.zeros(11, int),
        length=np.ones(11, int),
        reward=np.zeros(11, np.float32),
    )
    known.add([tried])
    # 10 of before and 10 new ones: 10 of 20 succeeded; 100 + 300 steps. The other skill's task was only broken off.
    assert known.success.tolist() == [0.5, 0.5] and known.steps.tolist() == [20.0, 4.0]
    known.add([])
    assert known.success[0] == pytest.approx(10 / 15) and known.steps[0] == pytest.approx(250 / 15)
