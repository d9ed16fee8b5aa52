"""IMPALA and APPO: what is learned from trajectories of policies that are a few updates old."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flowrl.host.learning.distributions import Judge, Outputs
from flowrl.host.learning.networks import Network
from flowrl.host.learning.observations import Observation
from flowrl.host.learning.ppo import Algorithm, Hyperparameters, Samples, in_rows, judged_steps
from flowrl.training.learning import losses, returns
from flowrl.training.learning.networks import Params

MAX_RATIO = 1.0
"""``rho``-bar of V-trace, as in the paper."""


class ActedSteps(NamedTuple):
    """``T`` steps of ``B`` environments that policies took which need not be ours. The fields of `ppo.Rollout`, and two."""

    observation: Observation
    last_observation: Observation
    decision: Any
    masks: Any
    reward: Any
    continues: Any
    truncation_value: Any
    outputs: Any
    """float32 ``[T, B, num_outputs]``, what the policy said that acted."""
    log_std: Any
    """float32 ``[T, B, D]``, logarithm of its standard deviation, for actions that are numbers; ``[T, B, 0]`` for choices."""


def make_samples(network: Network, judge: Judge, params: Params, steps: ActedSteps, hyper: Hyperparameters) -> Samples:
    """The steps with what V-trace makes of them; `Samples.log_prob` is the acting policy's."""
    flat, log_prob, value, following = judged_steps(network, judge, params, steps, hyper.num_minibatches)
    outputs, log_std = in_rows((steps.outputs, steps.log_std))
    acting_log_prob = judge(Outputs(outputs, log_std if log_std.shape[-1] else None), *flat[1:]).log_prob
    traced = returns.vtrace(
        steps.reward,
        value.reshape(following.shape),
        following,
        steps.continues,
        jnp.exp(log_prob - acting_log_prob).reshape(following.shape),
        hyper.gamma,
        hyper.gae_lambda,
        MAX_RATIO,
    )
    return Samples(*flat, acting_log_prob, value, traced.advantages.reshape(-1), traced.targets.reshape(-1))


def _weighted(log_prob: jax.Array, acting_log_prob: jax.Array, advantage: jax.Array, _: float) -> jax.Array:
    return losses.weighted_policy_loss(log_prob, acting_log_prob, advantage, MAX_RATIO)


IMPALA = Algorithm(make_samples, _weighted)
"""The policy gradient with V-trace (Espeholt et al. 2018, https://arxiv.org/abs/1802.01561). Unlike there, advantages are
normalised, as in PPO."""

APPO = Algorithm(make_samples, losses.clipped_policy_loss)
"""PPO's clipped loss, around the policy that acted, with V-trace for values and advantages (Luo et al. 2020,
https://arxiv.org/abs/1912.00167, without its target network). Without lag it is PPO."""
