"""Advantages: how much better a step turned out than the critic expected."""

from __future__ import annotations

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
    deltas = rewards + gamma * next_values - values
    decays = gamma * gae_lambda * continues

    def backwards(advantage, step):
        delta, decay = step
        advantage = delta + decay * advantage
        return advantage, advantage

    _, advantages = jax.lax.scan(backwards, jnp.zeros_like(deltas[0]), (deltas, decays), reverse=True)
    return advantages
