"""Compares small observations with the game's own, number by number, on states reached by random play.

    python benchmarks/observations.py --states 100000

Every world is played at random; in Craftax each one is put on another floor at the start, with light and dark ones
among them. Fails (exit code 1) at the first difference.
"""

from __future__ import annotations

import argparse
import sys

import jax
import jax.numpy as jnp

from flowrl.envs.registry import GAMES, make_adapter

BATCH = 256
STEPS_A_GAME = 100


def compare(env_name: str, num_states: int) -> tuple[int, int]:
    """How many states were compared, and how many numbers differed."""
    adapter = make_adapter(env_name)

    @jax.jit
    def begin(key):
        _, states = jax.vmap(adapter.reset)(jax.random.split(key, BATCH))
        return on_their_floors(states)

    @jax.jit
    def play(states, key):
        action_key, step_key = jax.random.split(key)
        actions = jax.random.randint(action_key, (BATCH,), 0, adapter.num_actions)
        expected, states, _ = jax.vmap(adapter.step)(jax.random.split(step_key, BATCH), states, actions)
        found = adapter.layout.expand(jax.vmap(adapter.observe)(states))
        return states, jnp.sum(found != expected)

    compared = differing = 0
    while compared < num_states:
        if compared % (BATCH * STEPS_A_GAME) == 0:
            states = begin(jax.random.key(compared))
        states, count = play(states, jax.random.fold_in(jax.random.key(1), compared))
        compared, differing = compared + BATCH, differing + int(count)
    return compared, differing


def on_their_floors(states):
    """Spreads worlds over the floors, where the game has floors."""
    if not hasattr(states, "up_ladders"):
        return states
    num_floors = states.up_ladders.shape[1]
    floor = jnp.arange(BATCH) % num_floors
    ladders = jnp.take_along_axis(states.up_ladders, floor[:, None, None], axis=1)[:, 0]
    position = jnp.where((floor > 0)[:, None], ladders, states.player_position).astype(states.player_position.dtype)
    return states.replace(player_level=floor.astype(states.player_level.dtype), player_position=position)


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
