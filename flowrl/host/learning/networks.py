"""The networks of an agent: two small ones for vectors, IMPALA's residual network for images."""

from __future__ import annotations

from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flowrl.host.learning.actions import Choices, Continuous
from flowrl.host.learning.distributions import Outputs
from flowrl.host.learning.observations import Layout, Observation
from flowrl.training.learning.networks import Actor, Critic, Params

IMPALA_CHANNELS = (16, 32, 32)
IMPALA_FEATURES = 256


class Network(Protocol):
    """An agent's functions; its parameters live outside: nested dicts of arrays."""

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters."""

    def outputs(self, params: Params, observation: Observation) -> jax.Array:
        """Observations ``[N]`` to ``[N, num_outputs]``."""

    def outputs_and_value(self, params: Params, observation: Observation) -> tuple[Outputs, jax.Array]:
        """Observations ``[N]`` to outputs and expected returns ``[N]``."""


def network_for(layout: Layout, actions: Choices | Continuous, layer_size: int) -> Network:
    """The network for what an agent sees and decides."""
    if layout.image_shape:
        return ImageNetwork(layout, actions)
    return VectorNetwork(layout, actions, layer_size)


class VectorNetwork:
    """An actor and a critic that share nothing, those of `flowrl.training.learning.networks`."""

    def __init__(self, layout: Layout, actions: Choices | Continuous, layer_size: int):
        self._layout, self._actions = layout, actions
        self._actor = Actor(actions.num_outputs, layer_size)
        self._critic = Critic(layer_size)

    def init(self, key: jax.Array) -> Params:
        actor_key, critic_key = jax.random.split(key)
        blank = jnp.zeros((1, self._layout.vector_size))
        params = {
            "actor": self._actor.init(actor_key, blank)["params"],
            "critic": self._critic.init(critic_key, blank)["params"],
        }
        return params | _log_std(self._actions)

    def outputs(self, params: Params, observation: Observation) -> jax.Array:
        return self._actor.apply({"params": params["actor"]}, observation.vector)

    def outputs_and_value(self, params: Params, observation: Observation) -> tuple[Outputs, jax.Array]:
        value = self._critic.apply({"params": params["critic"]}, observation.vector)
        return Outputs(self.outputs(params, observation), params.get("log_std")), value


class ImageNetwork:
    """IMPALA's residual network, whose features actor and critic share."""

    def __init__(self, layout: Layout, actions: Choices | Continuous):
        self._layout, self._actions = layout, actions
        self._net = Impala(actions.num_outputs)

    def init(self, key: jax.Array) -> Params:
        return {"net": self._net.init(key, *self._layout.blank(1))["params"]} | _log_std(self._actions)

    def outputs(self, params: Params, observation: Observation) -> jax.Array:
        return self._net.apply({"params": params["net"]}, *observation)[0]

    def outputs_and_value(self, params: Params, observation: Observation) -> tuple[Outputs, jax.Array]:
        actor, value = self._net.apply({"params": params["net"]}, *observation)
        return Outputs(actor, params.get("log_std")), value


class Impala(nn.Module):
    """Images ``[N, H, W, C]`` and vectors ``[N, V]`` to actor outputs ``[N, num_outputs]`` and values ``[N]``.

    The deep network of IMPALA (Espeholt et al. 2018, https://arxiv.org/abs/1802.01561, figure 3, right), without its LSTM.
    Vectors join behind the convolutions, as the paper's last reward and action do.
    """

    num_outputs: int

    @nn.compact
    def __call__(self, vector: jax.Array, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = image.astype(jnp.float32) / 255
        for channels in IMPALA_CHANNELS:
            values = ResidualStage(channels)(values)
        values = nn.relu(values.reshape(len(values), -1))
        values = nn.relu(nn.Dense(IMPALA_FEATURES, kernel_init=nn.initializers.orthogonal(np.sqrt(2)))(values))
        values = jnp.concatenate([values, vector], axis=-1)
        actor = nn.Dense(self.num_outputs, kernel_init=nn.initializers.orthogonal(0.01))(values)
        return actor, nn.Dense(1, kernel_init=nn.initializers.orthogonal(1.0))(values)[..., 0]


class ResidualStage(nn.Module):
    """A convolution, a pooling that halves height and width, and two residual blocks."""

    channels: int

    @nn.compact
    def __call__(self, values: jax.Array) -> jax.Array:
        values = nn.Conv(self.channels, (3, 3))(values)
        values = nn.max_pool(values, (3, 3), (2, 2), "SAME")
        for _ in range(2):
            inner = nn.Conv(self.channels, (3, 3))(nn.relu(values))
            values += nn.Conv(self.channels, (3, 3))(nn.relu(inner))
        return values


def _log_std(actions: Choices | Continuous) -> dict[str, Any]:
    # One for each number, whatever the agent sees. Actions begin within the bounds for nine draws of ten: exp(-0.5) is 0.6.
    return {"log_std": jnp.full(actions.width, -0.5)} if isinstance(actions, Continuous) else {}
