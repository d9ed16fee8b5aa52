"""A bank of ready worlds, so that a step never pays for generating one.

Generating a world costs many times as much as a step, and a batched reset inside the step would pay
that for every environment at every step, ended or not. Here an episode that ends takes the next world
from a bank of worlds made beforehand; a few of the bank's worlds are replaced after every rollout.

The price is reuse. Two pointers walk through the bank in order: one hands worlds out, so that every world is used
equally often; the other replaces them, the oldest first, so that none is left behind, whenever episodes end. With one
fresh world for every ``reuse`` episodes that end, a world starts ``reuse`` episodes before it is replaced, and at most
``reuse + 1`` (``reuse + 2`` if it was among the first). This holds as long as no more episodes end in one rollout than
the bank has worlds, nor more than the budget for fresh worlds covers (`Turnover`). Episodes that are *measured* never
share a world: see `training.evaluation`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.adapter import GameAdapter
from flowrl.envs.features import Features
from flowrl.envs.observations import Observation

AT_ONCE = 8
"""The number of ended environments that get their next worlds together."""


class Scene(NamedTuple):
    """The state of each environment of a batch: all that acting and judging need."""

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
    """int32 scalar: the number of worlds handed out so far; the next one is at this number modulo size."""
    oldest: jax.Array | np.int32 = np.int32(0)
    """int32 scalar: the number of worlds replaced so far; the next to be replaced is at this number modulo size."""

    @property
    def size(self) -> int:
        return len(self.worlds.observation.columns)


def generate(adapter: GameAdapter, keys: jax.Array) -> Scene:
    """Fresh worlds, one for each key of ``keys [N]``."""

    def one(key):
        _, state = adapter.reset(key)
        return Scene(state, adapter.observe(state), adapter.features(state))

    return jax.vmap(one)(keys)


class Turnover:
    """How many fresh worlds a bank gets after each rollout: one for every ``reuse`` episodes that have ended."""

    def __init__(self, reuse: int, allowance: float, bank: int, at_once: int):
        """
        Args:
            reuse: the number of episodes that a world starts.
            allowance: the most worlds that a rollout may pay for. What one does not need is saved for later ones; ended
                episodes beyond the allowance are forgotten.
            bank: the most worlds that are replaced after a rollout, and the most that is saved.
            at_once: how many worlds are made together; both are saved until there are enough for that many.
        """
        self._reuse, self._allowance, self._bank, self._at_once = reuse, allowance, bank, at_once
        self._unpaid, self._allowed = 0, 0.0

    def due(self, num_ended: int) -> int:
        """The number of worlds to replace, a multiple of ``at_once``, after a rollout in which ``num_ended`` episodes ended."""
        self._unpaid += num_ended
        self._allowed = min(self._allowed + self._allowance, self._bank)
        count = int(min(self._unpaid // self._reuse, self._allowed)) // self._at_once * self._at_once
        self._allowed -= count
        self._unpaid = min(self._unpaid - count * self._reuse, self._reuse * self._at_once - 1)
        return count


def replace_worlds(bank: WorldBank, fresh: Scene) -> WorldBank:
    """Replaces the oldest worlds of the bank by fresh ones ``[count, ...]``."""
    count = len(fresh.observation.columns)
    places = (bank.oldest + jnp.arange(count)) % bank.size
    worlds = jax.tree.map(lambda old, new: old.at[places].set(new), bank.worlds, fresh)
    return bank._replace(worlds=worlds, oldest=bank.oldest + count)


def renew(bank: WorldBank, scene: Scene, ended: jax.Array) -> tuple[WorldBank, Scene]:
    """Gives each ended environment the next world of the bank.

    Args:
        bank: the worlds.
        scene: ``[B, ...]``, the state of each environment.
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

    # Only ended environments are written: a batch of states may have 85 MB.
    renewed = jax.lax.fori_loop(0, -(-count // AT_ONCE), swap, scene)
    return bank._replace(next_world=bank.next_world + count), renewed
