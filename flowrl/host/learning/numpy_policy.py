"""The acting agent without JAX. For a few rows, numpy takes a fraction of what one call of a JAX program costs."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from flowrl.host.learning.observations import Observation


class Policy(Protocol):
    """Outputs of the actor with fixed parameters.

    Attributes:
        log_std: ``[D]``, logarithm of the standard deviation of actions that are numbers; None for choices.
    """

    log_std: np.ndarray | None

    def outputs(self, observation: Observation) -> np.ndarray:
        """Observations ``[B]`` to ``[B, num_outputs]``."""


class NumpyPolicy:
    """The actor for vectors. Computes what `flowrl.training.learning.networks.Actor` does, from the same parameters.

    Attributes:
        log_std: ``[D]``, logarithm of the standard deviation of actions that are numbers; None for choices.
    """

    def __init__(self, params: Any):
        """
        Args:
            params: nested dicts of numpy arrays, with ``actor`` and perhaps ``log_std``.
        """
        actor = params["actor"]
        layers = actor["torso"]["Dense_0"], actor["torso"]["Dense_1"], actor["head"]
        self._first, self._second, self._head = [(np.asarray(part["kernel"]), np.asarray(part["bias"])) for part in layers]
        self.log_std = None if params.get("log_std") is None else np.asarray(params["log_std"])

    def outputs(self, observation: Observation) -> np.ndarray:
        """Observations ``[B]`` to ``[B, num_outputs]``."""
        values = observation.vector
        for kernel, bias in (self._first, self._second):
            values = np.tanh(values @ kernel + bias)
        kernel, bias = self._head
        return values @ kernel + bias
