"""What every game has to keep to; a new game passes this before it is registered."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs.registry import GAMES, game, make_adapter
from flowrl.errors import BadInput


def types(tree):
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.asarray(leaf).dtype, jax.typeof(leaf).weak_type), tree)


@pytest.fixture(scope="module")
def first_step(played):
    observation, state = played.reset(jax.random.key(0))
    return (observation, state), played.step(jax.random.key(1), state, jnp.int32(0))


def test_the_registered_facts_are_the_adapters(played):
    entry = GAMES[played.adapter.env_name]
    assert entry.env_name == played.adapter.env_name == entry.facts.env_name
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
    assert features.closest_blocks.shape == (len(facts.blocks), 2, 1)
    assert features.achievements.shape == (len(facts.achievements),)
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


def test_an_unknown_game_is_refused_with_the_choices():
    with pytest.raises(BadInput, match="Crafter-v1.*Craftax-Classic-Symbolic-v1"):
        game("Crafter-v1")
    with pytest.raises(BadInput):
        make_adapter("Crafter-v1")
