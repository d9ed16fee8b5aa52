"""The world's functions: they make worlds, step the game, and give ended episodes new worlds. The same for every skill."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs import worlds
from flowrl.envs.adapter import GameAdapter
from flowrl.envs.worlds import Scene, WorldBank
from flowrl.training.compiled.stored_programs import Compile, Program
from flowrl.training.one_hot import first_layer

WORLDS_AT_ONCE = 16
"""Worlds that one call of the generator makes."""


class Decision(NamedTuple):
    """What was chosen, by experts or at random, ``[B]`` each."""

    action: jax.Array
    log_prob: jax.Array
    value: jax.Array


@dataclass(frozen=True)
class World:
    """The functions of a game for a batch of environments."""

    num_envs: int
    generate: Program
    """``(key, number) -> Scene``: `WORLDS_AT_ONCE` fresh worlds."""
    step: Program
    """``(state, action, key, number) -> state, observation, features, game_over``; the states are donated."""
    renew: Program
    """``(bank, state, observation, features, ended) -> next_world, Scene``; the states are donated."""
    typical: Program
    """``columns [B, F] -> [F]``: what most environments show."""
    act_at_random: Program
    """``(key, number) -> Decision``."""
    replace_worlds: Program
    """``(bank, fresh) -> bank``: replaces the oldest worlds; the bank is donated."""
    first_worlds: Program
    """Copies of the first worlds of many, one for each environment."""
    some_worlds: Callable[[int], Program]
    """Returns copies of that many of the first worlds."""
    room_for: Callable[[int], Program]
    """Returns room for that many worlds like those given."""

    def fresh(self, key: jax.Array, count: int) -> Scene:
        """At least ``count`` fresh worlds, made some at a time so that little memory is held at once."""
        num_calls = -(-count // WORLDS_AT_ONCE)
        first = self.generate(key, 0)
        bank = WorldBank(self.room_for(num_calls * WORLDS_AT_ONCE)(first), np.int32(0))
        for number in range(num_calls):
            bank = self.replace_worlds(bank, self.generate(key, number) if number else first)
        return bank.worlds

    def refreshed(self, bank: WorldBank, key: jax.Array, count: int) -> WorldBank:
        """The bank with at least ``count`` of its oldest worlds replaced by fresh ones; ``bank`` is donated."""
        for number in range(-(-count // WORLDS_AT_ONCE)):
            bank = self.replace_worlds(bank, self.generate(key, number))
        return bank


def build_world(adapter: GameAdapter, num_envs: int, compiled: Compile) -> World:
    """
    Args:
        compiled: compiles a function, or leaves it plain to be part of a larger program.
    """
    return World(
        num_envs=num_envs,
        generate=compiled("generate", make_generate(adapter)),
        # States are large and updated in place: a step donates those it gets.
        step=compiled("step", make_step(adapter, num_envs), donate_argnums=(0,)),
        renew=compiled("renew", renew_state, donate_argnums=(1,)),
        typical=compiled("typical", first_layer.typical_columns),
        act_at_random=compiled("act at random", make_random_act(adapter.num_actions, num_envs), num_envs),
        replace_worlds=compiled("replace worlds", worlds.replace_worlds, donate_argnums=(0,)),
        first_worlds=compiled("first worlds", make_first(num_envs), num_envs),
        some_worlds=functools.cache(lambda count: compiled(f"{count} worlds", make_first(count))),
        room_for=functools.cache(lambda count: compiled(f"room for {count}", make_room_for(count))),
    )


def make_generate(adapter: GameAdapter):
    """Fresh worlds, some at a time."""

    def generate(key, number):
        return worlds.generate(adapter, jax.random.split(jax.random.fold_in(key, number), WORLDS_AT_ONCE))

    return generate


def make_first(count: int):
    """Copies of the first worlds of many."""
    return lambda scene: jax.tree.map(lambda leaf: jnp.copy(leaf[:count]), scene)


def make_room_for(count: int):
    """The requested number of empty worlds, like those given."""

    def room(scene):
        return jax.tree.map(lambda leaf: jnp.tile(leaf, (count // len(leaf), *[1] * (leaf.ndim - 1))), scene)

    return room


def make_step(adapter: GameAdapter, num_envs: int):
    """The game and its features, one step of ``B`` environments."""

    def step(state, action, key, number):
        keys = jax.random.split(jax.random.fold_in(key, number), num_envs)
        _, state, game_over = jax.vmap(adapter.step)(keys, state, action)
        return state, jax.vmap(adapter.observe)(state), jax.vmap(adapter.features)(state), game_over

    return step


def renew_state(bank: WorldBank, state, observation, features, ended):
    """`worlds.renew` with the large states as a separate argument, to be changed in place."""
    bank, scene = worlds.renew(bank, Scene(state, observation, features), ended)
    return bank.next_world, scene


def make_random_act(num_actions: int, num_envs: int):
    """Uniformly random actions."""

    def act_at_random(key, number):
        action = jax.random.randint(jax.random.fold_in(key, number), (num_envs,), 0, num_actions)
        return Decision(action, jnp.full(num_envs, -jnp.log(num_actions)), jnp.zeros(num_envs))

    return act_at_random
