"""A game of one number, for real trainings that take seconds: an agent that chooses 1 mostly finds a piece of gold."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flowrl.envs.adapter import GameAdapter
from flowrl.envs.observations import Layout, dense
from flowrl.envs.registry import GAMES, GameEntry
from flowrl.skills.facts import Feature, GameFacts, OverStep

ENV_NAME = "Gold"
LUCK = 0.8
FACTS = GameFacts(
    env_name=ENV_NAME,
    features=(Feature("inventory", "what is held: gold", over_step=OverStep.CHANGE, step_meaning="its change over the step"),),
    stocks={"gold": 1_000_000},
)
ENTRY = GameEntry(FACTS, f"{__name__}:GoldGame", "none", observation_size=1, num_actions=2)


def register() -> None:
    """Registers the game in this process."""
    GAMES[ENV_NAME] = ENTRY


class Pouch(NamedTuple):
    """The inventory."""

    gold: jax.Array
    """int32."""


class GoldGame(GameAdapter):
    """Choosing 1 finds gold, four times out of five; choosing 0 never does. The agent sees what it has."""

    facts = FACTS
    num_actions = 2
    observation_size = 1
    layout = Layout(num_columns=0, num_fields=0, num_scalars=1)
    scope = {"jnp": jnp}

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
        return self.features_type(inventory=state)

    def _seen(self, pouch):
        return pouch.gold.astype(jnp.float32)[None] / 10
