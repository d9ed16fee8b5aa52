"""What the planner chooses, case by case on Craftax-Classic's skills, and against a plain Python planner on random states."""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowrl.envs.craftax.facts import on_floor, unlocked
from flowrl.envs.craftax.facts_classic import FACTS
from flowrl.envs.readings import Readings
from flowrl.evaluation.catalogue import NO_SKILL, make_catalogue
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.evaluation.planner import (
    NO_VITAL,
    PASSING_TIME,
    Past,
    Planned,
    PlannerSettings,
    choose,
    make_explain,
    ways_from,
)
from flowrl.skills.facts import Kind
from flowrl.skills.graph import needs
from tests.evaluation.libraries import GOALS, VITALS, classic_catalogue, classic_specs, past, plan_names, readings, weights
from tests.skills.builders import FACTS as FLOORS_FACTS
from tests.skills.builders import skill

CATALOGUE, NAMES = classic_catalogue()
ALL_WEIGHTS = weights(NAMES)
WITHOUT_VITALS = PlannerSettings(low=0.0, stockpile=1.0)
NO_FAILURES = past(NAMES)
CHOOSE = jax.jit(choose)
WAYS = jax.jit(ways_from)


def choice_of(where, of=ALL_WEIGHTS, by=WITHOUT_VITALS, failed=NO_FAILURES):
    return jax.device_get(CHOOSE(Planned(CATALOGUE, of, by), where, failed))


def chosen(*where, **how):
    """``(task, n, goal)`` by name."""
    choice = choice_of(*where, **how)
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
    assert chosen(where, cheap, failed=past(NAMES, Make_Wood_Sword=1))[2] == "Collect_Drink"


def test_what_is_unlocked_is_no_goal_again():
    where = readings(NAMES, unlocked=all_but("EAT_COW"))
    assert chosen(where)[2] == "Eat_Cow"


def test_with_everything_unlocked_the_best_skill_passes_the_time():
    of = weights(NAMES, Eat_Cow=(1.0, 5.0))
    choice = choice_of(readings(NAMES, unlocked=GOALS), of)
    assert (NAMES.skills[choice.skill], choice.n, choice.until) == ("Eat_Cow", 1, PASSING_TIME)


def test_explore_passes_the_time_where_there_is_one_and_is_chosen_for_nothing_else():
    catalogue, names = classic_catalogue(explores=True)
    assert catalogue.max_steps[0] <= 200 and not catalogue.goals[0].any() and not catalogue.restores[0].any()
    catalogue = catalogue._replace(goals=catalogue.goals.at[0].set(True))  # as if it had unlocked all of them in a test
    # As good as any other, cheaper than all; of `poor`, nothing else is good enough for any goal.
    of, poor = weights(names, Explore=(1.0, 1.0)), weights(names, success=0.01, Explore=(1.0, 1.0))
    for known, done, low, idle in (
        (of, GOALS, None, True), (poor, (), None, True), (poor, (), {"drink": 1}, True), (of, (), None, False),
        (of, (), {"drink": 1}, False), (of, all_but("EAT_COW"), None, False),
    ):  # fmt: skip
        where = readings(names, done, vitals=low)
        choice = jax.device_get(CHOOSE(Planned(catalogue, known, PlannerSettings()), where, past(names)))
        assert (names.skills[choice.skill] == "Explore") == (choice.until == PASSING_TIME) == idle
        assert choice.goal != names.skills.index("Explore")


def test_a_failure_makes_another_goal_cheaper():
    where = readings(NAMES, unlocked=all_but("EAT_COW", "COLLECT_DRINK"))
    of = weights(NAMES, Eat_Cow=(0.9, 20.0), Collect_Drink=(0.9, 40.0))
    assert chosen(where, of)[2] == "Eat_Cow"
    assert chosen(where, of, failed=past(NAMES, Eat_Cow=1))[2] == "Collect_Drink"


def test_what_is_in_view_comes_before_what_is_nearly_as_cheap():
    of = weights(NAMES, Collect_Wood=(0.9, 20.0), Collect_Drink=(0.9, 25.0))
    unlocked = all_but("COLLECT_WOOD", "COLLECT_DRINK")
    assert chosen(readings(NAMES, unlocked, seen=("TREE", "WATER")), of)[2] == "Collect_Wood"
    assert chosen(readings(NAMES, unlocked, seen=("WATER",)), of)[2] == "Collect_Drink"


def test_a_poor_skill_is_not_used_nor_what_needs_it():
    of = weights(NAMES, Collect_Iron=(0.05, 100.0), Eat_Plant=(0.9, 5000.0))
    where = readings(NAMES, unlocked=all_but("COLLECT_IRON", "MAKE_IRON_SWORD", "COLLECT_DIAMOND", "EAT_PLANT"))
    assert chosen(where, of)[2] == "Eat_Plant"


def test_a_cheap_stock_is_collected_for_the_other_open_goals_too():
    by = WITHOUT_VITALS._replace(stockpile=5.0)
    of = weights(NAMES, Collect_Wood=(1.0, 1.0))
    assert chosen(readings(NAMES), of, by) == ("Collect_Wood", 5, "Collect_Wood")
    # Only a table is open: it takes two pieces.
    assert chosen(readings(NAMES, unlocked=all_but("PLACE_TABLE")), of, by) == ("Collect_Wood", 2, "Place_Table")
    dear = weights(NAMES, Collect_Wood=(0.1, 2.0), Collect_Drink=(0.9, 500.0))
    assert chosen(readings(NAMES), dear, by)[:2] == ("Collect_Wood", 1)


def test_of_the_low_vitals_the_lowest_is_restored_first_and_until_it_is_high():
    where = readings(NAMES, unlocked=["COLLECT_DRINK"], vitals={"drink": 2, "food": 1})
    choice = choice_of(where, by=PlannerSettings())
    assert (NAMES.skills[choice.skill], VITALS[choice.until], choice.goal) == ("Eat_Cow", "food", NO_SKILL)


def test_by_night_a_shelter_comes_first_and_the_night_is_spent_in_it():
    for held, expected in (
        ({"stone": 3}, ("Take_Shelter", NO_VITAL)),
        ({"stone": 0, "wood_pickaxe": 1}, ("Collect_Stone", NO_VITAL)),
        ({"in:SHELTER": 1}, ("Spend_Night", VITALS.index("safety"))),
    ):
        where = readings(NAMES, vitals={"safety": 0, "drink": 1}, **held)
        choice = choice_of(where, by=PlannerSettings())
        assert (NAMES.skills[choice.skill], choice.until, choice.goal) == (*expected, NO_SKILL)
    night = readings(NAMES, vitals={"safety": 0})
    for success, by, goes_on in ((0.24, {}, True), (0.26, {}, False), (0.24, {"min_upkeep_success": 0.2}, False)):
        choice = choice_of(night, weights(NAMES, Take_Shelter=(success, 60.0)), by=PlannerSettings(**by))
        assert (choice.goal != NO_SKILL) == goes_on, "who cannot build one goes on"


def test_a_zombie_within_reach_is_beaten_before_anything_else():
    danger = "safety from ZOMBIE"
    for vitals in ({danger: 0, "drink": 1}, {danger: 0, "safety": 0}):
        choice = choice_of(readings(NAMES, ["DEFEAT_ZOMBIE"], vitals=vitals), by=PlannerSettings())
        assert (NAMES.skills[choice.skill], choice.until) == ("Defeat_Zombie", VITALS.index(danger))
    poor = weights(NAMES, Defeat_Zombie=(0.05, 60.0))
    choice = choice_of(readings(NAMES, vitals={danger: 0}), poor, by=PlannerSettings())
    assert choice.until == NO_VITAL, "who cannot fight goes on"


def test_energy_is_restored_later_than_other_vitals_and_not_at_all_where_none_is():
    for level, by, is_restored in ((2, {}, False), (1, {}, True), (1, {"low": 0.0}, False)):
        choice = choice_of(readings(NAMES, ["WAKE_UP"], vitals={"energy": level}), by=PlannerSettings(**by))
        assert (choice.until == VITALS.index("energy")) == is_restored


def test_of_the_skills_that_restore_a_vital_the_shortest_way_is_taken():
    where = readings(NAMES, vitals={"food": 1})
    of = weights(NAMES, Eat_Cow=(0.9, 100.0), Eat_Plant=(0.9, 5.0), Place_Plant=(1.0, 1.0), Collect_Sapling=(1.0, 1.0))
    choice = choice_of(where, of, by=PlannerSettings())
    # A plant has to be grown first, and a sapling be found for that; the vital is restored by a later task.
    assert (NAMES.skills[choice.skill], choice.until, choice.goal) == ("Collect_Sapling", NO_VITAL, NO_SKILL)


def test_a_vital_that_no_good_skill_restores_is_left_alone():
    poor = weights(NAMES, Eat_Cow=(0.05, 20.0), Eat_Plant=(0.05, 20.0))
    for where, of in ((readings(NAMES, vitals={"health": 1}), ALL_WEIGHTS), (readings(NAMES, vitals={"food": 0}), poor)):
        choice = choice_of(where, of, by=PlannerSettings())
        assert choice.goal != NO_SKILL and choice.until == NO_VITAL


def test_what_does_not_restore_a_vital_is_given_up_until_a_task_for_a_goal_has_ended():
    where = readings(NAMES, vitals={"drink": 1}, unlocked=["COLLECT_DRINK"])
    assert choice_of(where, by=PlannerSettings(), failed=past(NAMES, upkeep_failures=1)).goal == NO_SKILL
    assert choice_of(where, by=PlannerSettings(), failed=past(NAMES, upkeep_failures=2)).goal != NO_SKILL


def test_tools_are_made_and_what_is_placed_or_walled_in_is_not():
    made = {name for name, makes in zip(NAMES.skills, np.asarray(CATALOGUE.makes).tolist()) if makes}
    assert made == {f"Make_{material}_{tool}" for material in ("Wood", "Stone", "Iron") for tool in ("Pickaxe", "Sword")}


def test_a_choice_is_explained_in_a_line():
    explain = make_explain(NAMES, VITALS)

    def line(where, by=WITHOUT_VITALS):
        return explain(Planned(CATALOGUE, ALL_WEIGHTS, by), where, NO_FAILURES, choice_of(where, by=by))

    where = readings(NAMES, unlocked=all_but("MAKE_WOOD_PICKAXE", "EAT_COW"), wood=3)
    assert line(where) == "Eat_Cow x1 for Eat_Cow: 1 task to go, price 22; other goals: Make_Wood_Pickaxe 44"
    assert line(readings(NAMES, vitals={"drink": 0}), PlannerSettings()) == "Collect_Drink x1 until drink is 8"
    assert line(readings(NAMES, unlocked=GOALS)) == "Collect_Wood x1: nothing is left to unlock with these skills"


def test_a_place_that_was_left_and_that_no_skill_leads_to_shuts_off_what_is_done_there():
    specs = {
        "Descend": skill("Descend", {"level:GROUND": 1}, gains={"level:CELLAR": 1, "achievement:SLEEP": 1}),
        "Shoot": skill("Shoot", {"level:GROUND": 1}, gains={"arrows": "n", "achievement:WAKE": 1}),
    }
    facts = dataclasses.replace(
        FLOORS_FACTS, families=(unlocked(("SLEEP", "WAKE")), on_floor(("GROUND", "CELLAR"))), goals="achievement"
    )
    skills = [LibrarySkill(i, name, spec, "", (), (9,), None, None) for i, (name, spec) in enumerate(specs.items())]
    catalogue, names = make_catalogue(Library(facts.env_name, 4, False, tuple(skills), 0), facts)
    assert "level:GROUND" in names.resources
    for place, usable in (("level:GROUND", True), ("level:CELLAR", False)):
        levels = np.array([name == place for name in names.resources], np.float32)
        where = Readings(levels, np.zeros(0, np.float32), np.zeros(2, bool), np.zeros(0, bool), np.bool_(False))
        ways = WAYS(Planned(catalogue, weights(names), WITHOUT_VITALS), where, past(names))
        assert bool(ways.is_usable[1]) == usable


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
    where = readings(NAMES, **{name.replace("near:", "near_"): level for name, level in levels.items()})
    history = Past(np.array(failed, np.int32), np.int32(0), np.zeros(len(failed), np.float32))
    found = jax.device_get(WAYS(Planned(CATALOGUE, of, WITHOUT_VITALS), where, history))
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
