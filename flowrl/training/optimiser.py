"""One Adam an expert: nothing about an expert's steps depends on any other expert."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flowrl.training.networks import Params

GradientStep = optax.GradientTransformation

OptimiserState = Any
"""optax state with a first axis of ``K`` on every array."""

B1, B2, EPS = 0.9, 0.999, 1e-5
"""Adam's constants (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980; the EPS of PPO's reference code)."""

COAST_AT_ONCE = 8
"""Steps without a gradient that one pass over the parameters makes."""


def make(max_grad_norm: float) -> GradientStep:
    """Clipping by the norm of *one expert's* gradient, then Adam's direction; the step size is applied by `step`."""
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.scale_by_adam(B1, B2, EPS))


def init(optimiser: GradientStep, stacked: Params) -> OptimiserState:
    """Fresh state for every expert of a stacked tree ``[K, ...]``."""
    return jax.vmap(optimiser.init)(stacked)


def step(
    optimiser: GradientStep, params: Params, state: OptimiserState, gradient: Params, lr: jax.Array
) -> tuple[Params, OptimiserState]:
    """One expert's step against its gradient; ``lr`` is the learning rate, scalar."""
    direction, state = optimiser.update(gradient, state, params)
    return jax.tree.map(lambda value, change: value - lr * change, params, direction), state


def num_steps(state: OptimiserState) -> jax.Array:
    """The steps that each expert's Adam has made, int32 ``[K]``."""
    return state[1].count


def coast(
    learner: tuple[Params, OptimiserState], steps: jax.Array, lr: jax.Array, chosen: Callable[[tuple[Any, ...]], bool]
) -> Any:
    """What Adam does to parameters whose gradient is 0 for some steps: it goes on, ever slower, where it was going.

    The same numbers as ``steps`` calls of `step` with a gradient of 0 (that no other gradient is clipped for), but
    many steps are made in one pass over the memory.

    Args:
        learner: parameters ``[K, ...]`` and their optimiser state, as any named tuple of the two.
        steps: int32 ``[K]``, how many steps each expert makes.
        lr: learning rate, scalar.
        chosen: whether a parameter coasts, by its path in the parameters; the others stay as they are.

    Returns:
        the learner, with chosen parameters and their moments moved on; no step is counted.
    """
    params, (clip, adam) = learner

    def move(path, value, mu, nu):
        return _coasted(value, mu, nu, adam.count, steps, lr) if chosen(path) else (value, mu, nu)

    moved = jax.tree_util.tree_map_with_path(move, params, adam.mu, adam.nu)
    params, mu, nu = jax.tree.transpose(jax.tree.structure(params), jax.tree.structure((0, 0, 0)), moved)
    return type(learner)(params, (clip, adam._replace(mu=mu, nu=nu)))


def _coasted(value: jax.Array, mu: jax.Array, nu: jax.Array, count: jax.Array, steps: jax.Array, lr: jax.Array):
    def spread(number):
        return number.reshape(-1, *[1] * (value.ndim - 1))

    def one(step, value, mu, nu):
        goes_on = spread(step <= steps)
        moved_mu, moved_nu = B1 * mu, B2 * nu
        ahead = (count + step).astype(value.dtype)
        direction = (moved_mu / spread(1 - B1**ahead)) / (jnp.sqrt(moved_nu / spread(1 - B2**ahead)) + EPS)
        moved = (value - lr * direction, moved_mu, moved_nu)
        return tuple(jnp.where(goes_on, new, old) for new, old in zip(moved, (value, mu, nu)))

    def several(number, state):
        for place in range(COAST_AT_ONCE):
            state = one(number * COAST_AT_ONCE + place + 1, *state)
        return state

    return jax.lax.fori_loop(0, -(-jnp.max(steps) // COAST_AT_ONCE), several, (value, mu, nu))
