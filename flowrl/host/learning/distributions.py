"""How likely decisions are, in JAX: what `actions` draws in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.host.learning.actions import FORBIDDEN, Choices, Continuous
from flowrl.training.learning import losses


class Outputs(NamedTuple):
    """What a network says about the decisions of ``N`` steps."""

    actor: jax.Array
    """float32 ``[N, num_outputs]``: logits, or means."""
    log_std: jax.Array | None
    """float32 ``[D]``, for means."""


class Likelihood(NamedTuple):
    """Of each step's decision."""

    log_prob: jax.Array
    """float32 ``[N]``."""
    entropy: jax.Array
    """float32 ``[N]``, of its distribution, in nats."""


Judge = Callable[[Outputs, jax.Array, jax.Array], Likelihood]
"""``(outputs, decisions [N, D], masks [N, num_outputs] or [N, 0]) -> likelihood``."""


def likelihoods(actions: Choices | Continuous) -> Judge:
    """What judges decisions of this kind. Independent parts of a decision add up."""
    return _of_numbers if isinstance(actions, Continuous) else _of_choices(actions.counts)


def _of_choices(counts: tuple[int, ...]) -> Judge:
    ends = np.cumsum(counts)[:-1]

    def judge(outputs: Outputs, decisions: jax.Array, masks: jax.Array) -> Likelihood:
        logits = jnp.where(masks, outputs.actor, FORBIDDEN) if masks.shape[-1] else outputs.actor
        parts = jnp.split(logits, ends, axis=-1)
        log_probs = [losses.log_prob_of(part, decisions[:, place]) for place, part in enumerate(parts)]
        return Likelihood(sum(log_probs), sum(losses.entropy(part) for part in parts))

    return judge


def _of_numbers(outputs: Outputs, decisions: jax.Array, masks: jax.Array) -> Likelihood:
    log_prob = losses.gaussian_log_prob(outputs.actor, outputs.log_std, decisions)
    return Likelihood(log_prob, jnp.broadcast_to(losses.gaussian_entropy(outputs.log_std), log_prob.shape))
