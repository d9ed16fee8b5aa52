"""What the planner chooses, case by case on Craftax-Classic's skills, and against a plain Python planner on random states."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowrl.envs.craftax.facts_classic import FACTS
from flowrl.evaluation.catalogue import NO_SKILL
from flowrl.evaluation.planner import NO_VITAL, PlannerSettings, choose, explain, ways_from
from flowrl.skills.facts import Kind
from flowrl.skills.graph import needs
from tests.evaluation.libraries import (
    GOALS,
    VITALS,
    classic_catalogue,
    classic_specs,
    no_failures,
    plan_names,
    readings,
    weights,
)

CATALOGUE, NAMES = classic_catalogue()
ALL_WEIGHTS = weights(NAMES)
WITHOUT_VITALS = PlannerSettings(low=0.0, stockpile=1.0)
CHOOSE = jax.jit(choose)
WAYS = jax.jit(ways_from)


def chosen(where, of=ALL_WEIGHTS, by=WITHOUT_VITALS, failures=None):
    """``(task, n, goal)`` by name."""
    failed = no_failures(NAMES) if failures is None else failures
    choice = jax.device_get(CHOOSE(CATALOGUE, of, by, where, failed))
    goal = None if choice.goal == NO_SKILL else NAMES.skills[choice.goal]
    return NAMES.skills[choice.skill], int(choice.n), goal


def all_but(*goals):
    return [goal for goal in GOALS if goal not in goals]


def test_a_pickaxe_begins_with_as_much_wood_as_the_whole_way_takes():
    where = readings(NAMES, unlocked=all_but("MAKE_WOOD_PICKAXE"))
    # Two pieces for the table and one for the pickaxe.
    assert chosen(where) == ("Collect_Wood", 3, "Make_Wood_Pickaxe")


def test_what_is_held_is_not_fetched_again():
    where = readings(NAMES, unlocked=all_but("MAKE_WOOD_PICKAXE"), wood=3)
    assert chosen(where) == ("Place_Table", 1, "Make_Wood_Pickaxe")


def test_what_is_beside_the_player_is_used_on_the_spot():
    where = readings(NAMES, unlocked=all_but("MAKE_WOOD_PICKAXE"), wood=1, near_CRAFTING_TABLE=1)
    assert chosen(where) == ("Make_Wood_Pickaxe", 1, "Make_Wood_Pickaxe")


def test_what_is_beside_the_player_does_not_count_if_something_has_to_be_fetched_first():
    where = readings(NAMES, unlocked=all_but("MAKE_WOOD_PICKAXE"), wood=0, near_CRAFTING_TABLE=1)
    assert chosen(where) == ("Collect_Wood", 3, "Make_Wood_Pickaxe")


def test_a_furnace_is_placed_beside_the_table_at_hand():
    where = readings(
        NAMES, unlocked=all_but("MAKE_IRON_PICKAXE"), wood=1, stone=2, coal=1, iron=1, stone_pickaxe=1, near_CRAFTING_TABLE=1
    )
    assert chosen(where) == ("Place_Furnace", 1, "Make_Iron_Pickaxe")


def test_crafting_on_the_spot_comes_before_anything_cheaper():
    where = readings(NAMES, unlocked=["MAKE_WOOD_PICKAXE"], wood=1, near_CRAFTING_TABLE=1)
    cheap = weights(NAMES, Collect_Drink=(1.0, 1.0), Make_Wood_Sword=(0.5, 50.0))
    assert chosen(where, cheap) == ("Make_Wood_Sword", 1, "Make_Wood_Sword")


def test_crafting_that_has_just_failed_waits_for_its_turn():
    where = readings(NAMES, unlocked=["MAKE_WOOD_PICKAXE"], wood=1, near_CRAFTING_TABLE=1)
    cheap = weights(NAMES, Collect_Drink=(1.0, 1.0), Make_Wood_Sword=(0.5, 50.0))
    assert chosen(where, cheap, failures=no_failures(NAMES, Make_Wood_Sword=1))[2] == "Collect_Drink"


def test_what_is_unlocked_is_no_goal_again():
    where = readings(NAMES, unlocked=all_but("EAT_COW"))
    assert chosen(where)[2] == "Eat_Cow"


def test_with_everything_unlocked_the_best_skill_passes_the_time():
    of = weights(NAMES, Eat_Cow=(1.0, 5.0))
    assert chosen(readings(NAMES, unlocked=GOALS), of) == ("Eat_Cow", 1, None)


def test_a_failure_makes_another_goal_cheaper():
    where = readings(NAMES, unlocked=all_but("EAT_COW", "COLLECT_DRINK"))
    of = weights(NAMES, Eat_Cow=(0.9, 20.0), Collect_Drink=(0.9, 40.0))
    assert chosen(where, of)[2] == "Eat_Cow"
    assert chosen(where, of, failures=no_failures(NAMES, Eat_Cow=1))[2] == "Collect_Drink"


def test_what_is_in_view_comes_before_what_is_nearly_as_cheap():
    of = weights(NAMES, Collect_Wood=(0.9, 20.0), Collect_Drink=(0.9, 25.0))
    unlocked = all_but("COLLECT_WOOD", "COLLECT_DRINK")
    assert chosen(readings(NAMES, unlocked, seen=("TREE", "WATER")), of)[2] == "Collect_Wood"
    assert chosen(readings(NAMES, unlocked, seen=("WATER",)), of)[2] == "Collect_Drink"


def test_a_poor_skill_is_not_used_nor_what_needs_it():
    of = weights(NAMES, Collect_Iron=(0.05, 100.0), Eat_Plant=(0.9, 5000.0))
    where = readings(NAMES, unlocked=all_but("COLLECT_IRON", "MAKE_IRON_SWORD", "COLLECT_DIAMOND", "EAT_PLANT"))
    assert chosen(where, of)[2] == "Eat_Plant"


def test_a_stock_is_collected_for_the_other_open_goals_too():
    where = readings(NAMES, unlocked=[])
    by = WITHOUT_VITALS._replace(stockpile=5.0)
    of = weights(NAMES, Collect_Wood=(1.0, 1.0))
    assert chosen(where, of, by) == ("Collect_Wood", 5, "Collect_Wood")
    # Only a table is open: it takes two pieces.
    assert chosen(readings(NAMES, unlocked=all_but("PLACE_TABLE")), of, by) == ("Collect_Wood", 2, "Place_Table")


def test_a_low_vital_is_recovered_first_and_until_it_is_high():
    of = weights(NAMES, upkeep={"drink": "Collect_Drink", "food": "Eat_Cow"})
    where = readings(NAMES, unlocked=["COLLECT_DRINK"], vitals={"drink": 2, "food": 1})
    choice = jax.device_get(CHOOSE(CATALOGUE, of, PlannerSettings(), where, no_failures(NAMES)))
    assert NAMES.skills[choice.skill] == "Eat_Cow" and choice.goal == NO_SKILL
    assert VITALS[choice.until] == "food"


def test_a_vital_that_no_skill_recovers_is_left_alone():
    of = weights(NAMES, upkeep={"drink": "Collect_Drink"})
    choice = jax.device_get(CHOOSE(CATALOGUE, of, PlannerSettings(), readings(NAMES, vitals={"food": 0}), no_failures(NAMES)))
    assert choice.goal != NO_SKILL and choice.until == NO_VITAL


def test_a_skill_that_does_not_recover_its_vital_is_given_up_for_a_while():
    of = weights(NAMES, upkeep={"drink": "Collect_Drink"})
    where = readings(NAMES, vitals={"drink": 1}, unlocked=["COLLECT_DRINK"])
    choice = jax.device_get(CHOOSE(CATALOGUE, of, PlannerSettings(), where, no_failures(NAMES, Collect_Drink=2)))
    assert choice.goal != NO_SKILL


def test_a_choice_is_explained_in_a_line():
    where = readings(NAMES, unlocked=all_but("MAKE_WOOD_PICKAXE", "EAT_COW"), wood=3)
    line = explain(NAMES, CATALOGUE, ALL_WEIGHTS, WITHOUT_VITALS, where, no_failures(NAMES), VITALS)
    assert line == "Eat_Cow x1 for Eat_Cow: 1 tasks, price 22; next best: Make_Wood_Pickaxe 44"
    thirsty = weights(NAMES, upkeep={"drink": "Collect_Drink"})
    line = explain(
        NAMES, CATALOGUE, thirsty, PlannerSettings(), readings(NAMES, vitals={"drink": 0}), no_failures(NAMES), VITALS
    )
    assert line == "Collect_Drink x1 to stay alive: until drink is 8"


# Against a planner in plain Python.

SPECS = classic_specs()
PLANS = {name: plan_names(name) for name in SPECS}


def plain_way(goal, levels, costs, good):
    """The way to one skill: ``(first task, n, cost, tasks, usable)``, by dictionaries and loops."""
    demand = dict(needs(SPECS[goal], FACTS))
    first, cost, tasks, usable = (goal, 1), costs[goal], 1, good[goal]
    for name in reversed(PLANS[goal][:-1]):
        spec = SPECS[name]
        lacking = [r for r in spec.gains if demand.get(r, 0) > levels.get(r, 0)]
        if not lacking:
            continue
        n = max(
            max(1, math.ceil((demand[r] - spec.gains[r].fixed) / spec.gains[r].per)) if spec.gains[r].per else 1
            for r in lacking
        )
        for resource, amount in spec.gains.items():
            if resource in demand and amount.at(n) >= demand[resource]:
                del demand[resource]
        for resource, amount in spec.consumes.items():
            demand[resource] = demand.get(resource, 0) + amount.at(n)
        for resource, level in needs(spec, FACTS, n).items():
            demand[resource] = max(demand.get(resource, 0), level)
        first, cost, tasks, usable = (name, n), cost + costs[name] * n, tasks + 1, usable and good[name]
    return (*first, cost, tasks, usable)


def plain_best_way(goal, levels, costs, good):
    here = plain_way(goal, levels, costs, good)
    if here[3] == 1 or SPECS[here[0]].consumes:
        return here
    away = {resource: level for resource, level in levels.items() if FACTS.kind(resource) is not Kind.NEARNESS}
    return plain_way(goal, away, costs, good)


STATES = st.fixed_dictionaries({name: st.integers(0, 1 if ":" in name or "_" in name else 5) for name in NAMES.resources})
RATES = st.lists(st.integers(1, 50).map(lambda part: part / 50), min_size=len(SPECS), max_size=len(SPECS))


@settings(max_examples=60, deadline=None)
@given(levels=STATES, success=RATES, failed=st.lists(st.integers(0, 2), min_size=len(SPECS), max_size=len(SPECS)))
def test_ways_are_those_of_a_plain_planner(levels, success, failed):
    of = weights(NAMES, **{name: (rate, 10.0 + place) for place, (name, rate) in enumerate(zip(NAMES.skills, success))})
    where = readings(NAMES, **{name.replace(":", "_"): level for name, level in levels.items()})
    found = jax.device_get(WAYS(CATALOGUE, of, WITHOUT_VITALS, where, np.array(failed, np.int32)))
    costs = {
        name: (10.0 + place) / max(rate, 0.05) * 3.0 ** failed[place]
        for place, (name, rate) in enumerate(zip(NAMES.skills, success))
    }
    good = {name: np.float32(rate) >= np.float32(0.1) for name, rate in zip(NAMES.skills, success)}
    for place, name in enumerate(NAMES.skills):
        first, n, cost, tasks, usable = plain_best_way(name, levels, costs, good)
        assert NAMES.skills[found.skill[place]] == first, name
        assert (found.n[place], found.num_tasks[place], bool(found.is_usable[place])) == (n, tasks, usable), name
        assert found.cost[place] == pytest.approx(cost, rel=1e-4), name
