"""One Adam an expert: nothing about an expert's steps depends on any other expert."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from flowrl.training.networks import Params

GradientStep = optax.GradientTransformation

OptimiserState = Any
"""optax state with a first axis of ``K`` on every array."""


def make(max_grad_norm: float) -> GradientStep:
    """Clipping by the norm of *one expert's* gradient, then Adam's direction; the step size is applied by `step`."""
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.scale_by_adam(eps=1e-5))


def init(optimiser: GradientStep, stacked: Params) -> OptimiserState:
    """Fresh state for every expert of a stacked tree ``[K, ...]``."""
    return jax.vmap(optimiser.init)(stacked)


def step(
    optimiser: GradientStep,
    stacked: Params,
    state: OptimiserState,
    gradients: Params,
    num_samples: jax.Array,
    lr: jax.Array,
) -> tuple[Params, OptimiserState]:
    """Steps the experts that have samples; the others keep parameters and state, bit for bit.

    Args:
        stacked, state, gradients: ``[K, ...]``.
        num_samples: int32 ``[K]``, how many samples each gradient is the mean of.
        lr: learning rate, scalar.
    """

    def descend(expert):
        params, state, gradient = expert
        direction, state = optimiser.update(gradient, state, params)
        return jax.tree.map(lambda value, change: value - lr * change, params, direction), state

    def keep(expert):
        params, state, _ = expert
        return params, state

    def one_expert(_, expert):
        count, *rest = expert
        return None, jax.lax.cond(count > 0, descend, keep, tuple(rest))

    _, (stacked, state) = jax.lax.scan(one_expert, None, (num_samples, stacked, state, gradients))
    return stacked, state
