"""The acting agent: what it decides for a batch of observations."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from flowrl.host.learning.networks import Network, VectorNetwork
from flowrl.host.learning.numpy_policy import NumpyPolicy, Policy
from flowrl.host.learning.observations import Observation
from flowrl.training.learning.networks import Params


class JaxPolicy:
    """One call of a compiled program for each step of a batch."""

    def __init__(self, program: Any, params: Params):
        self._program, self._params = program, params
        self.log_std = None if params.get("log_std") is None else np.asarray(params["log_std"])

    def outputs(self, observation: Observation) -> np.ndarray:
        return np.asarray(self._program(self._params, observation))


class Policies:
    """Makes the policy of a network's parameters: numpy for vectors, JAX for images."""

    def __init__(self, network: Network):
        self._in_numpy = isinstance(network, VectorNetwork)
        self._program = jax.jit(network.outputs)

    def of(self, params: Params) -> Policy:
        if self._in_numpy:
            wanted = {name: part for name, part in params.items() if name != "critic"}
            return NumpyPolicy(jax.device_get(wanted))
        return JaxPolicy(self._program, params)
