"""Every feature, against a plain NumPy computation, on states that random play reached in the real games."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs.features import HEALTH_WEIGHT, NOT_IN_VIEW, TaskInputs, nearest_blocks, task_inputs
from tests.envs.played import CLASSIC, CRAFTAX, plain

LIGHT_ENOUGH = 0.05


@pytest.fixture(scope="session")
def seen(played):
    """Pairs of a state and its features, as numpy: states as they were reached, and some with full pockets."""
    rng = np.random.default_rng(0)
    states = played.states + [with_full_pockets(state, rng) for state in played.states[::10]]
    return [(plain(state), jax.device_get(played.features(state))) for state in states]


def with_full_pockets(state, rng):
    """The state with random numbers where random play leaves zeros."""

    def random_numbers(leaf):
        return jnp.asarray(rng.integers(0, 9, np.shape(leaf)), leaf.dtype)

    fields = {
        "inventory": jax.tree.map(random_numbers, state.inventory),
        "achievements": jnp.asarray(rng.random(state.achievements.shape) < 0.5),
    }
    if hasattr(state, "monsters_killed"):
        fields["monsters_killed"] = random_numbers(state.monsters_killed)
    return state.replace(**fields)


@pytest.fixture(scope="session")
def steps(seen):
    """Pairs of states and features to go between: consecutive ones, and some far apart."""
    rng = np.random.default_rng(1)
    near = [(number, number + 1) for number in range(0, len(seen) - 1, 4)]
    far = rng.integers(0, len(seen), (150, 2)).tolist()
    return [(seen[before], seen[after]) for before, after in near + far]


def fields_of(inventory):
    return [field.name for field in dataclasses.fields(inventory)]


def plain_nearest_blocks(state, constants, env_name):
    """Loops over the part of the map around the player, in reading order."""
    block_map = state.map if env_name == CLASSIC else state.map[state.player_level]
    rows, columns = constants_view(env_name)
    best = {}
    for row in range(-(rows // 2), rows // 2 + 1):
        for column in range(-(columns // 2), columns // 2 + 1):
            place = (state.player_position[0] + row, state.player_position[1] + column)
            inside = all(0 <= at < size for at, size in zip(place, block_map.shape))
            if env_name == CRAFTAX and not (inside and state.light_map[state.player_level][place] > LIGHT_ENOUGH):
                continue
            block = block_map[place] if inside else constants["BlockType"].OUT_OF_BOUNDS.value
            distance = abs(row) + abs(column)
            if block not in best or distance < best[block][0]:
                best[block] = (distance, row, column)
    found = np.full((len(constants["BlockType"]), 2, 1), NOT_IN_VIEW)
    for block, (_, row, column) in best.items():
        found[block, :, 0] = row, column
    return found


def constants_view(env_name):
    return (7, 9) if env_name == CLASSIC else (9, 11)


def test_nearest_blocks_are_those_that_a_loop_over_the_map_finds(played, seen):
    variety = set()
    for state, features in seen:
        expected = plain_nearest_blocks(state, played.constants, played.adapter.env_name)
        np.testing.assert_array_equal(features.closest_blocks, expected)
        variety |= set(np.flatnonzero(expected[:, 0, 0] != NOT_IN_VIEW))
    # Grass, water, stone, trees, and beyond the map's edge where it can be seen.
    names = {played.constants["BlockType"](int(block)).name for block in variety}
    assert {"GRASS", "WATER", "STONE", "TREE"} <= names
    assert ("OUT_OF_BOUNDS" in names) == (played.adapter.env_name == CLASSIC)


def test_a_block_is_in_view_exactly_when_the_agents_observation_shows_it(played, seen):
    num_types = len(played.constants["BlockType"])
    rows, columns = constants_view(played.adapter.env_name)
    channels = {CLASSIC: num_types + 4, CRAFTAX: num_types + 5 + 40 + 1}[played.adapter.env_name]
    hidden = 0
    for observation, (state, features) in zip(played.observations, seen):
        cells = observation[: rows * columns * channels].reshape(rows, columns, channels)[:, :, :num_types]
        hidden += rows * columns - np.count_nonzero(cells)
        shown = cells.any(axis=(0, 1))
        np.testing.assert_array_equal(features.closest_blocks[:, 0, 0] != NOT_IN_VIEW, shown)
        for block in np.flatnonzero(shown):
            row, column = features.closest_blocks[block, :, 0]
            assert cells[row + rows // 2, column + columns // 2, block]
    # In Craftax the dark hides blocks: the test is worth something only where it did.
    assert (hidden > 0) == (played.adapter.env_name == CRAFTAX)


def test_inventory_intrinsics_floor_achievements_and_kills_are_the_states(played, seen):
    names = ["player_health", "player_food", "player_drink", "player_energy", "player_mana"]
    names = names[: 4 if played.adapter.env_name == CLASSIC else 5]
    for state, features in seen:
        for field in fields_of(features.inventory):
            np.testing.assert_array_equal(getattr(features.inventory, field), getattr(state.inventory, field))
        assert features.player_intrinsics.tolist() == [int(getattr(state, name)) for name in names]
        np.testing.assert_array_equal(features.achievements, state.achievements)
        if played.adapter.env_name == CRAFTAX:
            assert features.player_level == state.player_level
            np.testing.assert_array_equal(features.monsters_killed, state.monsters_killed)
        else:
            assert features.player_level == 0
            assert features.monsters_killed.shape == (0,)
    assert len({features.player_intrinsics[0] for _, features in seen}) > 3
    assert any(np.sum(state.inventory.wood) for state, _ in seen)


def test_what_a_step_offers_is_the_difference_of_two_states(played, steps):
    offered = jax.jit(task_inputs)
    lost = set()
    for (before, before_features), (after, after_features) in steps:
        inputs = jax.device_get(offered(before_features, after_features, 7))
        for field in fields_of(before.inventory):
            now, then = (np.int64(getattr(state.inventory, field)) for state in (after, before))
            np.testing.assert_array_equal(getattr(inputs.inventory, field), now)
            np.testing.assert_array_equal(getattr(inputs.inventory_diff, field), now - then)
        np.testing.assert_array_equal(inputs.closest_blocks, after_features.closest_blocks)
        np.testing.assert_array_equal(inputs.closest_blocks_prev, before_features.closest_blocks)
        np.testing.assert_array_equal(inputs.achievements, after.achievements)
        np.testing.assert_array_equal(inputs.achievements_diff, np.int8(after.achievements) > np.int8(before.achievements))
        names = ["player_health", "player_food", "player_drink", "player_energy", "player_mana"]
        names = names[: len(inputs.player_intrinsics)]
        now, then = ([int(getattr(state, name)) for name in names] for state in (after, before))
        assert inputs.player_intrinsics.tolist() == now
        assert inputs.player_intrinsics_diff.tolist() == [x - y for x, y in zip(now, then)]
        assert inputs.health_penalty == pytest.approx(-HEALTH_WEIGHT * max(then[0] - now[0], 0))
        lost.add(then[0] - now[0])
        if played.adapter.env_name == CRAFTAX:
            assert inputs.player_level == after.player_level
            assert inputs.player_level_diff == after.player_level - before.player_level
            np.testing.assert_array_equal(inputs.monsters_killed, after.monsters_killed)
            np.testing.assert_array_equal(inputs.monsters_killed_diff, after.monsters_killed - before.monsters_killed)
        assert inputs.n == 7
    assert min(lost) < 0 < max(lost), "health was both lost and won"


def test_every_feature_has_the_type_that_is_promised(played, seen):
    inputs = jax.device_get(jax.jit(task_inputs)(seen[0][1], seen[1][1], 3))
    assert set(TaskInputs._fields) == set(inputs._asdict())
    for name in ("achievements", "achievements_diff"):
        assert getattr(inputs, name).dtype == bool
    assert inputs.health_penalty.dtype == np.float32 and inputs.health_penalty.shape == ()
    whole = set(TaskInputs._fields) - {"achievements", "achievements_diff", "health_penalty"}
    for name in whole:
        for leaf in jax.tree.leaves(getattr(inputs, name)):
            assert leaf.dtype == np.int32, name


# Cases that random play does not reach by itself


def nearest(view, visible=None, num_types=5):
    view = jnp.asarray(view, jnp.int32)
    visible = jnp.ones(view.shape, bool) if visible is None else jnp.asarray(visible)
    return np.asarray(nearest_blocks(view, visible, num_types))[:, :, 0].tolist()


def test_of_equally_near_blocks_the_first_in_reading_order_counts():
    view = [[0, 2, 0], [2, 0, 2], [0, 2, 0]]
    assert nearest(view)[2] == [-1, 0]
    view = [[0, 0, 0], [2, 0, 2], [0, 2, 0]]
    assert nearest(view)[2] == [0, -1]
    view = [[1, 0, 1], [0, 0, 2], [1, 0, 1]]
    assert nearest(view)[1] == [-1, -1]


def test_distance_is_counted_in_steps():
    view = np.zeros((5, 7), int)
    view[0, 1], view[2, 6] = 4, 4  # 2 + 2 steps and 3 steps away; in a straight line the first would be nearer
    assert nearest(view)[4] == [0, 3]


def test_the_player_stands_on_a_block_too():
    assert nearest([[1, 1, 1], [1, 3, 1], [1, 1, 1]])[3] == [0, 0]


def test_what_is_not_visible_is_not_in_view():
    view = [[1, 0, 0], [0, 0, 0], [0, 0, 1]]
    visible = np.ones((3, 3), bool)
    visible[0, 0] = False
    assert nearest(view, visible)[1] == [1, 1]
    visible[2, 2] = False
    assert nearest(view, visible)[1] == [NOT_IN_VIEW, NOT_IN_VIEW]
    assert nearest(view, np.zeros((3, 3), bool)) == [[NOT_IN_VIEW, NOT_IN_VIEW]] * 5
