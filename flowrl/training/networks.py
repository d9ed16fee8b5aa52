"""The two networks of an expert: an actor and a critic that share nothing."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Params = Any
"""``{"actor": {...}, "critic": {...}}``: nested dicts of arrays."""


class Torso(nn.Module):
    """Fully connected layers with tanh, orthogonally initialised."""

    layer_size: int
    num_layers: int = 2

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        hidden = observation
        for _ in range(self.num_layers):
            hidden = nn.tanh(nn.Dense(self.layer_size, kernel_init=nn.initializers.orthogonal(np.sqrt(2)))(hidden))
        return hidden


class Actor(nn.Module):
    """Observations ``[N, O]`` to logits ``[N, num_actions]``; nearly uniform at first."""

    num_actions: int
    layer_size: int

    def setup(self):
        self.torso = Torso(self.layer_size)
        self.head = nn.Dense(self.num_actions, kernel_init=nn.initializers.orthogonal(0.01))

    def __call__(self, observation: jax.Array) -> jax.Array:
        return self.head(self.torso(observation))


class Critic(nn.Module):
    """Observations ``[N, O]`` to values ``[N]``."""

    layer_size: int

    def setup(self):
        self.torso = Torso(self.layer_size)
        self.head = nn.Dense(1, kernel_init=nn.initializers.orthogonal(1.0))

    def __call__(self, observation: jax.Array) -> jax.Array:
        return self.head(self.torso(observation))[..., 0]


class ExpertNetwork:
    """An expert's functions; its parameters live outside, so that many experts share one instance."""

    def __init__(self, observation_size: int, num_actions: int, layer_size: int):
        self.observation_size = observation_size
        self.num_actions = num_actions
        self.layer_size = layer_size
        self._actor = Actor(num_actions, layer_size)
        self._critic = Critic(layer_size)

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters of one expert."""
        actor_key, critic_key = jax.random.split(key)
        blank = jnp.zeros((1, self.observation_size))
        return {
            "actor": self._actor.init(actor_key, blank)["params"],
            "critic": self._critic.init(critic_key, blank)["params"],
        }

    def logits(self, params: Params, observation: jax.Array) -> jax.Array:
        """``[N, O]`` to ``[N, num_actions]``."""
        return self._actor.apply({"params": params["actor"]}, observation)

    def value(self, params: Params, observation: jax.Array) -> jax.Array:
        """``[N, O]`` to ``[N]``."""
        return self._critic.apply({"params": params["critic"]}, observation)
