"""The two networks of an expert: an actor and a critic that share nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.observations import Layout, Observation
from flowrl.training.learning import products

Params = Any
"""``{"actor": {...}, "critic": {...}}``: nested dicts of arrays."""


class Torso(nn.Module):
    """Two fully connected layers with tanh, orthogonally initialised."""

    layer_size: int
    dot_general: Callable = jax.lax.dot_general

    def setup(self):
        def layer():
            return nn.Dense(self.layer_size, kernel_init=nn.initializers.orthogonal(np.sqrt(2)), dot_general=self.dot_general)

        # The names that a compact module would give them; parameters on disk use them.
        self.Dense_0 = layer()
        self.Dense_1 = layer()

    def __call__(self, values: jax.Array) -> jax.Array:
        return self.after_first(self.Dense_0(values))

    def after_first(self, first: jax.Array) -> jax.Array:
        """The layers after the first layer's product, ``[N, layer_size]``."""
        return nn.tanh(self.Dense_1(nn.tanh(first)))


class Actor(nn.Module):
    """Values ``[N, O]`` to logits ``[N, num_actions]``; nearly uniform at first."""

    num_actions: int
    layer_size: int
    dot_general: Callable = jax.lax.dot_general

    def setup(self):
        self.torso = Torso(self.layer_size, self.dot_general)
        self.head = nn.Dense(self.num_actions, kernel_init=nn.initializers.orthogonal(0.01), dot_general=self.dot_general)

    def __call__(self, values: jax.Array) -> jax.Array:
        return self.head(self.torso(values))

    def after_first(self, first: jax.Array) -> jax.Array:
        return self.head(self.torso.after_first(first))


class Critic(nn.Module):
    """Values ``[N, O]`` to expected returns ``[N]``."""

    layer_size: int
    dot_general: Callable = jax.lax.dot_general

    def setup(self):
        self.torso = Torso(self.layer_size, self.dot_general)
        self.head = nn.Dense(1, kernel_init=nn.initializers.orthogonal(1.0), dot_general=self.dot_general)

    def __call__(self, values: jax.Array) -> jax.Array:
        return self.head(self.torso(values))[..., 0]

    def after_first(self, first: jax.Array) -> jax.Array:
        return self.head(self.torso.after_first(first))[..., 0]


class ExpertNetwork:
    """An expert's functions; its parameters live outside, so that many experts share one instance."""

    def __init__(self, layout: Layout, num_actions: int, layer_size: int, mixed_precision: bool = False):
        """
        Args:
            mixed_precision: whether its matrix products are those of `products.mixed`.
        """
        self.layout = layout
        self.num_actions = num_actions
        self.layer_size = layer_size
        self.mixed_precision = mixed_precision
        self.product = products.mixed if mixed_precision else jnp.matmul
        dot_general = products.mixed_dot_general if mixed_precision else jax.lax.dot_general
        self._actor = Actor(num_actions, layer_size, dot_general)
        self._critic = Critic(layer_size, dot_general)

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters of one expert."""
        actor_key, critic_key = jax.random.split(key)
        blank = jnp.zeros((1, self.layout.size))
        return {
            "actor": self._actor.init(actor_key, blank)["params"],
            "critic": self._critic.init(critic_key, blank)["params"],
        }

    def logits(self, params: Params, observation: Observation) -> jax.Array:
        """Observations ``[N]`` to ``[N, num_actions]``."""
        return self._actor.apply({"params": params["actor"]}, self.layout.expand(observation))

    def value(self, params: Params, observation: Observation) -> jax.Array:
        """Observations ``[N]`` to ``[N]``."""
        return self._critic.apply({"params": params["critic"]}, self.layout.expand(observation))

    def logits_and_value(self, params: Params, observation: Observation) -> tuple[jax.Array, jax.Array]:
        """`logits` and `value`."""
        return self.logits(params, observation), self.value(params, observation)

    def logits_after_first(self, params: Params, first: jax.Array) -> jax.Array:
        """The first layer's outputs before their tanh, ``[N, layer_size]``, to ``[N, num_actions]``."""
        return self._actor.apply({"params": params["actor"]}, first, method=Actor.after_first)

    def value_after_first(self, params: Params, first: jax.Array) -> jax.Array:
        """The first layer's outputs before their tanh, ``[N, layer_size]``, to ``[N]``."""
        return self._critic.apply({"params": params["critic"]}, first, method=Critic.after_first)
