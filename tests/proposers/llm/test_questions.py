"""The prompts: what the model gets to read."""

from __future__ import annotations

import pytest

from flowrl.envs.registry import GAMES, game
from flowrl.proposers.base import LibraryView, Measured
from flowrl.proposers.curriculum import load_curriculum
from flowrl.proposers.llm import prompts
from flowrl.proposers.llm.questions import game_text, missing_gains, opening, request_text
from flowrl.skills import checks

CLASSIC = game("Craftax-Classic-Symbolic-v1").facts
CRAFTAX = game("Craftax-Symbolic-v1").facts


def skills(facts, *names):
    """Skills of the game's built-in curriculum, by name."""
    entry = next(entry for entry in GAMES.values() if entry.facts is facts)
    found = {spec.name: spec for spec in load_curriculum(entry.curriculum, facts)}
    return {name: found[name] for name in names}


@pytest.mark.parametrize("facts", [CLASSIC, CRAFTAX], ids=["classic", "craftax"])
def test_the_prompt_describes_the_game_from_its_facts(facts):
    text = game_text(facts)
    members = (*facts.members("near"), *facts.members("achievement"), *facts.members("level"), *facts.constants["CreatureType"])
    allowed = (*facts.constants, *checks.JNP_NAMES, *checks.BUILTINS)
    for word in (*facts.stocks, *facts.possessions, *members, *allowed):
        assert word in text
    features = text[text.index("FEATURES") : text.index("IN SCOPE")]
    assert [line[2:].partition(":")[0] for line in features.splitlines() if line.startswith("- ")] == list(facts.feature_names)


def test_the_fixed_part_comes_first_and_stays_the_same():
    empty = LibraryView(CLASSIC, {})
    fuller = LibraryView(CLASSIC, skills(CLASSIC, "Collect_Wood"))
    one, other = opening(empty, 0, 1), opening(fuller, 7, 2)
    assert one[0]["role"] == "system" and one[0] == other[0]
    assert one[1] != other[1]


def test_the_prompt_lists_the_library_with_its_measurements():
    view = LibraryView(
        CLASSIC,
        skills(CLASSIC, "Collect_Wood"),
        training=skills(CLASSIC, "Place_Table"),
        unavailable=frozenset({"Eat_Cow"}),
        measured={"Collect_Wood": Measured(0.912, 0.123, 1_234_567, 57.4)},
    )
    text = request_text(view, 0, 1)
    trained, in_training, failed = text.index("LIBRARY"), text.index("IN TRAINING"), text.index("FAILED")
    assert (
        "success 0.91, a random policy 0.12, 57 frames per success, after 1,234,567 frames of training"
        in text[trained:in_training]
    )
    assert "Place_Table: requires wood 2; consumes wood 2" in text[in_training:failed]
    assert "- Eat_Cow" in text[failed:]
    reached = text[text.index("REACHED") : text.index("CHOOSE ONE")]
    assert "wood" in reached and "near:CRAFTING_TABLE" in reached


def test_the_prompt_says_where_skills_differ_from_what_they_declare_and_why_others_failed():
    view = LibraryView(
        CLASSIC,
        skills(CLASSIC, "Collect_Wood", "Collect_Drink"),
        unavailable=frozenset({"Eat_Cow", "Place_Table"}),
        differences={
            "Collect_Drink": ("Collect_Drink: declares no gain of sapling; gained by 0.98 of 500 successful episodes",)
        },
        reasons={"Eat_Cow": "no progress: Eat_Cow succeeds in 0.004 of fresh episodes"},
    )
    lines = request_text(view, 0, 1).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("- Collect_Drink: "))
    text = "  observed: Collect_Drink: declares no gain of sapling; gained by 0.98 of 500 successful episodes"
    assert lines[at + 1] == text and not lines[at - 1].startswith("  observed")
    assert "- Eat_Cow: no progress: Eat_Cow succeeds in 0.004 of fresh episodes" in lines and "- Place_Table" in lines


def test_the_choices_are_the_missing_gains():
    choices = missing_gains(skills(CLASSIC, "Collect_Wood", "Place_Table"), CLASSIC)
    assert "stone" in choices and "wood_pickaxe" in choices and "achievement:EAT_COW" in choices
    assert "wood" not in choices and "achievement:PLACE_TABLE" not in choices


def test_a_skill_out_of_reach_provides_nothing():
    alone = skills(CLASSIC, "Place_Table")  # without wood
    assert "achievement:PLACE_TABLE" in missing_gains(alone, CLASSIC)


def test_only_the_next_level_is_a_choice():
    assert "pickaxe (level 1)" in missing_gains({}, CRAFTAX)
    wood = skills(CRAFTAX, "Collect_Wood", "Place_Table", "Make_Wood_Pickaxe")
    choices = missing_gains(wood, CRAFTAX)
    assert "pickaxe (level 2)" in choices and "pickaxe (level 1)" not in choices
    assert "level:DUNGEON" in choices and "level:GNOMISH_MINES" not in choices and "cleared:DUNGEON" not in choices


def test_choices_are_shuffled_by_seed_and_proposal_number_only():
    def order(seed, number):
        text = request_text(LibraryView(CLASSIC, {}), seed, number)
        return text[text.index("CHOOSE ONE") :]

    assert order(1, 1) == order(1, 1)
    assert len({order(1, 1), order(1, 2), order(2, 1)}) == 3
    assert sorted(order(1, 1).split()) == sorted(order(1, 2).split())


def test_every_prompt_is_a_file_whose_values_are_filled_in():
    names = {path.stem for path in prompts.FOLDER.glob("*.txt")}
    assert names == {"rules", "game", "request", "repair", "form", "form_check", "rewards", "cut_off"}
    assert prompts.render("repair", reason="$because").count("$because") == 1
    with pytest.raises(AssertionError, match="repair.txt takes"):
        prompts.render("repair", because="x")
