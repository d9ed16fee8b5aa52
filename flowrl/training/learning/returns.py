"""Advantages: how much better a step turned out than the critic expected.

`generalized_advantages` is for steps of the policy that learns, `vtrace` for those of another one. Both are sums of
`temporal_differences` in `decaying_sums`; with ratios of 1 they are the same numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


def following_values(
    values: jax.Array, last_values: jax.Array, continues: jax.Array, truncation_values: jax.Array
) -> jax.Array:
    """What the acting expert may still expect after each step, ``V(s_{t+1})``.

    Args:
        values: float ``[T, B]``, each step's value by the expert that acted.
        last_values: float ``[B]``, the values after the last step, by the experts that would act there.
        continues: bool ``[T, B]``, the same task of the same episode is active after the step.
        truncation_values: float ``[T, B]``, the acting expert's value of the state in which a step budget
            ran out, 0 elsewhere: the world could have gone on, so its value is bootstrapped.

    Returns:
        float ``[T, B]``: the next step's value where the task continues, the truncation value where it was
        cut short, 0 where the task was completed or the agent died.
    """
    next_values = jnp.concatenate([values[1:], last_values[None]])
    return jnp.where(continues, next_values, truncation_values)


def generalized_advantages(
    rewards: jax.Array,
    values: jax.Array,
    next_values: jax.Array,
    continues: jax.Array,
    gamma: float | jax.Array,
    gae_lambda: float | jax.Array,
) -> jax.Array:
    """Generalised advantage estimation, cut wherever a task ends.

    ``delta_t = r_t + gamma V(s_{t+1}) - V(s_t)``,
    ``A_t = delta_t + gamma lambda c_t A_{t+1}`` with ``c_t = 1`` where the task continues, else 0
    (Schulman et al. 2016, https://arxiv.org/abs/1506.02438, equation 16).

    Args:
        rewards, values, next_values: float ``[T, B]``; ``next_values`` from :func:`following_values`.
        continues: bool ``[T, B]``.
        gamma, gae_lambda: scalars in [0, 1].

    Returns:
        float ``[T, B]``.
    """
    assert rewards.shape == values.shape == next_values.shape == continues.shape
    deltas = temporal_differences(rewards, values, next_values, gamma)
    return decaying_sums(deltas, gamma * gae_lambda * continues)


class VTrace(NamedTuple):
    """What steps of another policy say about ours; float ``[T, B]``."""

    targets: jax.Array
    """``v_s``, what the critic should say of each step."""
    advantages: jax.Array
    """``q_s - V(x_s)``, how much better the step turned out; not yet weighted with the step's own ratio."""


def vtrace(
    rewards: jax.Array,
    values: jax.Array,
    next_values: jax.Array,
    continues: jax.Array,
    ratios: jax.Array,
    gamma: float | jax.Array,
    vtrace_lambda: float | jax.Array,
    max_ratio: float | jax.Array = 1.0,
) -> VTrace:
    """V-trace: values and advantages of the policy that learns, from the steps of the policy that acted.

    ``v_s = V(x_s) + a_s`` with ``a_s = rho_s delta_s + gamma c_s a_{s+1}``, ``rho_s = min(max_ratio, ratio_s)`` and
    ``c_s = lambda min(1, ratio_s)`` where the episode continues, else 0 (Espeholt et al. 2018,
    https://arxiv.org/abs/1802.01561, equation 1 as in remark 1, with the lambda of remark 2).

    The advantages are ``r_s + gamma (V(x_{s+1}) + lambda a_{s+1}) - V(x_s)``: the paper's ``r_s + gamma v_{s+1} - V(x_s)``
    (section 4.2) where ``lambda`` is 1, and those of `generalized_advantages` where all ratios are 1.

    Args:
        rewards, values, next_values: float ``[T, B]``; ``next_values`` from :func:`following_values`.
        continues: bool ``[T, B]``.
        ratios: float ``[T, B]``, how likely the action is now, over how likely it was for the policy that took it.
        gamma, vtrace_lambda: scalars in [0, 1].
        max_ratio: ``rho``-bar, scalar of at least 1.
    """
    assert rewards.shape == values.shape == next_values.shape == continues.shape == ratios.shape
    deltas = temporal_differences(rewards, values, next_values, gamma)
    decays = gamma * vtrace_lambda * continues
    corrections = decaying_sums(jnp.minimum(max_ratio, ratios) * deltas, decays * jnp.minimum(1.0, ratios))
    later = jnp.concatenate([corrections[1:], jnp.zeros_like(corrections[:1])])  # what follows the last step is its value
    return VTrace(values + corrections, deltas + decays * later)


def temporal_differences(rewards: jax.Array, values: jax.Array, next_values: jax.Array, gamma: float | jax.Array) -> jax.Array:
    """``delta_t = r_t + gamma V(s_{t+1}) - V(s_t)``; all arrays ``[T, B]``."""
    return rewards + gamma * next_values - values


def decaying_sums(deltas: jax.Array, decays: jax.Array) -> jax.Array:
    """``A_t = delta_t + decay_t A_{t+1}`` with ``A_T = 0``; all arrays ``[T, B]``."""

    def backwards(total, step):
        delta, decay = step
        total = delta + decay * total
        return total, total

    _, sums = jax.lax.scan(backwards, jnp.zeros_like(deltas[0]), (deltas, decays), reverse=True)
    return sums
