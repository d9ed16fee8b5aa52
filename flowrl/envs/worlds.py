"""A bank of ready worlds, so that a step never pays for generating one.

Generating a Craftax world costs as much as fifty steps, and a batched reset inside the step would pay
that for every environment at every step, ended or not. Here an episode that ends takes the next world
from a bank of worlds made beforehand; a few of the bank's worlds are made anew after every rollout.

The price is reuse: with ``size`` worlds and ``fresh`` new ones between two rollouts in which ``e``
episodes end, a world starts about ``e / fresh`` episodes before it is replaced. The bank is walked
through in order, so that every world is used equally often. Episodes that are *measured* never share a
world: see `training.evaluation`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flowrl.envs.adapter import GameAdapter
from flowrl.envs.features import Features
from flowrl.envs.observations import Observation


AT_ONCE = 8
"""Ended environments that are given their next worlds together."""


class Scene(NamedTuple):
    """Where each environment of a batch is: all that acting and judging need to know."""

    state: Any
    """The game's own states, ``[B, ...]``."""
    observation: Observation
    """``[B, ...]``."""
    features: Features
    """``[B, ...]``."""


class WorldBank(NamedTuple):
    """Ready worlds, walked through in order."""

    worlds: Scene
    """``[size, ...]``."""
    next_world: jax.Array
    """int32 scalar: the number of worlds handed out so far; the next one lies at this number modulo size."""

    @property
    def size(self) -> int:
        return len(self.worlds.observation.columns)


def generate(adapter: GameAdapter, keys: jax.Array) -> Scene:
    """Fresh worlds, one for each key of ``keys [N]``."""

    def one(key):
        _, state = adapter.reset(key)
        return Scene(state, adapter.observe(state), adapter.features(state))

    return jax.vmap(one)(keys)


def replace_worlds(bank: WorldBank, fresh: Scene, skip: jax.Array | int = 0) -> WorldBank:
    """Puts fresh worlds in the places of those that were handed out last; the ones next in line stay as they are.

    Args:
        bank: the worlds.
        fresh: ``[count, ...]``.
        skip: how many of those handed out last are left alone (they were replaced already).
    """
    size = bank.size
    count = len(fresh.observation.columns)
    places = (bank.next_world - 1 - skip - jnp.arange(count)) % size
    worlds = jax.tree.map(lambda old, new: old.at[places].set(new), bank.worlds, fresh)
    return bank._replace(worlds=worlds)


def renew(bank: WorldBank, scene: Scene, ended: jax.Array) -> tuple[WorldBank, Scene]:
    """Gives each ended environment the next world of the bank.

    Args:
        bank: the worlds.
        scene: ``[B, ...]``, where each environment is.
        ended: bool ``[B]``.
    """
    num_envs, size = len(ended), bank.size
    count = jnp.sum(ended, dtype=jnp.int32)
    rows = jnp.nonzero(ended, size=-(-num_envs // AT_ONCE) * AT_ONCE, fill_value=num_envs)[0]

    def swap(number, scene):
        first = number * AT_ONCE
        here = jax.lax.dynamic_slice_in_dim(rows, first, AT_ONCE)
        there = (bank.next_world + first + jnp.arange(AT_ONCE)) % size
        return jax.tree.map(lambda current, ready: current.at[here].set(ready[there], mode="drop"), scene, bank.worlds)

    # Only the places of ended environments are written: a batch of Craftax's states has 85 MB.
    renewed = jax.lax.fori_loop(0, -(-count // AT_ONCE), swap, scene)
    return bank._replace(next_world=bank.next_world + count), renewed
