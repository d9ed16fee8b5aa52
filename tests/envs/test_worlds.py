from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs.observations import Layout, dense
from flowrl.envs import worlds
from flowrl.envs.adapter import GameAdapter
from flowrl.envs.worlds import Scene, Turnover, WorldBank

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
replace = jax.jit(worlds.replace_worlds)


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


def test_fresh_worlds_take_the_places_of_the_oldest():
    after = worlds.replace_worlds(bank(5), scene([200, 201]))
    assert names_of(after.worlds) == [200, 201, 102, 103, 104, 105, 106, 107]
    again = worlds.replace_worlds(after, scene([202]))
    assert names_of(again.worlds) == [200, 201, 202, 103, 104, 105, 106, 107]
    assert (again.next_world, again.oldest) == (5, 3)


def test_places_go_round_the_end_of_the_bank():
    after = worlds.replace_worlds(bank()._replace(oldest=jnp.int32(2 * SIZE - 1)), scene([200, 201]))
    assert names_of(after.worlds) == [201, 101, 102, 103, 104, 105, 106, 200]


def test_fresh_worlds_are_paid_for_by_ended_episodes_and_what_is_left_over_counts_the_next_time():
    turnover = Turnover(reuse=4, most=16, at_once=2)
    assert [turnover.due(ended) for ended in (7, 0, 1, 3, 20, 5, 64)] == [0, 0, 2, 0, 4, 2, 16]


def test_no_more_than_was_said_are_made_anew_at_a_time_and_the_rest_is_forgotten():
    turnover = Turnover(reuse=4, most=16, at_once=2)
    assert [turnover.due(ended) for ended in (1000, 0, 1, 8)] == [16, 0, 2, 2]


REUSE, AT_ONCE, NUM_ENVS, BANK = 4, 16, 32, 64
FALLS = {
    "at random, few": lambda rng, step: rng.random(NUM_ENVS) < 0.02,
    "at random, many": lambda rng, step: rng.random(NUM_ENVS) < 0.2,
    "in bursts": lambda rng, step: (rng.random(NUM_ENVS) < 0.9) & (step % 8 == 3) & (rng.random() < 0.5),
    "all at once, as where every episode runs out of steps": lambda rng, step: np.full(NUM_ENVS, step % 20 == 19),
    "as many in every rollout, a quarter of the bank": lambda rng, step: np.arange(NUM_ENVS) < (16 if step % 8 == 7 else 0),
    "one in every rollout": lambda rng, step: np.arange(NUM_ENVS) < (1 if step % 8 == 7 else 0),
}


def starts_of_worlds(ends, num_steps=8, made_anew=6):
    """How often each world was started, by name in the order in which they were made, and the bank's last names."""
    rng, turnover = np.random.default_rng(5), Turnover(REUSE, BANK // 4, AT_ONCE)
    current = WorldBank(scene(range(BANK)), jnp.int32(NUM_ENVS))
    where, made, step = scene(range(NUM_ENVS)), BANK, 0
    starts = Counter(names_of(where))
    while made <= made_anew * BANK:
        num_ended = 0
        for step in range(step, step + num_steps):
            ended = ends(rng, step)
            if ended.any():
                current, where = renew(current, where, jnp.asarray(ended))
                starts.update(np.asarray(where.state["steps"])[ended].tolist())
                num_ended += int(ended.sum())
        step += 1
        for _ in range(turnover.due(num_ended) // AT_ONCE):
            current = replace(current, scene(range(made, made + AT_ONCE)))
            made += AT_ONCE
    return np.array([starts[name] for name in range(made)]), names_of(current.worlds)


@pytest.mark.parametrize("how", FALLS)
def test_every_world_starts_as_many_episodes_as_is_stated_and_none_dominates(how):
    starts, there = starts_of_worlds(FALLS[how])
    assert starts[:BANK].max() <= REUSE + 2 and starts[BANK:].max() <= REUSE + 1
    later = np.setdiff1d(np.arange(BANK, len(starts)), there)  # made and gone again
    assert len(later) >= 4 * BANK and starts[later].min() >= REUSE - 1
    assert starts[later].mean() == pytest.approx(REUSE, abs=0.1)
    assert starts.max() / starts.sum() <= 1.6 / len(starts)  # the most used world's share, against that of an even spread


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
