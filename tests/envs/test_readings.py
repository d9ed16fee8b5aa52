"""What a planner reads off real states of both games, beside the states themselves."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs import readings
from flowrl.errors import BadInput
from tests.envs.played import CLASSIC, CRAFTAX, played_game

RESOURCES = ("wood", "stone", "near:TREE", "near:CRAFTING_TABLE", "achievement:COLLECT_WOOD")
ATTACKERS = ("ZOMBIE", "GNOME_WARRIOR", "ORC_SOLDIER", "LIZARD", "KNIGHT", "TROLL", "PIGMAN", "FROST_TROLL")
SIGHTS = (("BlockType", "TREE"), ("BlockType", "WATER"), ("CreatureType", "COW"))


@pytest.fixture(params=[CLASSIC, CRAFTAX])
def game(request):
    return played_game(request.param)


@pytest.fixture
def read(game):
    return jax.jit(readings.make_reader(game.adapter, RESOURCES, SIGHTS))


def test_levels_goals_and_vitals_are_those_of_the_state(game, read):
    blocks, creatures = game.constants["BlockType"], game.constants["CreatureType"]
    for state in game.states[::20]:
        found, features = jax.device_get(read(game.features(state))), jax.device_get(game.features(state))
        beside = [np.abs(features.closest_blocks[blocks[name].value]).max() <= 1 for name in ("TREE", "CRAFTING_TABLE")]
        unlocked = np.asarray(state.achievements, bool)
        first = game.constants["Achievement"].COLLECT_WOOD.value
        expected = [int(state.inventory.wood), int(state.inventory.stone), *beside, unlocked[first]]
        assert found.levels.tolist() == [float(level) for level in expected]
        assert found.goals.tolist() == unlocked.tolist()
        health = [state.player_health, state.player_food, state.player_drink, state.player_energy]
        by_day = [9.0 if features.light > 0.45 else 0.0] if game.adapter.env_name == CLASSIC else []
        attackers = ATTACKERS[: 1 if game.adapter.env_name == CLASSIC else None]
        near = [np.abs(features.closest_creatures[creatures[name].value]).sum() <= 2 for name in attackers]
        safety = [*(9.0 * (not is_near) for is_near in near), *by_day]
        assert found.vitals.tolist() == [*(float(np.floor(level)) for level in health), *safety]
        assert bool(found.is_busy) == bool(state.is_sleeping)
        for (constant, name), seen in zip(SIGHTS, found.seen):
            kinds, feature = (
                (blocks, features.closest_blocks) if constant == "BlockType" else (creatures, features.closest_creatures)
            )
            assert bool(seen) == bool((np.abs(feature[kinds[name].value]) < 30).all())


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        ({"player_health": 0}, "attack"),
        ({"player_health": 0, "player_food": 0}, "hunger"),
        ({"player_health": 0, "player_drink": 0}, "thirst"),
        ({"player_health": 0, "player_energy": 0}, "exhaustion"),
        ({}, "other"),
    ],
)
def test_why_a_game_is_over_is_read_off_its_last_state(game, levels, reason):
    state = game.states[0]
    changed = {name: jnp.asarray(level, jnp.asarray(getattr(state, name)).dtype) for name, level in levels.items()}
    number = readings.make_ending(game.adapter)(game.features(state.replace(**changed)))
    assert readings.ending_names(game.adapter)[int(number)] == reason


def test_a_player_that_walks_into_lava_has_ended_by_lava():
    classic = played_game(CLASSIC)
    state = classic.states[0]
    row, column = (int(part) for part in state.player_position)
    burning = state.replace(map=state.map.at[row, column].set(classic.constants["BlockType"].LAVA.value))
    number = readings.make_ending(classic.adapter)(classic.features(burning))
    assert readings.ending_names(classic.adapter)[int(number)] == "lava"


def test_a_resource_that_the_game_does_not_have_is_refused(game):
    with pytest.raises(BadInput, match="has no resource 'gold'"):
        readings.make_reader(game.adapter, ["gold"])
