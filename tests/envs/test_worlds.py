from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs import worlds
from flowrl.envs.adapter import GameAdapter
from flowrl.envs.observations import Layout, dense
from flowrl.envs.worlds import Scene, Turnover, WorldBank
from flowrl.training.run import updates

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


def test_ended_episodes_pay_for_fresh_worlds_and_the_rest_counts_next_time():
    turnover = Turnover(reuse=4, allowance=16, bank=16, at_once=2)
    assert [turnover.due(ended) for ended in (7, 0, 1, 3, 20, 5, 64)] == [0, 0, 2, 0, 4, 2, 16]


def test_at_most_the_allowance_is_replaced_at_a_time_and_the_rest_is_forgotten():
    turnover = Turnover(reuse=4, allowance=16, bank=16, at_once=2)
    assert [turnover.due(ended) for ended in (1000, 0, 1, 8)] == [16, 0, 2, 2]


def test_the_allowance_of_small_rollouts_is_saved_until_it_is_enough():
    turnover = Turnover(reuse=1, allowance=1.5, bank=8, at_once=4)
    assert [turnover.due(100) for _ in range(16)] == [0, 0, 4, 0, 0, 4, 0, 4] * 2  # 24 worlds for 16 rollouts
    for _ in range(20):
        assert turnover.due(0) == 0
    assert [turnover.due(100) for _ in range(4)] == [8, 0, 0, 4]  # at most one bank was saved


REUSE, AT_ONCE, NUM_ENVS, BANK = 4, 16, 32, 64
FALLS = {
    "at random, few": lambda rng, step: rng.random(NUM_ENVS) < 0.02,
    "at random, many": lambda rng, step: rng.random(NUM_ENVS) < 0.2,
    "in bursts": lambda rng, step: (rng.random(NUM_ENVS) < 0.9) & (step % 8 == 3) & (rng.random() < 0.5),
    "all at once, as where every episode runs out of steps": lambda rng, step: np.full(NUM_ENVS, step % 20 == 19),
    "as many in every rollout, a quarter of the bank": lambda rng, step: np.arange(NUM_ENVS) < (16 if step % 8 == 7 else 0),
    "one in every rollout": lambda rng, step: np.arange(NUM_ENVS) < (1 if step % 8 == 7 else 0),
}


@jax.jit
def play(bank, where, ends):
    """Steps with the ends of episodes ``[T, B]``; also the worlds' names ``[T, B]`` after each."""

    def step(carried, ended):
        bank, where = worlds.renew(*carried, ended)
        return (bank, where), where.state["steps"]

    (bank, where), names = jax.lax.scan(step, (bank, where), ends)
    return bank, where, names


def starts_of_worlds(ends, num_envs=NUM_ENVS, size=BANK, turnover=None, num_steps=8):
    """How often each world was started, by name in the order in which they were made, and the bank's last names."""
    rng, turnover = np.random.default_rng(5), turnover or Turnover(REUSE, size // 4, size, AT_ONCE)
    made, step = max(num_envs, size), 0
    # As `Programs.begin` has it: the bank's first worlds are those in which the environments start.
    current, where = WorldBank(scene(range(size)), jnp.int32(num_envs if num_envs <= size else 0)), scene(range(num_envs))
    starts = Counter(names_of(where))
    while made <= 6 * size:
        ended = np.stack([ends(rng, number) for number in range(step, step + num_steps)])
        step += num_steps
        current, where, names = play(current, where, ended)
        starts.update(np.asarray(names)[ended].tolist())
        assert names_of(where) == np.asarray(names)[-1].tolist()
        for _ in range(turnover.due(int(ended.sum())) // AT_ONCE):
            current = replace(current, scene(range(made, made + AT_ONCE)))
            made += AT_ONCE
    return np.array([starts[name] for name in range(made)]), names_of(current.worlds)


SIZES_OF_RUNS = [(64, 32), (256, 32), (1024, 64)]
"""Environments, and the steps of a rollout; the last is what a run has if nothing is said, and more than its bank's worlds."""


def ends_after(num_envs, episode_steps):
    """Episodes of this many steps, started one after the other."""
    return lambda rng, step: (step + np.arange(num_envs)) % episode_steps == episode_steps - 1


@pytest.mark.parametrize(("num_envs", "num_steps"), SIZES_OF_RUNS)
def test_a_runs_own_bank_keeps_to_the_reuse_that_is_stated(num_envs, num_steps):
    size, turnover = updates.bank_size(num_envs), updates.turnover(num_envs, num_steps)
    starts, there = starts_of_worlds(ends_after(num_envs, 160), num_envs, size, turnover, num_steps)
    assert starts[:num_envs].max() <= updates.WORLD_REUSE + 2 and starts[num_envs:].max() <= updates.WORLD_REUSE + 1
    later = np.setdiff1d(np.arange(max(num_envs, size), len(starts)), there)
    assert starts[later].mean() == pytest.approx(updates.WORLD_REUSE, abs=0.1)


@pytest.mark.parametrize(("num_envs", "num_steps"), SIZES_OF_RUNS)
@pytest.mark.parametrize("episode_steps", [4, 16, 32])
def test_each_world_starts_more_short_episodes_and_still_none_dominates(num_envs, num_steps, episode_steps):
    size, turnover = updates.bank_size(num_envs), updates.turnover(num_envs, num_steps)
    starts, there = starts_of_worlds(ends_after(num_envs, episode_steps), num_envs, size, turnover, num_steps)
    later = np.setdiff1d(np.arange(max(num_envs, size), len(starts)), there)
    expected = max(updates.WORLD_REUSE, updates.FRAMES_PER_WORLD / episode_steps)
    assert starts[later].mean() == pytest.approx(expected, rel=0.1)
    assert starts[later].max() <= 1.25 * starts[later].mean() + 1


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
    adapter = NumberedWorlds("Numbers")
    keys = jax.random.split(jax.random.key(4), 5)
    generated = worlds.generate(adapter, keys)
    assert names_of(generated) == [int(adapter.reset(key)[1]["steps"]) for key in keys]
    assert len(set(names_of(generated))) == 5
    np.testing.assert_array_equal(generated.observation.scalars, generated.state["map"].astype(jnp.float32))
