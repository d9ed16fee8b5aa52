"""The Q-network: the value of a break in each cell, for areas of any size.

A U-Net (Ronneberger, Fischer and Brox 2015, https://arxiv.org/abs/1505.04597) of residual blocks: cells see their surroundings
at three scales, and a summary of the whole area joins them at the coarsest one. Dueling heads as in Wang et al. (2016,
https://arxiv.org/abs/1511.06581).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut: ``[B, H, W, width]`` to the same."""

    width: int

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        inner = nn.relu(nn.Conv(self.width, (3, 3))(features))
        return nn.relu(features + nn.Conv(self.width, (3, 3))(inner))


class QNetwork(nn.Module):
    """Action values of all cells.

    Attributes:
        width: channels at the finest scale; twice as many at the coarser ones.
    """

    width: int

    @nn.compact
    def __call__(self, observations: jax.Array, allowed: jax.Array) -> jax.Array:
        """
        Args:
            observations: float ``[B, C, H, W]``.
            allowed: bool ``[B, H * W]``, cells where a break may be placed.

        Returns:
            float ``[B, H * W]``; what stands in cells that are not allowed means nothing.
        """
        wide = 2 * self.width
        fine = ResidualBlock(self.width)(nn.relu(nn.Conv(self.width, (3, 3))(jnp.moveaxis(observations, 1, -1))))
        middle = ResidualBlock(wide)(nn.relu(nn.Conv(wide, (2, 2), (2, 2))(fine)))
        coarse = ResidualBlock(wide)(nn.relu(nn.Conv(wide, (2, 2), (2, 2))(middle)))
        coarse = ResidualBlock(wide)(nn.relu(coarse + nn.Dense(wide)(_summary(coarse))[:, None, None]))
        middle = ResidualBlock(wide)(_larger(coarse, middle))
        fine = ResidualBlock(self.width)(_larger(middle, fine))
        advantages = nn.Conv(1, (1, 1))(fine).reshape(observations.shape[0], -1)
        value = nn.Dense(1)(nn.relu(nn.Dense(wide)(_summary(coarse))))
        # Minus the mean over what is allowed: cells that cannot be chosen have no say in the value.
        mean = jnp.sum(advantages * allowed, axis=1, keepdims=True) / jnp.maximum(allowed.sum(axis=1, keepdims=True), 1)
        return value + advantages - mean


def untrained(network: QNetwork, seed: int, observation_shape: tuple[int, int, int]) -> Any:
    """Parameters of a network that has learned nothing: normal kernels whose variance is 1 / fan-in (LeCun et al. 1998), and no
    biases. Drawn in numpy: to compile Flax's own initialisation takes longer than to compile everything else.
    """
    channels, rows, columns = observation_shape
    shapes = jax.eval_shape(
        network.init, jax.random.key(0), jnp.zeros((1, channels, rows, columns)), jnp.ones((1, rows * columns), bool)
    )
    rng = np.random.default_rng(seed)

    def draw(shape: jax.ShapeDtypeStruct) -> jax.Array:
        if len(shape.shape) == 1:
            return jnp.zeros(shape.shape, shape.dtype)
        return jnp.asarray(rng.standard_normal(shape.shape) / np.sqrt(np.prod(shape.shape[:-1])), shape.dtype)

    return jax.tree.map(draw, shapes)


def _larger(features: jax.Array, finer: jax.Array) -> jax.Array:
    """Features at the scale of ``finer``, added to it. An odd number of rows was rounded up on the way down."""
    grown = nn.relu(nn.ConvTranspose(finer.shape[-1], (2, 2), (2, 2))(features))
    return finer + grown[:, : finer.shape[1], : finer.shape[2]]


def _summary(features: jax.Array) -> jax.Array:
    """The mean and the highest value of each channel: ``[B, 2 * channels]``."""
    return jnp.concatenate([features.mean(axis=(1, 2)), features.max(axis=(1, 2))], axis=-1)
