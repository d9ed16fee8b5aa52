"""The menu's code, run on small made-up features."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs.registry import GAMES, game
from flowrl.errors import BadInput
from flowrl.proposers.curriculum import load_curriculum
from flowrl.skills.checks import check_skill_code
from flowrl.skills.menu import Approach, Gain, Pay, Recipe, Recover, each, once, write_is_done, write_reward
from flowrl.skills.module import TaskSource, compile_module, render_module

FACTS = game("Craftax-Symbolic-v1").facts
CLASSIC = game("Craftax-Classic-Symbolic-v1").facts
BLOCKS, ACHIEVEMENTS = FACTS.members("near"), FACTS.members("achievement")
CREATURES = FACTS.constants["CreatureType"]
SCOPE = {
    "jnp": jnp,
    "BlockType": SimpleNamespace(**{name: SimpleNamespace(value=i) for i, name in enumerate(BLOCKS)}),
    "CreatureType": SimpleNamespace(**{name: SimpleNamespace(value=i) for i, name in enumerate(CREATURES)}),
    "Achievement": SimpleNamespace(**{name: SimpleNamespace(value=i) for i, name in enumerate(ACHIEVEMENTS)}),
}
NOTHING = write_reward([Pay("avoid_damage")], FACTS)


def reward(*terms, **features):
    return _run(write_is_done({"wood": each(1)}, FACTS), write_reward(terms, FACTS), "reward", features)


def is_done(gains, **features):
    return _run(write_is_done(gains, FACTS), NOTHING, "is_done", features)


def _run(done_source, reward_source, which, features):
    text = render_module("Trial", 0, {0: 0}, [TaskSource("Trial", 1, 0, done_source, reward_source)])
    [task] = compile_module(text, SCOPE, FACTS.feature_names)
    return getattr(task, which)(*(_on_device(features[name]) for name in getattr(task, f"{which}_params")))


def _on_device(feature):
    return jnp.asarray(feature) if not isinstance(feature, SimpleNamespace) else feature


def blocks(**offsets):
    """``closest_blocks`` in which only the given blocks are in view."""
    return _in_view(BLOCKS, offsets)


def creatures(**offsets):
    """``closest_creatures`` in which only the given creatures are in view."""
    return _in_view(CREATURES, offsets)


def _in_view(names, offsets):
    found = np.full((len(names), 2, 1), 30)
    for name, offset in offsets.items():
        found[names.index(name), :, 0] = offset
    return found


def unlocked(*names):
    return np.array([name in names for name in ACHIEVEMENTS])


def inventory(**fields):
    amounts = {**dict.fromkeys(("wood", "torches", "pickaxe"), 0), "potions": np.zeros(6, int), **fields}
    return SimpleNamespace(**{name: jnp.asarray(amount) for name, amount in amounts.items()})


@pytest.mark.parametrize(
    ("gains", "enough", "too_little"),
    [
        ({"wood": each(2)}, {"inventory": inventory(wood=6), "n": 3}, {"inventory": inventory(wood=5), "n": 3}),
        ({"wood": once(2)}, {"inventory": inventory(wood=2)}, {"inventory": inventory(wood=1)}),
        ({"pickaxe": once(3)}, {"inventory": inventory(pickaxe=4)}, {"inventory": inventory(pickaxe=2)}),
        (
            {"potions": each(1)},
            {"inventory": inventory(potions=np.array([1, 0, 1, 0, 0, 0])), "n": 2},
            {"inventory": inventory(potions=np.array([0, 0, 1, 0, 0, 0])), "n": 2},
        ),
        (
            {"achievement:EAT_COW": once(1)},
            {"achievements": unlocked("EAT_COW")},
            {"achievements": unlocked("EAT_BAT", "EAT_PLANT")},
        ),
        (
            {"near:FURNACE": once(1)},
            {"closest_blocks": blocks(FURNACE=(-1, 1))},
            {"closest_blocks": blocks(FURNACE=(0, 2), TREE=(0, 1))},
        ),
        ({"level:DUNGEON": once(1)}, {"player_level": 1}, {"player_level": 2}),
        (
            {"cleared:DUNGEON": once(1)},
            {"monsters_killed": np.array([99, 8, 0])},
            {"monsters_killed": np.array([99, 7, 99])},
        ),
        (
            {"wood": each(1), "achievement:EAT_COW": once(1)},
            {"inventory": inventory(wood=1), "achievements": unlocked("EAT_COW"), "n": 1},
            {"inventory": inventory(wood=1), "achievements": unlocked(), "n": 1},
        ),
    ],
)
def test_done_is_when_every_gain_holds(gains, enough, too_little):
    assert is_done(gains, **enough)
    assert not is_done(gains, **too_little)


@pytest.mark.parametrize(
    ("term", "features", "paid"),
    [
        (Gain("wood"), {"inventory_diff": inventory(wood=1)}, 1.0),
        (Gain("wood", 0.5), {"inventory_diff": inventory(wood=-2)}, -1.0),
        (Gain("potions"), {"inventory_diff": inventory(potions=np.array([2, 0, 0, 0, 0, 1]))}, 3.0),
        (Gain("achievement:WAKE_UP", 2), {"achievements_diff": unlocked("WAKE_UP")}, 2.0),
        (Gain("achievement:WAKE_UP"), {"achievements_diff": unlocked("EAT_COW")}, 0.0),
        (Gain("level:DUNGEON"), {"player_level": 1, "player_level_diff": 1}, 1.0),
        (Gain("level:DUNGEON"), {"player_level": 0, "player_level_diff": -1}, -1.0),
        (Gain("level:DUNGEON"), {"player_level": 1, "player_level_diff": 0}, 0.0),
        (Gain("cleared:DUNGEON"), {"monsters_killed_diff": np.array([3, 1, 5])}, 0.5),
        (Recover("energy", 0.2), {"player_intrinsics_diff": np.array([9, 9, 9, 1, 9])}, 0.2),
        (Pay("avoid_damage", weight=2), {"health_penalty": -0.3}, -0.6),
    ],
)
def test_each_term_pays_its_weight(term, features, paid):
    assert reward(term, **features) == pytest.approx(paid)


@pytest.mark.parametrize(
    ("before", "after", "paid"),
    [
        ((0, 4), (0, 3), 0.05),
        ((0, 3), (0, 4), -0.05),
        ((2, 2), (2, 2), 0.0),
        ((30, 30), (3, 4), 0.15),
        ((3, 4), (30, 30), -0.15),
        ((30, 30), (30, 30), 0.0),
    ],
)
def test_one_step_closer_pays_a_tenth_of_the_weight(before, after, paid):
    features = {"closest_blocks_prev": blocks(TREE=before), "closest_blocks": blocks(TREE=after)}
    assert reward(Approach("TREE", 0.5), **features) == pytest.approx(paid)
    features = {"closest_creatures_prev": creatures(SNAIL=before), "closest_creatures": creatures(SNAIL=after)}
    assert reward(Approach("SNAIL", 0.5), **features) == pytest.approx(paid)


def test_a_walk_that_ends_where_it_began_pays_nothing():
    walk = [(30, 30), (3, 0), (2, 1), (1, 0), (0, 2), (1, 4), (30, 30)]
    steps = itertools.pairwise(walk)
    total = sum(
        reward(Approach("TREE"), closest_blocks_prev=blocks(TREE=before), closest_blocks=blocks(TREE=after))
        for before, after in steps
    )
    assert total == pytest.approx(0)


def test_being_near_pays_once_and_is_taken_back_on_leaving():
    near, away = blocks(CRAFTING_TABLE=(1, 1)), blocks(CRAFTING_TABLE=(2, 0))
    term = Gain("near:CRAFTING_TABLE")
    assert reward(term, closest_blocks_prev=away, closest_blocks=near) == 1
    assert reward(term, closest_blocks_prev=near, closest_blocks=near) == 0
    assert reward(term, closest_blocks_prev=near, closest_blocks=away) == -1


@pytest.mark.parametrize("block", ["TREE", "DIAMOND"])
def test_collecting_pays_clearly_even_if_no_other_block_is_in_view(block):
    terms = (Gain("wood"), Approach(block))
    features = {"closest_blocks_prev": blocks(**{block: (0, 1)}), "closest_blocks": blocks()}
    assert reward(*terms, **features, inventory_diff=inventory(wood=1)) > 0.5


def test_eating_pays_clearly_though_the_creature_is_gone():
    terms = (Gain("achievement:EAT_COW"), Approach("COW"))
    features = {"closest_creatures_prev": creatures(COW=(0, 1)), "closest_creatures": creatures()}
    assert reward(*terms, **features, achievements_diff=unlocked("EAT_COW")) > 0.5


@pytest.mark.parametrize("facts", [FACTS, CLASSIC], ids=["craftax", "classic"])
def test_every_block_and_creature_can_be_approached_in_code_that_passes_the_checks(facts):
    for target in (*facts.members("near"), *facts.constants["CreatureType"]):
        code = write_reward([Approach(target)], facts)
        assert ("CreatureType" in code) == (target in facts.constants["CreatureType"])
        check_skill_code(Recipe("Trial", "", {"wood": each(1)}, reward=(Approach(target),)).spec(facts), facts)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: write_reward([], FACTS), "at least one term"),
        (lambda: write_is_done({}, FACTS), "never done"),
        (lambda: write_reward([Gain("mithril")], FACTS), "no resource 'mithril'"),
        (
            lambda: write_reward([Approach("LAKE")], FACTS),
            "approach of Craftax-Symbolic-v1 has no target 'LAKE'; choose one of",
        ),
        (lambda: write_reward([Approach("TREES")], FACTS), "no target 'TREES'; did you mean TREE"),
        (lambda: write_reward([Approach("COWS")], FACTS), "no target 'COWS'; did you mean COW"),
        (lambda: write_reward([Approach("BAT")], CLASSIC), "no target 'BAT'"),
        (lambda: write_reward([Recover("mood")], FACTS), "no target 'mood'; did you mean food"),
        (lambda: write_reward([Recover("mana")], CLASSIC), "no target 'mana'"),
        (lambda: write_reward([Pay("approach")], FACTS), "needs a target"),
        (lambda: write_reward([Pay("avoid_damage", "TREE")], FACTS), "takes no target, found 'TREE'"),
        (
            lambda: write_reward([Pay("fly")], FACTS),
            "no reward term 'fly'; its terms are: approach, recover, wall_in, rest_sheltered, avoid_damage",
        ),
    ],
)
def test_what_the_game_does_not_have_is_refused(write, message):
    with pytest.raises(BadInput, match=message):
        write()


def test_a_recipe_is_done_by_its_gains_and_also_declares_the_achievement():
    recipe = Recipe("Collect_Wood", "", {"wood": each(1)}, also_gains=("achievement:COLLECT_WOOD",))
    spec = recipe.spec(FACTS)
    assert set(spec.gains) == {"wood", "achievement:COLLECT_WOOD"}
    assert "achievements" not in spec.task_is_done
    assert "health_penalty" in spec.task_reward


def test_a_recipe_may_have_a_custom_reward():
    source = "def task_reward(inventory_diff):\n    return 2.0 * inventory_diff.wood\n"
    recipe = Recipe("Collect_Wood", "", {"wood": each(1)}, task_reward=source)
    assert recipe.spec(FACTS).task_reward == source
    assert "inventory.wood >= n" in recipe.spec(FACTS).task_is_done
    with pytest.raises(BadInput, match="Collect_Wood has both reward terms and a task_reward"):
        replace(recipe, reward=(Approach("TREE"),)).spec(FACTS)


@pytest.mark.parametrize("entry", GAMES.values(), ids=GAMES)
def test_menu_code_passes_the_static_checks(entry):
    for spec in load_curriculum(entry.curriculum, entry.facts):
        check_skill_code(spec, entry.facts)
