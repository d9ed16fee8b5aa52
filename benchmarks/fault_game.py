"""A game of one number, for real trainings that take seconds: an agent that chooses 1 mostly finds a piece of gold."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flowrl.envs.adapter import GameAdapter
from flowrl.envs.features import NOT_IN_VIEW, Features
from flowrl.envs.observations import Layout, dense

ENV_NAME = "Gold"
LUCK = 0.8


class Pouch(NamedTuple):
    """The inventory."""

    gold: jax.Array
    """int32."""


class GoldGame(GameAdapter):
    """Choosing 1 finds gold, four times out of five; choosing 0 never does. The agent sees what it has."""

    env_name = ENV_NAME
    num_actions = 2
    observation_size = 1
    layout = Layout(num_columns=0, num_fields=0, num_scalars=1)
    scope = {"jnp": jnp}

    def __init__(self, env_name: str):
        self.env_name = env_name

    @property
    def identity(self):
        return f"{ENV_NAME} {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}"

    def reset(self, key):
        pouch = Pouch(jnp.int32(0))
        return self._seen(pouch), pouch

    def step(self, key, state, action):
        found = action * jax.random.bernoulli(key, LUCK).astype(jnp.int32)
        pouch = Pouch(state.gold + found.astype(jnp.int32))
        return self._seen(pouch), pouch, jnp.bool_(False)

    def observe(self, state):
        return dense(self._seen(state))

    def features(self, state):
        return Features(
            inventory=state,
            closest_blocks=jnp.full((2, 2, 1), NOT_IN_VIEW, jnp.int32),
            player_level=jnp.int32(0),
            monsters_killed=jnp.zeros(0, jnp.int32),
            player_intrinsics=jnp.full(4, 9, jnp.int32),
            achievements=jnp.zeros(1, bool),
        )

    def _seen(self, pouch):
        return pouch.gold.astype(jnp.float32)[None] / 10
