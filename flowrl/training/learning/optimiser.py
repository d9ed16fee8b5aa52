"""One Adam per expert: an expert's steps do not depend on any other expert."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flowrl.training.learning.networks import Params

GradientStep = optax.GradientTransformation

OptimiserState = Any
"""optax state with a first axis of ``K`` on every array."""

B1, B2, EPS = 0.9, 0.999, 1e-5
"""Adam's constants (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980; the EPS of PPO's reference code)."""

COAST_AT_ONCE = 8
"""Steps without a gradient that one pass over the parameters makes."""

COAST_ROWS = 64
"""Rows that coast together in one block."""


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
    """The steps that an expert's Adam has made, int32 scalar; ``[K]`` for stacked experts."""
    return state[1].count


def coast(
    params: Params, state: OptimiserState, steps: jax.Array, lr: jax.Array, rows: Callable[[tuple[Any, ...]], jax.Array | None]
) -> tuple[Params, OptimiserState]:
    """Adam for an expert's rows whose gradient is 0 for some steps: they keep moving in the same direction, ever more
    slowly.

    Gives the same numbers as ``steps`` calls of `step` with a gradient of 0 (and no clipping), but makes many steps in
    one pass over memory, and skips rows that never moved.

    Args:
        steps: int32 scalar.
        lr: learning rate, scalar.
        rows: for each parameter's path, which of its rows coast, bool ``[rows]``; None for no rows.

    Returns:
        parameters and state, with those rows and their moments advanced; no step is counted.
    """
    clip, adam = state

    def move(path, value, mu, nu):
        chosen = rows(path)
        return (value, mu, nu) if chosen is None else _coasted(value, mu, nu, chosen, adam.count, steps, lr)

    moved = jax.tree_util.tree_map_with_path(move, params, adam.mu, adam.nu)
    params, mu, nu = jax.tree.transpose(jax.tree.structure(params), jax.tree.structure((0, 0, 0)), moved)
    return params, (clip, adam._replace(mu=mu, nu=nu))


def _coasted(value, mu, nu, chosen, count, steps, lr):
    """``value``, ``mu``, ``nu [rows, ...]`` after ``steps``; works on some rows at a time."""
    moving = chosen & jnp.any(((mu != 0) | (nu != 0)).reshape(len(mu), -1), axis=1)
    order = jnp.argsort(~moving, stable=True)
    num_moving = jnp.sum(moving)

    def one(step, rows):
        value, mu, nu = rows
        ahead = (count + step).astype(value.dtype)
        moved_mu, moved_nu = B1 * mu, B2 * nu
        direction = (moved_mu / (1 - B1**ahead)) / (jnp.sqrt(moved_nu / (1 - B2**ahead)) + EPS)
        moved = (value - lr * direction, moved_mu, moved_nu)
        return tuple(jnp.where(step <= steps, new, old) for new, old in zip(moved, rows))

    def several(number, rows):
        for place in range(COAST_AT_ONCE):
            rows = one(number * COAST_AT_ONCE + place + 1, rows)
        return rows

    def some_rows(number, leaves):
        places = number * COAST_ROWS + jnp.arange(COAST_ROWS)
        at = jnp.where(places < num_moving, order.at[places].get(mode="clip"), len(value))
        rows = tuple(leaf.at[at].get(mode="clip") for leaf in leaves)
        rows = jax.lax.fori_loop(0, -(-steps // COAST_AT_ONCE), several, rows)
        return tuple(leaf.at[at].set(new, mode="drop") for leaf, new in zip(leaves, rows))

    return jax.lax.fori_loop(0, -(-num_moving // COAST_ROWS), some_rows, (value, mu, nu))
