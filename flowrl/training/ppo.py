"""PPO over a mixture of experts.

`update` is the algorithm: advantages, then epochs of minibatches, each expert learning from its own
samples only (loss mean, advantage normalisation, gradient clip and Adam are per expert).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from flowrl.envs.observations import Observation
from flowrl.training import experts, losses, optimiser, returns
from flowrl.training.networks import ExpertNetwork, Params


SMALLEST_BLOCK, LARGEST_BLOCK = 128, 1024


class Hyperparameters(NamedTuple):
    """What shapes an update; static, so a change compiles another program."""

    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_eps: float = 0.2
    ent_coef: float = 0.01
    vf_coef: float = 0.5
    max_grad_norm: float = 1.0
    update_epochs: int = 4
    num_minibatches: int = 8
    block_size: int | None = None
    """Samples of one expert that are computed together; None for `learning_block_size`."""


class Transition(NamedTuple):
    """One step of every environment, ``[B, ...]``; a rollout stacks ``T`` of them."""

    observation: Observation
    """``[B, ...]``, small until the network expands it."""
    action: jax.Array
    """int32 ``[B]``."""
    log_prob: jax.Array
    """float32 ``[B]``, of the action when it was chosen."""
    value: jax.Array
    """float32 ``[B]``, by the acting expert."""
    expert: jax.Array
    """int32 ``[B]``, the local index of the expert that acted."""
    reward: jax.Array
    """float32 ``[B]``."""
    continues: jax.Array
    """bool ``[B]``: the same task of the same episode is active after the step."""
    truncation_value: jax.Array
    """float32 ``[B]``: the acting expert's value where a step budget ran out, else 0."""


class Samples(NamedTuple):
    """What a minibatch is drawn from, ``[N, ...]`` with ``N = T B``."""

    observation: Observation
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    expert: jax.Array
    advantage: jax.Array
    target: jax.Array


class Learner(NamedTuple):
    """What learning changes; a first axis of ``K`` experts everywhere."""

    params: Params
    optimiser_state: optimiser.OptimiserState


class Statistics(NamedTuple):
    """Means over each expert's samples, float32 ``[K]``; 0 for an expert without samples."""

    policy_loss: jax.Array
    value_loss: jax.Array
    entropy: jax.Array
    kl: jax.Array
    clip_fraction: jax.Array


def make_update(network: ExpertNetwork, hyper: Hyperparameters, num_experts: int):
    """The update as a function ``(learner, rollout, last_values [B], key, lr) -> (learner, statistics)``.

    ``rollout`` is a sequence of ``T`` transitions, the oldest first.
    """
    gradient_step = optimiser.make(hyper.max_grad_norm)

    def update(learner: Learner, rollout: tuple[Transition, ...], last_values, key, lr):
        samples = advantage_samples(stack_time(rollout), last_values, hyper)

        def minibatch(learner, rows):
            return learn(network, gradient_step, learner, samples, rows, lr, hyper, num_experts)

        def epoch(learner, shuffle_key):
            return jax.lax.scan(minibatch, learner, shuffled_minibatches(shuffle_key, samples, hyper.num_minibatches))

        learner, statistics = jax.lax.scan(epoch, learner, jax.random.split(key, hyper.update_epochs))
        return learner, jax.tree.map(lambda values: values.mean(axis=(0, 1)), statistics)

    return update


def stack_time(rollout: tuple[Transition, ...]) -> Transition:
    """``T`` transitions as one, with a first axis of ``T``."""
    return jax.tree.map(lambda *steps: jnp.stack(steps), *rollout)


def advantage_samples(rollout: Transition, last_values: jax.Array, hyper: Hyperparameters) -> Samples:
    """Advantages and value targets of a rollout ``[T, B, ...]``, flattened to ``[T B, ...]``."""
    next_values = returns.following_values(rollout.value, last_values, rollout.continues, rollout.truncation_value)
    advantages = returns.generalized_advantages(
        rollout.reward, rollout.value, next_values, rollout.continues, hyper.gamma, hyper.gae_lambda
    )
    samples = Samples(
        rollout.observation,
        rollout.action,
        rollout.log_prob,
        rollout.value,
        rollout.expert,
        advantages,
        advantages + rollout.value,
    )
    return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:]), samples)


def shuffled_minibatches(key: jax.Array, samples: Samples, num_minibatches: int) -> jax.Array:
    """Row numbers ``[num_minibatches, N / num_minibatches]``: every row once, in random order."""
    order = jax.random.permutation(key, samples.action.shape[0])
    return order.reshape(num_minibatches, -1)


def learn(
    network: ExpertNetwork,
    gradient_step: optimiser.GradientStep,
    learner: Learner,
    samples: Samples,
    rows: jax.Array,
    lr: jax.Array,
    hyper: Hyperparameters,
    num_experts: int,
) -> tuple[Learner, Statistics]:
    """One gradient step of every expert that has samples among ``rows [M]``."""
    expert = samples.expert[rows]
    counts = jnp.sum(expert[None] == jnp.arange(num_experts)[:, None], axis=1)
    advantage = normalise_per_expert(samples.advantage[rows], expert, num_experts)
    block_size = hyper.block_size or learning_block_size(rows.shape[0], num_experts)
    blocks = experts.sort_into_blocks(expert, jnp.ones_like(expert, bool), num_experts, block_size)

    def one_block(number, totals):
        owner, places = blocks.expert[number], blocks.rows[number]
        block = jax.tree.map(lambda leaf: leaf[rows.at[places].get(mode="clip")], samples)
        block = block._replace(advantage=advantage.at[places].get(mode="clip"))
        weights = (places < rows.shape[0]) / counts[owner]
        params = experts.select(learner.params, owner)
        gradients, statistics = jax.grad(expert_loss, has_aux=True)(params, network, block, weights, hyper)
        return jax.tree.map(lambda total, part: total.at[owner].add(part), totals, (gradients, statistics))

    nothing = (jax.tree.map(jnp.zeros_like, learner.params), Statistics(*[jnp.zeros(num_experts)] * 5))
    gradients, statistics = jax.lax.fori_loop(0, blocks.num_blocks, one_block, nothing)
    params, state = optimiser.step(gradient_step, *learner, gradients, counts, lr)
    return Learner(params, state), statistics


def learning_block_size(num_rows: int, num_experts: int) -> int:
    """Large blocks read an expert's parameters less often; small ones leave less of an expert's last block empty."""
    share = num_rows if num_experts == 1 else num_rows // (2 * num_experts)
    return max(SMALLEST_BLOCK, min(LARGEST_BLOCK, 1 << max(share, 1).bit_length() - 1))


def expert_loss(
    params: Params, network: ExpertNetwork, samples: Samples, weights: jax.Array, hyper: Hyperparameters
) -> tuple[jax.Array, Statistics]:
    """The weighted sum of one expert's sample losses (weights of all its samples add up to 1).

    ``policy loss + vf_coef * value loss - ent_coef * entropy`` (Schulman et al. 2017, equation 9).
    """
    logits = network.logits(params, samples.observation)
    value = network.value(params, samples.observation)
    log_prob = losses.log_prob_of(logits, samples.action)
    ratio_moved = jnp.abs(jnp.exp(log_prob - samples.log_prob) - 1) > hyper.clip_eps
    parts = Statistics(
        policy_loss=losses.clipped_policy_loss(log_prob, samples.log_prob, samples.advantage, hyper.clip_eps),
        value_loss=losses.clipped_value_loss(value, samples.value, samples.target, hyper.clip_eps),
        entropy=losses.entropy(logits),
        kl=losses.approximate_kl(log_prob, samples.log_prob),
        clip_fraction=ratio_moved.astype(jnp.float32),
    )
    means = Statistics(*(jnp.sum(weights * part) for part in parts))
    loss = means.policy_loss + hyper.vf_coef * means.value_loss - hyper.ent_coef * means.entropy
    return loss, jax.lax.stop_gradient(means)


def normalise_per_expert(advantage: jax.Array, expert: jax.Array, num_experts: int) -> jax.Array:
    """Advantages ``[M]`` with mean 0 and standard deviation 1 among the samples of each expert."""
    member = (expert[None] == jnp.arange(num_experts)[:, None]).astype(advantage.dtype)
    count = jnp.maximum(member.sum(axis=1), 1)
    mean = member @ advantage / count
    centred = advantage - mean[expert]
    deviation = jnp.sqrt(member @ jnp.square(centred) / count)
    return centred / (deviation[expert] + 1e-8)
