"""The losses that PPO minimises, one number per sample; the caller averages them.

Schulman et al. 2017, https://arxiv.org/abs/1707.06347; the value clipping is that of its reference code.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp


def clipped_policy_loss(log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, clip_eps: float) -> jax.Array:
    """``-min(rho A, clip(rho, 1 - eps, 1 + eps) A)`` with ``rho = exp(log_prob - old_log_prob)`` (equation 7).

    All arrays ``[N]``; returns ``[N]``.
    """
    ratio = jnp.exp(log_prob - old_log_prob)
    clipped = jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps)
    return larger(-ratio * advantage, -clipped * advantage)


def weighted_policy_loss(log_prob: jax.Array, acting_log_prob: jax.Array, advantage: jax.Array, max_ratio: float) -> jax.Array:
    """``-min(max_ratio, rho) A log_prob`` with ``rho = exp(log_prob - acting_log_prob)`` held constant: the policy gradient
    from steps of another policy (Espeholt et al. 2018, https://arxiv.org/abs/1802.01561, section 4.2).

    All arrays ``[N]``; returns ``[N]``.
    """
    weight = jnp.minimum(max_ratio, jnp.exp(log_prob - acting_log_prob))
    return -jax.lax.stop_gradient(weight * advantage) * log_prob


def clipped_value_loss(value: jax.Array, old_value: jax.Array, target: jax.Array, clip_eps: float) -> jax.Array:
    """``1/2 max((V - G)^2, (V_clip - G)^2)``, where ``V_clip`` stays within ``eps`` of the old value.

    All arrays ``[N]``; returns ``[N]``.
    """
    clipped = old_value + jnp.clip(value - old_value, -clip_eps, clip_eps)
    return 0.5 * larger(jnp.square(value - target), jnp.square(clipped - target))


def entropy(logits: jax.Array) -> jax.Array:
    """Entropy of the categorical distributions with these logits ``[N, A]``, in nats; returns ``[N]``."""
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


def log_prob_of(logits: jax.Array, action: jax.Array) -> jax.Array:
    """Log probability of the actions ``[N]`` under logits ``[N, A]``; returns ``[N]``."""
    chosen = action[:, None] == jnp.arange(logits.shape[-1])
    return jnp.sum(jnp.where(chosen, jax.nn.log_softmax(logits), 0.0), axis=-1)


def gaussian_log_prob(mean: jax.Array, log_std: jax.Array, value: jax.Array) -> jax.Array:
    """Log density of values ``[N, D]`` under independent normal distributions with means ``[N, D]`` and standard deviations
    ``exp(log_std)``, ``[D]``; returns ``[N]``."""
    scaled = (value - mean) * jnp.exp(-log_std)
    return -0.5 * jnp.sum(jnp.square(scaled) + 2 * log_std + math.log(2 * math.pi), axis=-1)


def gaussian_entropy(log_std: jax.Array) -> jax.Array:
    """Differential entropy of independent normal distributions, ``sum_d (log_std_d + 1/2 log(2 pi e))``, ``[..., D]``, in
    nats; returns ``[...]``."""
    return jnp.sum(log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)


def approximate_kl(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
    """``(rho - 1) - log rho``: unbiased and never negative (http://joschu.net/blog/kl-approx.html), ``[N]``."""
    log_ratio = log_prob - old_log_prob
    return jnp.expm1(log_ratio) - log_ratio


def larger(one: jax.Array, other: jax.Array) -> jax.Array:
    """``jnp.maximum``, but for equal values the first gets all of the gradient, which needs fewer kernels."""
    return jnp.where(one >= other, one, other)
