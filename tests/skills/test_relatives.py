"""Which expert a new skill starts from: for both built-in curricula, and case by case."""

from __future__ import annotations

import pytest

from flowrl.envs.craftax import facts_classic, facts_full
from flowrl.proposers.curriculum import load_curriculum
from flowrl.skills.explore import EXPLORE, explore
from flowrl.skills.menu import Approach, Recipe, once
from flowrl.skills.relatives import relatives

CLASSIC, FULL = facts_classic.FACTS, facts_full.FACTS
GAMES = {"craftax_classic": CLASSIC, "craftax": FULL}
WEAK, NONE, FRESH = "weak", None, "fresh"

RELATIVES = {
    "craftax_classic": {
        "Collect_Wood": NONE,
        "Collect_Drink": (WEAK, "Collect_Wood"),
        "Place_Table": FRESH,
        "Make_Wood_Pickaxe": FRESH,
        "Make_Wood_Sword": FRESH,
        "Collect_Stone": "Collect_Wood",
        "Place_Stone": FRESH,
        "Make_Stone_Pickaxe": FRESH,
        "Make_Stone_Sword": FRESH,
        "Collect_Sapling": FRESH,
        "Place_Plant": FRESH,
        "Wake_Up": NONE,
        "Collect_Coal": "Collect_Stone",
        "Place_Furnace": FRESH,
        "Collect_Iron": "Collect_Coal",
        "Eat_Cow": (WEAK, "Collect_Sapling"),
        "Defeat_Zombie": "Eat_Cow",
        "Defeat_Skeleton": "Defeat_Zombie",
        "Make_Iron_Pickaxe": FRESH,
        "Make_Iron_Sword": FRESH,
        "Collect_Diamond": "Collect_Iron",
        "Eat_Plant": NONE,
        "Take_Shelter": NONE,
        "Spend_Night": NONE,
    },
    "craftax": {
        "Collect_Wood": NONE,
        "Collect_Drink": (WEAK, "Collect_Wood"),
        "Place_Table": FRESH,
        "Eat_Cow": NONE,
        "Make_Wood_Pickaxe": FRESH,
        "Make_Wood_Sword": FRESH,
        "Collect_Sapling": FRESH,
        "Place_Plant": FRESH,
        "Wake_Up": NONE,
        "Collect_Stone": "Collect_Wood",
        "Place_Stone": FRESH,
        "Make_Stone_Pickaxe": FRESH,
        "Make_Stone_Sword": FRESH,
        "Defeat_Zombie": "Eat_Cow",
        "Collect_Coal": "Collect_Stone",
        "Place_Furnace": FRESH,
        "Collect_Iron": "Collect_Coal",
        "Make_Torch": FRESH,
        "Place_Torch": FRESH,
        "Make_Arrow": FRESH,
        "Make_Iron_Pickaxe": FRESH,
        "Make_Iron_Sword": FRESH,
        "Make_Iron_Armour": FRESH,
        "Defeat_Skeleton": "Defeat_Zombie",
        "Enter_Dungeon": NONE,
        "Open_Chest": "Collect_Drink",
        "Find_Bow": "Open_Chest",
        "Fire_Bow": FRESH,
        "Collect_Potion": "Find_Bow",
        "Drink_Potion": FRESH,
        "Eat_Snail": "Defeat_Skeleton",
        "Defeat_Orc_Soldier": "Eat_Snail",
        "Defeat_Orc_Mage": "Defeat_Orc_Soldier",
        "Clear_Dungeon": NONE,
        "Enter_Gnomish_Mines": "Enter_Dungeon",
        "Eat_Bat": "Defeat_Orc_Mage",
        "Defeat_Gnome_Warrior": "Eat_Bat",
        "Defeat_Gnome_Archer": "Defeat_Gnome_Warrior",
        "Collect_Diamond": "Collect_Iron",
        "Make_Diamond_Pickaxe": FRESH,
        "Make_Diamond_Sword": FRESH,
        "Collect_Sapphire": "Collect_Diamond",
        "Collect_Ruby": "Collect_Sapphire",
        "Eat_Plant": NONE,
    },
}
"""Of each skill, in a library with all before it in the curriculum. Weak ones give way to Explore, which also comes where there
are none; but what is made, placed or collected anywhere in one step starts fresh."""


def related(spec, library, facts):
    return relatives(spec, library, facts)[0]


def specs_of(curriculum):
    return {spec.name: spec for spec in load_curriculum(curriculum, GAMES[curriculum])}


@pytest.mark.parametrize(
    ("curriculum", "name"), [(curriculum, name) for curriculum in RELATIVES for name in specs_of(curriculum)]
)
def test_a_skill_of_a_curriculum_starts_from_its_relative(curriculum, name):
    facts, specs = GAMES[curriculum], specs_of(curriculum)
    before = dict(list(specs.items())[: list(specs).index(name)])
    expected = RELATIVES[curriculum][name]
    if expected == FRESH:
        assert related(specs[name], before, facts) is related(specs[name], {EXPLORE: explore(facts), **before}, facts) is None
        return
    is_weak = isinstance(expected, tuple)
    assert related(specs[name], before, facts) == (expected[1] if is_weak else expected)
    with_explore = {EXPLORE: explore(facts), **before}
    assert related(specs[name], with_explore, facts) == (EXPLORE if is_weak or expected is NONE else expected)


@pytest.mark.parametrize(
    ("name", "completed", "expected"),
    [
        ("Collect_Iron", ["Collect_Wood", "Collect_Stone", "Collect_Sapling"], "Collect_Stone"),
        ("Collect_Iron", ["Collect_Wood", "Collect_Sapling", "Place_Table"], "Collect_Wood"),
        ("Defeat_Zombie", ["Collect_Wood", "Collect_Sapling", "Collect_Drink"], "Collect_Sapling"),
        ("Defeat_Zombie", ["Defeat_Skeleton", "Collect_Sapling"], "Defeat_Skeleton"),
        ("Make_Iron_Sword", ["Make_Wood_Sword", "Make_Stone_Pickaxe", "Collect_Iron"], None),
        ("Make_Stone_Pickaxe", ["Collect_Stone", "Place_Table"], None),
        ("Wake_Up", ["Eat_Cow", "Collect_Sapling"], None),
    ],
)
def test_with_fewer_skills_the_next_best_one_is_taken(name, completed, expected):
    specs = specs_of("craftax_classic")
    assert related(specs[name], {other: specs[other] for other in completed}, CLASSIC) == expected


def test_what_a_reward_looks_for_counts_where_no_name_tells():
    def hunt(name, *targets):
        gains = {"sapling": once(1)}
        return Recipe(name, "", gains, reward=tuple(Approach(target) for target in targets)).spec(CLASSIC)

    library = {spec.name: spec for spec in (hunt("First", "WATER"), hunt("Second", "DIAMOND"), hunt("Third"))}
    assert related(hunt("New", "WATER", "LAVA"), library, CLASSIC) == "First"
    assert related(hunt("New", "LAVA"), library, CLASSIC) == "Second"  # both find blocks; the newest


@pytest.mark.parametrize("curriculum", GAMES)
def test_neither_explore_nor_the_skill_itself_is_related(curriculum):
    facts, specs = GAMES[curriculum], specs_of(curriculum)
    assert related(explore(facts), specs, facts) is None
    for name, spec in specs.items():
        assert related(spec, specs, facts) != name
        assert related(spec, {}, facts) is None


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("Collect_Coal", ["Collect_Stone", "Collect_Wood", EXPLORE, None]),
        ("Eat_Cow", [EXPLORE, "Collect_Sapling", None]),
        ("Wake_Up", [EXPLORE, None]),
        ("Place_Stone", [None, EXPLORE, "Place_Table"]),
        (EXPLORE, [None]),
    ],
)
def test_candidates_are_those_alike_then_explore_then_those_weakly_alike_then_a_fresh_one(name, candidates):
    specs = specs_of("craftax_classic") | {EXPLORE: explore(CLASSIC)}
    library = {other: specs[other] for other in ("Collect_Wood", "Place_Table", "Collect_Stone", "Collect_Sapling", EXPLORE)}
    assert relatives(specs[name], library, CLASSIC) == candidates
