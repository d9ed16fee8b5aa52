from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.observations import Layout, dense
from flowrl.envs import worlds
from flowrl.envs.adapter import GameAdapter
from flowrl.envs.worlds import Scene, WorldBank

SIZE, ENVS = 8, 3


class Features(NamedTuple):
    """Stands for the features of a scene."""

    closest_blocks: jax.Array


def scene(names):
    """A scene in which every array carries the name (a number) of its world."""
    names = jnp.asarray(names)
    pair = jnp.stack([names, -names], axis=1)
    return Scene(state={"map": pair, "steps": names}, observation=dense(pair), features=Features(pair[:, :, None]))


def names_of(some_scene):
    """The worlds of a scene; each is whole, or this fails."""
    names = np.asarray(some_scene.state["steps"])
    jax.tree.map(np.testing.assert_array_equal, some_scene, scene(names))
    return names.tolist()


def bank(next_world=0):
    return WorldBank(scene(range(100, 100 + SIZE)), jnp.int32(next_world))


renew = jax.jit(worlds.renew)


def test_ended_environments_get_the_next_worlds_in_order_and_the_others_stay():
    after, renewed = renew(bank(), scene([1, 2, 3]), jnp.array([True, False, True]))
    assert names_of(renewed) == [100, 2, 101]
    after, renewed = renew(after, renewed, jnp.array([False, True, False]))
    assert names_of(renewed) == [100, 102, 101]
    assert after.next_world == 3
    assert names_of(after.worlds) == names_of(bank().worlds)


def test_without_an_end_nothing_changes():
    after, renewed = renew(bank(5), scene([1, 2, 3]), jnp.zeros(3, bool))
    assert names_of(renewed) == [1, 2, 3]
    assert after.next_world == 5


def test_the_bank_is_walked_through_again_and_again_so_that_every_world_is_used_equally_often():
    rng = np.random.default_rng(0)
    current, where, used = bank(), scene([0, 0, 0]), np.zeros(SIZE, int)
    handed_out = []
    while len(handed_out) < 20 * SIZE:
        ended = rng.random(ENVS) < 0.6
        current, where = renew(current, where, jnp.asarray(ended))
        given = np.array(names_of(where))[ended] - 100
        np.add.at(used, given, 1)
        handed_out += given.tolist()
    assert handed_out == [number % SIZE for number in range(len(handed_out))]
    assert used.max() - used.min() <= 1


def test_fresh_worlds_take_the_places_of_those_handed_out_last():
    after = worlds.replace_worlds(bank(5), scene([200, 201]))
    assert names_of(after.worlds) == [100, 101, 102, 201, 200, 105, 106, 107]
    assert after.next_world == 5


def test_further_fresh_worlds_take_the_places_before_those():
    after = worlds.replace_worlds(bank(5), scene([200, 201]), skip=2)
    assert names_of(after.worlds) == [100, 201, 200, 103, 104, 105, 106, 107]


def test_places_go_round_the_end_of_the_bank():
    after = worlds.replace_worlds(bank(SIZE + 1), scene([200, 201]))
    assert names_of(after.worlds) == [200, 101, 102, 103, 104, 105, 106, 201]


def test_fresh_worlds_wait_a_whole_round_before_they_are_played():
    current, where = renew(bank(), scene([1, 2, 3]), jnp.ones(3, bool))
    current = worlds.replace_worlds(current, scene([200, 201]))
    seen = []
    for _ in range(4):
        current, where = renew(current, where, jnp.array([True, True, False]))
        seen += names_of(where)[:2]
    assert seen == [103, 104, 105, 106, 107, 100, 201, 200]


class NumberedWorlds(GameAdapter):
    """A game whose worlds are random numbers."""

    layout = Layout(num_columns=0, num_fields=0, num_scalars=2)

    def observe(self, state):
        return dense(state["map"])

    def reset(self, key):
        name = jax.random.randint(key, (), 0, 2**30)
        return jnp.stack([name, -name]).astype(jnp.float32), {"map": jnp.stack([name, -name]), "steps": name}

    def step(self, key, state, action):
        raise AssertionError("nothing is played here")

    def features(self, state):
        return Features(state["map"][:, None])


def test_a_generated_world_is_the_one_that_the_game_makes_with_its_key():
    adapter = NumberedWorlds()
    keys = jax.random.split(jax.random.key(4), 5)
    generated = worlds.generate(adapter, keys)
    assert names_of(generated) == [int(adapter.reset(key)[1]["steps"]) for key in keys]
    assert len(set(names_of(generated))) == 5
    np.testing.assert_array_equal(generated.observation.scalars, generated.state["map"].astype(jnp.float32))
