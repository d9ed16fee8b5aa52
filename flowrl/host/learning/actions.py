"""What an agent decides: choices, or numbers from a normal distribution. Drawn with numpy, where the environments are.

A network gives *outputs*, which say how likely each decision is. A *decision* ``[B, D]`` becomes an action of the
environments by `to_env`. `distributions` has the same probabilities in JAX, to learn from.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from gymnasium import spaces

FORBIDDEN = -1e9
"""The logit of an action that a mask forbids: finite, so that its share of an entropy is 0 and not NaN."""


class Actions(Protocol):
    """How outputs become actions.

    Attributes:
        num_outputs: numbers that a network gives for one decision.
        width: numbers of one decision, ``D``.
        dtype: of a decision.
    """

    num_outputs: int
    width: int
    dtype: type

    def draw(self, outputs: np.ndarray, masks: np.ndarray | None, log_std: np.ndarray | None, random: np.random.Generator):
        """A random decision ``[B, D]`` for each row of outputs ``[B, num_outputs]``.

        Args:
            masks: bool ``[B, num_outputs]``, the choices that are allowed; None for all.
            log_std: ``[D]``, logarithm of the standard deviation; None for choices.
        """

    def best(self, outputs: np.ndarray, masks: np.ndarray | None) -> np.ndarray:
        """The most likely decision ``[B, D]``."""

    def to_env(self, decisions: np.ndarray) -> np.ndarray:
        """Actions ``[B, *action_shape]``."""


class Choices:
    """One or several choices at a time: Discrete, MultiDiscrete and MultiBinary. A decision is int32, counted from 0.

    Attributes:
        counts: how many possibilities each choice has; their logits lie side by side.
    """

    dtype = np.int32

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        self.space = space
        if isinstance(space, spaces.Discrete):
            counts, self._start = [int(space.n)], int(space.start)
        elif isinstance(space, spaces.MultiDiscrete):
            counts, self._start = [int(count) for count in space.nvec.ravel()], space.start
        else:
            counts, self._start = [2] * int(np.prod(space.shape)), 0
        self.counts = tuple(counts)
        self.num_outputs = sum(counts)
        self.width = len(counts)
        self._ends = np.cumsum(counts)

    def draw(self, outputs, masks, log_std, random):
        # The largest of logits plus Gumbel noise is a draw from their distribution (Gumbel 1954).
        return self.best(_allowed(outputs, masks) + random.gumbel(size=outputs.shape), None)

    def best(self, outputs, masks):
        logits = _allowed(outputs, masks)
        if self.width == 1:
            return logits.argmax(axis=1)[:, None].astype(np.int32)
        parts = np.split(logits, self._ends[:-1], axis=1)
        return np.stack([part.argmax(axis=1) for part in parts], axis=1).astype(np.int32)

    def to_env(self, decisions):
        return decisions.reshape(len(decisions), *self.space.shape).astype(self.space.dtype) + self._start


class Continuous:
    """A Box of numbers. A decision is float32: -1 and 1 are the bounds where they are finite; what is beyond is cut off."""

    dtype = np.float32

    def __init__(self, space: spaces.Box):
        self.space = space
        self.width = self.num_outputs = int(np.prod(space.shape))
        bounded = np.isfinite(space.low) & np.isfinite(space.high)
        low, high = np.where(bounded, space.low, -1.0), np.where(bounded, space.high, 1.0)
        self._middle, self._half = (low + high) / 2, (high - low) / 2

    def draw(self, outputs, masks, log_std, random):
        return outputs + np.exp(log_std) * random.standard_normal(outputs.shape, dtype=np.float32)

    def best(self, outputs, masks):
        return outputs

    def to_env(self, decisions):
        actions = self._middle + self._half * decisions.reshape(len(decisions), *self.space.shape)
        return np.clip(actions, self.space.low, self.space.high).astype(self.space.dtype)


def actions_of(space: spaces.Space) -> Choices | Continuous:
    """The actions of a space that is stepped (see `flowrl.host.spaces.action_leaf`)."""
    return Continuous(space) if isinstance(space, spaces.Box) else Choices(space)


def _allowed(logits: np.ndarray, masks: np.ndarray | None) -> np.ndarray:
    return logits if masks is None else np.where(masks, logits, FORBIDDEN)
