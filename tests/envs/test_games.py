"""Both Craftax games: every feature against a plain NumPy computation on played states.

One file, since all of it shares two programs that take a minute to compile (``--dist loadfile`` gives a file to one
process). What every game has to keep to is in ``contract``.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs.craftax.adapter import NO_TIME_LIMIT
from flowrl.envs.craftax.facts import HEALTH_WEIGHT, NOT_IN_VIEW
from flowrl.envs.features import task_inputs
from flowrl.envs.observations import Observation
from flowrl.envs.registry import GAMES
from flowrl.training.learning import experts
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.one_hot import first_layer
from flowrl.training.playing.acting import make_act
from tests.envs.played import CLASSIC, CRAFTAX, creature_names, plain, played_game

LIGHT_ENOUGH = 0.05


@pytest.fixture(scope="module", params=[CLASSIC, CRAFTAX])
def played(request):
    """Each game in turn, with states reached by random play."""
    return played_game(request.param)


# The contract


def types(tree):
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.asarray(leaf).dtype, jax.typeof(leaf).weak_type), tree)


@pytest.fixture(scope="module")
def first_step(played):
    observation, state = played.reset(jax.random.key(0))
    return (observation, state), played.step(jax.random.key(1), state, jnp.int32(0))


def test_the_registered_facts_are_the_adapters(played):
    entry = GAMES[played.adapter.env_name]
    assert entry.env_name == played.adapter.env_name == entry.facts.env_name
    assert played.adapter.facts is entry.facts
    assert entry.observation_size == played.adapter.observation_size
    assert entry.num_actions == played.adapter.num_actions
    assert set(entry.facts.constants) <= set(played.adapter.scope)
    assert {"jax", "jnp"} <= set(played.adapter.scope)


def test_observations_are_numbers_of_the_promised_size(played, first_step):
    (at_start, _), (later, _, _) = first_step
    for observation in (at_start, later):
        assert (observation.shape, observation.dtype) == ((played.adapter.observation_size,), jnp.float32)
    for observation in played.observations:
        assert np.isfinite(observation).all()


@pytest.fixture(scope="module")
def small(played):
    """The small observations of all states."""
    observe = jax.jit(played.adapter.observe)
    return Observation(*map(np.stack, zip(*[jax.device_get(observe(state)) for state in played.states])))


def test_small_observations_expand_to_the_games_own_bit_for_bit(played, small):
    layout, stacked = played.adapter.layout, small
    assert layout.size == played.adapter.observation_size
    assert (stacked.columns.dtype, stacked.columns.shape[1]) == (np.uint16, layout.num_fields)
    found, expected, is_played = layout.expand(stacked), np.stack(played.observations), ~np.array(played.is_fresh)
    np.testing.assert_array_equal(found[is_played], expected[is_played])
    np.testing.assert_array_equal(found[:, : layout.num_columns], expected[:, : layout.num_columns])
    # The program that makes a world knows its first numbers beforehand, and rounds 9 / 10 better than a step does.
    np.testing.assert_array_max_ulp(np.asarray(found), expected, maxulp=1)
    assert stacked.columns.nbytes + stacked.scalars.nbytes < np.stack(played.observations).nbytes / 20
    for columns in stacked.columns:
        shown = columns[columns < layout.num_columns]
        assert len(set(shown.tolist())) == len(shown)  # counted once in a sum of rows


def test_experts_act_on_the_games_observation_as_their_plain_networks_would(played, small):
    """By sums of rows, block by block, against products of expanded observations."""
    network = ExpertNetwork(played.adapter.layout, played.adapter.num_actions, layer_size=8)
    shown = jax.tree.map(lambda leaf: leaf[:: len(leaf) // 60], small)
    init = jax.jit(network.init)
    params = experts.stack([jax.tree.map(lambda leaf: leaf + 0.05, init(jax.random.key(number))) for number in range(2)])
    expert = np.arange(len(shown.columns), dtype=np.int32) % 2
    typical = first_layer.typical_columns(shown.columns)
    found = jax.jit(make_act(network, 2))(params, shown, typical, expert, jax.random.key(5), 0)
    for number in range(2):
        own, mine = experts.select(params, number), jax.tree.map(lambda leaf: leaf[expert == number], (shown, found))
        log_probs = jax.nn.log_softmax(network.logits(own, mine[0]))
        np.testing.assert_allclose(mine[1].log_prob, log_probs[np.arange(len(log_probs)), mine[1].action], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(mine[1].value, network.value(own, mine[0]), rtol=1e-4, atol=1e-5)
    assert np.ptp(found.value) > 1e-3  # they see something


def test_a_fresh_state_and_a_played_one_have_the_same_types(first_step):
    (_, fresh), (_, played_state, _) = first_step
    assert types(fresh) == types(played_state)
    assert not any(leaf.weak_type for leaf in map(jax.typeof, jax.tree.leaves(fresh)))


def test_game_over_is_one_yes_or_no_and_dying_says_yes(played):
    _, state = played.reset(jax.random.key(0))
    _, _, alive = played.step(jax.random.key(1), state, jnp.int32(0))
    dead = state.replace(player_health=jnp.zeros_like(state.player_health))
    _, _, over = played.step(jax.random.key(1), dead, jnp.int32(0))
    assert (alive.shape, alive.dtype) == ((), bool)
    assert not alive and over


def test_a_game_is_never_over_for_want_of_time(played):
    _, state = played.reset(jax.random.key(0))
    old = state.replace(timestep=jnp.asarray(10_000_000, state.timestep.dtype))
    assert not played.step(jax.random.key(1), old, jnp.int32(0))[2]


def test_features_have_the_same_types_in_every_state(played, first_step):
    (_, fresh), (_, later, _) = first_step
    features = played.features(fresh)
    assert types(features) == types(played.features(later))
    facts = GAMES[played.adapter.env_name].facts
    assert features.closest_blocks.shape == (len(facts.members("near")), 2, 1)
    assert features.closest_creatures.shape == (len(facts.constants["CreatureType"]), 2, 1)
    assert features.facing.shape == features.light.shape == features.is_sleeping.shape == ()
    assert features.achievements.shape == (len(facts.members("achievement")),)
    assert features.player_intrinsics.shape in {(4,), (5,)}
    assert set(facts.stocks) | set(facts.possessions) == {
        name for name in features.inventory.__dataclass_fields__ if np.ndim(getattr(features.inventory, name)) <= 1
    }


def test_worlds_follow_from_their_keys(played):
    first, again, other = (played.reset(jax.random.key(number)) for number in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    assert np.any(np.asarray(first[1].map) != np.asarray(other[1].map))


def test_actions_move_the_player(played):
    _, state = played.reset(jax.random.key(0))
    directions = {
        int(played.step(jax.random.key(1), state, jnp.int32(action))[1].player_direction)
        for action in range(played.adapter.num_actions)
    }
    assert len(directions) >= 4


# Features


@pytest.fixture(scope="module")
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
        "is_sleeping": jnp.asarray(rng.random() < 0.5),
    }
    if hasattr(state, "monsters_killed"):
        fields["monsters_killed"] = random_numbers(state.monsters_killed)
    return state.replace(**fields)


@pytest.fixture(scope="module")
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
    # In Craftax the dark hides blocks: the test only shows something if it did.
    assert (hidden > 0) == (played.adapter.env_name == CRAFTAX)


@pytest.fixture(scope="module")
def hunted(played):
    """Observations, states and features (as numpy) where creatures are about: as they were met in play."""
    return [(seen, plain(state), jax.device_get(played.features(state))) for seen, state in played.hunted()]


@pytest.fixture(scope="module")
def surrounded(played):
    """Pairs of a state and its features (as numpy): creatures of all types, dead ones too, are put around the player."""
    rng = np.random.default_rng(2)
    states = [with_creatures_around(state, played.adapter.env_name, rng) for state in played.states[::3]]
    return [(plain(state), jax.device_get(played.features(state))) for state in states]


def with_creatures_around(state, env_name, rng):
    fields = {}
    what_the_player_shot = {"player_projectiles": [None] * 8} if env_name == CRAFTAX else {}
    for field, names in (creature_names(env_name) | what_the_player_shot).items():
        mobs = getattr(state, field)
        places = np.asarray(state.player_position) + rng.integers(-7, 8, mobs.position.shape)
        changed = {"position": places, "mask": rng.random(mobs.mask.shape) < 0.7}
        if env_name == CRAFTAX:
            changed["type_id"] = rng.integers(0, len(names), mobs.mask.shape)
        typed = {name: jnp.asarray(value, getattr(mobs, name).dtype) for name, value in changed.items()}
        fields[field] = mobs.replace(**typed)
    return state.replace(**fields)


def plain_creatures(state, env_name):
    """Name, row and column offset, and whether it can be seen, of each living creature around the player."""
    rows, columns = constants_view(env_name)
    for field, names in creature_names(env_name).items():
        mobs = getattr(state, field)
        if env_name == CRAFTAX:
            mobs = jax.tree.map(lambda leaf: leaf[state.player_level], mobs)
        for number in np.flatnonzero(mobs.mask):
            row, column = mobs.position[number] - state.player_position
            if abs(row) <= rows // 2 and abs(column) <= columns // 2:
                name = names[mobs.type_id[number] if env_name == CRAFTAX else 0]
                yield name, int(row), int(column), env_name == CLASSIC or is_lit(state, mobs.position[number])


def is_lit(state, place):
    light = state.light_map[state.player_level]
    return all(0 <= at < size for at, size in zip(place, light.shape)) and light[tuple(place)] > LIGHT_ENOUGH


def plain_nearest_creatures(state, constants, env_name):
    """The nearest of each type; of equals, the first in reading order."""
    found = np.full((len(constants["CreatureType"]), 2, 1), NOT_IN_VIEW)
    in_view = [
        (abs(row) + abs(column), row, column, name) for name, row, column, shown in plain_creatures(state, env_name) if shown
    ]
    for _, row, column, name in sorted(in_view, reverse=True):
        found[constants["CreatureType"][name].value, :, 0] = row, column
    return found


def test_nearest_creatures_are_those_that_a_loop_over_the_mobs_finds(played, seen, hunted, surrounded):
    env_name = played.adapter.env_name
    for state, features in [*seen, *((state, features) for _, state, features in hunted), *surrounded]:
        expected = plain_nearest_creatures(state, played.constants, env_name)
        np.testing.assert_array_equal(features.closest_creatures, expected)
    in_view = {number for number, (_, _, features) in enumerate(hunted) if (features.closest_creatures != NOT_IN_VIEW).any()}
    assert len(in_view) >= 100, "creatures were really met"
    assert len(kinds_in_view(features for _, _, features in hunted)) >= (2 if env_name == CLASSIC else 8)


def test_creatures_of_every_type_are_found_and_those_that_are_dead_or_in_the_dark_are_not(played, surrounded):
    env_name, num_types = played.adapter.env_name, len(played.constants["CreatureType"])
    assert kinds_in_view(features for _, features in surrounded) == set(range(num_types))
    around = [creature for state, _ in surrounded for creature in plain_creatures(state, env_name)]
    assert any(not shown for *_, shown in around) == (env_name == CRAFTAX)


def kinds_in_view(all_features):
    return {
        int(kind) for features in all_features for kind in np.flatnonzero(features.closest_creatures[:, 0, 0] != NOT_IN_VIEW)
    }


def test_a_creature_is_in_view_when_the_agents_observation_shows_it_or_the_game_has_drawn_over_it(played, hunted):
    env_name, constants = played.adapter.env_name, played.constants
    rows, columns = constants_view(env_name)
    num_channels, first = {CLASSIC: (17 + 4, 17), CRAFTAX: (37 + 5 + 40 + 1, 37 + 5)}[env_name]
    drawn = {CLASSIC: ["zombies", "cows", "skeletons", "arrows"],
             CRAFTAX: ["melee_mobs", "passive_mobs", "ranged_mobs", "mob_projectiles"]}[env_name]  # fmt: skip
    num_shown, num_drawn_over = 0, 0
    for observation, state, features in hunted:
        cells = observation[: rows * columns * num_channels].reshape(rows, columns, num_channels)
        for place, field in enumerate(drawn):
            for type_id, name in enumerate(creature_names(env_name)[field]):
                shown = cells[:, :, first + place * (1 if env_name == CLASSIC else 8) + type_id]
                row, column = features.closest_creatures[constants["CreatureType"][name].value, :, 0]
                if row == NOT_IN_VIEW:
                    assert not shown.any(), name
                elif shown[row + rows // 2, column + columns // 2]:
                    num_shown += 1
                else:
                    assert is_drawn_over(state, field, (row, column), env_name), name
                    num_drawn_over += 1
                nearest = np.abs(np.argwhere(shown) - (rows // 2, columns // 2)).sum(axis=1).min(initial=2 * NOT_IN_VIEW)
                assert nearest >= abs(row) + abs(column), name
    assert num_shown >= 100 and num_drawn_over < num_shown / 20


def is_drawn_over(state, field, offset, env_name):
    """Whether the game writes a 0 where it has written a 1: for a dead creature, or one out of view (see `creature_cells`)."""
    mobs, view = getattr(state, field), np.array(constants_view(env_name))
    if env_name == CRAFTAX:
        mobs = jax.tree.map(lambda leaf: leaf[state.player_level], mobs)
    local = mobs.position - state.player_position + view // 2
    in_view = ((local >= 0) & (local < view)).all(axis=1)
    same = (np.where(local < 0, local + view, local) == np.array(offset) + view // 2).all(axis=1)
    return (same & ~(in_view & mobs.mask)).any()


TOWARDS = {1: (0, -1), 2: (0, 1), 3: (-1, 0), 4: (1, 0)}
"""Row and column of a step in each direction: left, right, up, down."""


def test_what_is_faced_the_light_and_sleep_are_the_states(played, seen, hunted):
    faced, light, sleep = set(), set(), set()
    for state, features in [*seen, *((state, features) for _, state, features in hunted)]:
        blocks = state.map if played.adapter.env_name == CLASSIC else state.map[state.player_level]
        place = tuple(state.player_position + TOWARDS[int(state.player_direction)])
        inside = all(0 <= at < size for at, size in zip(place, blocks.shape))
        expected = blocks[place] if inside else played.constants["BlockType"].OUT_OF_BOUNDS.value
        assert (features.facing, features.light, features.is_sleeping) == (expected, state.light_level, state.is_sleeping)
        faced.add(played.constants["BlockType"](int(features.facing)).name)
        light.add(float(features.light))
        sleep.add(bool(features.is_sleeping))
    assert {"OUT_OF_BOUNDS", "GRASS", "WATER", "TREE", "STONE"} <= faced
    assert 0 <= min(light) < 0.2 and 0.9 < max(light) <= 1
    assert sleep == {True, False}


def test_the_ways_in_are_those_that_a_search_finds(played, seen, hunted):
    found = set()
    for state, features in [*seen, *((state, features) for _, state, features in hunted)]:
        expected = plain_ways_in(state, played.adapter.env_name, played.constants["BlockType"])
        assert features.ways_in == expected
        found.add(expected)
    assert min(found) < 10 and max(found) >= 30


def plain_ways_in(state, env_name, blocks):
    """Breadth-first over the cells in view, from the player's, by the names of what cannot be walked on."""
    grid = state.map if env_name == CLASSIC else state.map[state.player_level]
    rows, columns = constants_view(env_name)
    walkable = {blocks[name].value for name in WALKABLE if name in blocks.__members__}
    start = tuple(int(at) for at in state.player_position)
    steps = {start: 0}
    queue = [start]
    for cell in queue:
        for row, column in TOWARDS.values():
            place = cell[0] + row, cell[1] + column
            is_in_view = abs(place[0] - start[0]) <= rows // 2 and abs(place[1] - start[1]) <= columns // 2
            inside = all(0 <= at < size for at, size in zip(place, grid.shape))
            if steps[cell] < 4 and is_in_view and inside and place not in steps and int(grid[place]) in walkable:
                steps[place] = steps[cell] + 1
                queue.append(place)
    return len(steps) - 1


WALKABLE = """GRASS SAND PATH WOOD INVALID DARKNESS FIRE_GRASS ICE_GRASS GRAVEL ICE_SHRUB NECROMANCER_VULNERABLE""".split()
"""What neither game counts as solid, but for water, lava and the edge of the map."""


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
            assert not hasattr(features, "monsters_killed")
    assert len({features.player_intrinsics[0] for _, features in seen}) > 3
    assert any(np.sum(state.inventory.wood) for state, _ in seen)


def test_a_steps_inputs_are_the_difference_of_two_states(played, steps):
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
        np.testing.assert_array_equal(inputs.closest_creatures, after_features.closest_creatures)
        np.testing.assert_array_equal(inputs.closest_creatures_prev, before_features.closest_creatures)
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
    assert inputs._fields == played.adapter.facts.feature_names
    for name in ("achievements", "achievements_diff", "is_sleeping"):
        assert getattr(inputs, name).dtype == bool
    for name in ("health_penalty", "light", "light_diff"):
        assert getattr(inputs, name).dtype == np.float32 and getattr(inputs, name).shape == ()
    whole = set(inputs._fields) - {
        "achievements", "achievements_diff", "is_sleeping", "health_penalty", "light", "light_diff",
    }  # fmt: skip
    for name in whole:
        for leaf in jax.tree.leaves(getattr(inputs, name)):
            assert leaf.dtype == np.int32, name


# Draws


def test_a_game_plays_on_as_it_would_with_jaxs_own_draws():
    """States after a step, with and without the quick draw, from the same states with the same keys.

    In one game: a second program of the other would take another minute to compile.
    """
    classic = played_game(CLASSIC)
    env = classic.adapter._env
    params = env.default_params.replace(max_timesteps=NO_TIME_LIMIT)
    plain_step = jax.jit(lambda key, state, action: env.step_env(key, state, action, params)[1])
    same = []
    for number, state in enumerate(classic.states):
        key, action = jax.random.key(number), jnp.int32(number % classic.adapter.num_actions)
        ours, theirs = plain(classic.step(key, state, action)[1]), plain(plain_step(key, state, action))
        same.append(all(jax.tree.leaves(jax.tree.map(np.array_equal, ours, theirs))))
    assert np.mean(same) > 0.99
