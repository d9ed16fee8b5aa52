"""Compares small observations with the game's own, number by number, on states reached by random play.

    python benchmarks/observations.py --states 100000

Every world is played at random, half of them with a randomly filled inventory, and restarts when its game is over; in
Craftax each one is put on another floor at the start, with light and dark ones among them. The game makes its
observation as a part of its step; the small one is made from the state in a separate program, as in a training. Fails
(exit code 1) if any number differs.
"""

from __future__ import annotations

import argparse
import sys

import jax
import jax.numpy as jnp

from flowrl.envs.registry import GAMES, make_adapter

BATCH = 256
STEPS_A_GAME = 400
"""Steps until all worlds are replaced: a day has 300."""


def compare(env_name: str, num_states: int) -> tuple[int, int]:
    """How many states were compared, and how many numbers differed."""
    adapter = make_adapter(env_name)

    @jax.jit
    def begin(key):
        _, states = jax.vmap(adapter.reset)(jax.random.split(key, BATCH))
        return with_full_pockets(on_their_floors(states), key)

    @jax.jit
    def play(states, first, key):
        action_key, step_key = jax.random.split(key)
        actions = jax.random.randint(action_key, (BATCH,), 0, adapter.num_actions)
        expected, states, over = jax.vmap(adapter.step)(jax.random.split(step_key, BATCH), states, actions)
        goes_on = jax.tree.map(lambda old, new: jnp.where(over.reshape(-1, *[1] * (new.ndim - 1)), old, new), first, states)
        return goes_on, states, expected

    observe = jax.jit(jax.vmap(adapter.observe))

    @jax.jit
    def different(small, expected):
        return jnp.sum(adapter.layout.expand(small) != expected)

    compared = differing = 0
    while compared < num_states:
        if compared % (BATCH * STEPS_A_GAME) == 0:
            states = first = begin(jax.random.key(compared))
        states, reached, expected = play(states, first, jax.random.fold_in(jax.random.key(1), compared))
        compared, differing = compared + BATCH, differing + int(different(observe(reached), expected))
    return compared, differing


def on_their_floors(states):
    """Spreads worlds over the floors, if the game has floors."""
    if not hasattr(states, "up_ladders"):
        return states
    num_floors = states.up_ladders.shape[1]
    floor = jnp.arange(BATCH) % num_floors
    ladders = jnp.take_along_axis(states.up_ladders, floor[:, None, None], axis=1)[:, 0]
    position = jnp.where((floor > 0)[:, None], ladders, states.player_position).astype(states.player_position.dtype)
    return states.replace(player_level=floor.astype(states.player_level.dtype), player_position=position)


def with_full_pockets(states, key):
    """Gives every second player up to nine of each thing, or as many as a slot holds."""

    def filled(leaf):
        most = 1 if leaf.dtype == bool else 9
        amounts = jax.random.randint(jax.random.fold_in(key, leaf.size), leaf.shape, 0, most + 1).astype(leaf.dtype)
        return jnp.where((jnp.arange(BATCH) % 2 == 0).reshape(-1, *[1] * (leaf.ndim - 1)), leaf, amounts)

    return states.replace(inventory=jax.tree.map(filled, states.inventory))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--states", type=int, default=100_000, help="states of each game")
    parser.add_argument("--env_name", choices=list(GAMES), action="append", help="default: every game")
    arguments = parser.parse_args()
    wrong = 0
    for env_name in arguments.env_name or GAMES:
        compared, differing = compare(env_name, arguments.states)
        print(f"{env_name}: {compared:,} states, {differing:,} numbers differ", flush=True)
        wrong += differing
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
