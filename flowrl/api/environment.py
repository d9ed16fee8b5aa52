"""Environments with gymnax's signature: ``reset(key, params)`` and ``step(key, state, action, params)``, pure and jittable.

Both are for a single environment; ``jax.vmap`` makes a batch of it. `step` begins the next episode by itself. `reset_env` and
`step_env` do not, for code that resets in its own way: in a batch, `step` has to generate a world for every environment at
every step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from craftax.environment_base import spaces

from flowrl.envs.adapter import GameAdapter

Info = dict[str, jax.Array]


class Environment(ABC):
    """An environment in a game. Its ``info`` always has ``terminated``, ``truncated`` and ``final_observation``: what the step
    led to, before the next episode began."""

    def __init__(self, adapter: GameAdapter):
        self.adapter = adapter

    @property
    @abstractmethod
    def name(self) -> str:
        """The environment's name."""

    @property
    @abstractmethod
    def default_params(self) -> Any:
        """What `step` and `reset` take where no ``params`` are given."""

    @property
    def num_actions(self) -> int:
        """Actions are 0 to this, exclusive."""
        return self.adapter.num_actions

    def action_space(self, params: Any = None) -> spaces.Discrete:
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: Any = None) -> spaces.Box:
        return spaces.Box(-jnp.inf, jnp.inf, (self.adapter.observation_size,), jnp.float32)

    @abstractmethod
    def reset_env(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        """A new episode: observation float32 ``[observation size]``, and state."""

    @abstractmethod
    def step_env(
        self, key: jax.Array, state: Any, action: jax.Array, params: Any
    ) -> tuple[jax.Array, Any, jax.Array, jax.Array, Info]:
        """As `step`, but an episode that is over stays where it ended."""

    @partial(jax.jit, static_argnums=0)
    def reset(self, key: jax.Array, params: Any = None) -> tuple[jax.Array, Any]:
        """A new episode: observation float32 ``[observation size]``, and state."""
        return self.reset_env(key, self._given(params))

    @partial(jax.jit, static_argnums=0)
    def step(
        self, key: jax.Array, state: Any, action: jax.Array, params: Any = None
    ) -> tuple[jax.Array, Any, jax.Array, jax.Array, Info]:
        """One step.

        Returns:
            observation, state, reward (float32), done (bool) and info. Where done, observation and state are those of the next
            episode's start.
        """
        params = self._given(params)
        step_key, reset_key = jax.random.split(key)
        observation, state, reward, done, info = self.step_env(step_key, state, action, params)
        observation, state = jax.lax.cond(done, lambda: self.reset_env(reset_key, params), lambda: (observation, state))
        return observation, state, reward, done, info

    def _given(self, params: Any) -> Any:
        return self.default_params if params is None else params
