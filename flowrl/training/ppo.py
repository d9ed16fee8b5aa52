"""PPO over a mixture of experts.

`update` is the algorithm: advantages, then epochs of minibatches, each expert learning from its own
samples only (loss mean, advantage normalisation, gradient clip and Adam are per expert).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flowrl.envs.observations import Observation
from flowrl.training import experts, losses, optimiser, returns
from flowrl.training.networks import ExpertNetwork, Params


LARGEST_BLOCK = 1024
LARGEST_BLOCK_OFF_CPU = 8192
"""A GPU is kept waiting by many small blocks, one after the other."""
SMALL_BLOCK = 128
"""Of a minibatch that would not fill a large one."""
SMALLEST_BLOCKS = 16, 64
"""The bounds of the smallest size of a block."""
FULL_ENOUGH = 7 / 8
"""The part of a block that has to be filled, unless it is the smallest."""


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
    """Samples of one expert that are computed together; None for `learning_block_sizes`."""


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


class Minibatches(NamedTuple):
    """The ``S`` minibatches of ``M`` samples of an update, all its epochs together; a first axis of ``S`` everywhere."""

    rows: jax.Array
    """int32 ``[S, M]``: numbers of samples, those of the same expert side by side."""
    advantage: jax.Array
    """float32 ``[S, M]``: of ``rows``, normalised among those of the same expert."""
    counts: jax.Array
    """int32 ``[S, K]``: the samples of each expert."""


class Learner(NamedTuple):
    """What learning changes; a first axis of ``K`` experts everywhere."""

    params: Params
    optimiser_state: optimiser.OptimiserState


class Statistics(NamedTuple):
    """Means over the minibatches in which an expert has samples, of means over these, float32 ``[K]``; 0 without any."""

    policy_loss: jax.Array
    value_loss: jax.Array
    entropy: jax.Array
    kl: jax.Array
    clip_fraction: jax.Array


def make_update(network: ExpertNetwork, hyper: Hyperparameters, num_experts: int):
    """The update as a function ``(learner, rollout [T, B], last_values [B], key, lr) -> (learner, statistics)``."""
    gradient_step = optimiser.make(hyper.max_grad_norm)

    def update(learner: Learner, rollout: Transition, last_values, key, lr):
        samples = advantage_samples(rollout, last_values, hyper)
        minibatches = by_expert(samples, shuffled_minibatches(key, samples, hyper), num_experts)
        return learn(network, gradient_step, learner, samples, minibatches, lr, hyper)

    return update


def stack_time(rollout: Sequence[Transition]) -> Transition:
    """``T`` transitions, the oldest first, as one with a first axis of ``T``."""
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


def shuffled_minibatches(key: jax.Array, samples: Samples, hyper: Hyperparameters) -> jax.Array:
    """Row numbers ``[S, M]`` of all epochs' minibatches: in each epoch every row once, in a random order of its own."""
    num_samples = samples.action.shape[0]
    orders = jax.vmap(lambda key: jax.random.permutation(key, num_samples))(jax.random.split(key, hyper.update_epochs))
    return orders.reshape(-1, num_samples // hyper.num_minibatches)


def by_expert(samples: Samples, rows: jax.Array, num_experts: int) -> Minibatches:
    """The minibatches ``rows [S, M]``, each sorted by expert."""

    def one(rows):
        expert = samples.expert[rows]
        advantage = normalise_per_expert(samples.advantage[rows], expert, num_experts)
        counts = jnp.sum(expert[None] == jnp.arange(num_experts)[:, None], axis=1, dtype=jnp.int32)
        order = jnp.argsort(expert, stable=True)
        return Minibatches(rows[order], advantage[order], counts)

    return jax.lax.map(one, rows)


def learn(
    network: ExpertNetwork,
    gradient_step: optimiser.GradientStep,
    learner: Learner,
    samples: Samples,
    minibatches: Minibatches,
    lr: jax.Array,
    hyper: Hyperparameters,
) -> tuple[Learner, Statistics]:
    """Every expert makes all its gradient steps, one expert after the other: what one learns no other one needs to know.

    So the parameters and the optimiser of a single expert are at hand at a time, in the processor's caches, and an expert
    without samples is left alone.
    """

    def one_expert(owner, expert):
        def step(expert, number):
            return descend(network, gradient_step, expert, owner, samples, experts.select(minibatches, number), lr, hyper)

        return each_with_samples(step, expert, minibatches.counts[:, owner] > 0)

    return experts.one_by_one(one_expert, learner, jnp.any(minibatches.counts > 0, axis=0))


def each_with_samples(step, expert: Learner, has_samples: jax.Array) -> tuple[Learner, Statistics]:
    """Makes those steps of bool ``has_samples [S]`` for which there are samples, in order; statistics are means over these."""
    order = jnp.argsort(~has_samples, stable=True)

    def next_step(place, carried):
        expert, total = carried
        expert, statistics = step(expert, order[place])
        return expert, jax.tree.map(jnp.add, total, statistics)

    num_steps = jnp.sum(has_samples)
    expert, total = jax.lax.fori_loop(0, num_steps, next_step, (expert, no_statistics()))
    return expert, jax.tree.map(lambda value: value / jnp.maximum(num_steps, 1), total)


def descend(
    network: ExpertNetwork,
    gradient_step: optimiser.GradientStep,
    expert: Learner,
    owner: jax.Array,
    samples: Samples,
    minibatch: Minibatches,
    lr: jax.Array,
    hyper: Hyperparameters,
) -> tuple[Learner, Statistics]:
    """One gradient step of one expert, the ``owner``, with its own samples of one minibatch (without the axis ``S``)."""
    num_rows, num_experts = len(minibatch.rows), len(minibatch.counts)
    end, count = jnp.cumsum(minibatch.counts)[owner], minibatch.counts[owner]

    def block_of(size):
        def one_block(carried):
            begin, totals = carried
            places = begin + jnp.arange(size)
            rows, advantage = (part.at[places].get(mode="clip") for part in (minibatch.rows, minibatch.advantage))
            block = jax.tree.map(lambda leaf: leaf[rows], samples)._replace(advantage=advantage)
            found = jax.grad(expert_loss, has_aux=True)(expert.params, network, block, (places < end) / count, hyper)
            return begin + size, jax.tree.map(jnp.add, totals, found)

        return one_block

    nothing = jax.tree.map(jnp.zeros_like, expert.params), no_statistics()
    sizes = [hyper.block_size] if hyper.block_size else learning_block_sizes(num_rows, num_experts)
    carried = (end - count, nothing)
    for size in sizes:
        filled = 0 if size == sizes[-1] else int(FULL_ENOUGH * size)
        carried = jax.lax.while_loop(lambda at, filled=filled: end - at[0] > filled, block_of(size), carried)
    _, (gradient, statistics) = carried
    return Learner(*optimiser.step(gradient_step, *expert, gradient, lr)), statistics


def learning_block_sizes(num_rows: int, num_experts: int) -> list[int]:
    """The sizes of the blocks in which an expert's samples of a minibatch are computed, the largest first.

    A large block reads the parameters, and adds up the gradient, less often; of the last one a part is computed for nothing. So
    there are few sizes, each a quarter of the one before, and one that an expert's share of the minibatch fills. Each is a loop
    to be compiled: what is small anyway has one.
    """
    bound = LARGEST_BLOCK if jax.default_backend() == "cpu" else LARGEST_BLOCK_OFF_CPU
    largest = min(bound, _power_of_two(num_rows))
    if num_experts == 1 and num_rows % largest == 0:
        return [largest]
    if num_rows < LARGEST_BLOCK:
        return [min(largest, SMALL_BLOCK)]
    share = max(1, num_rows // num_experts)
    least, most = SMALLEST_BLOCKS
    smallest = max(least, min(most, _power_of_two(max(1, share // 8))))
    quarters = (largest >> 2 * number for number in range(largest.bit_length()))
    return sorted({size for size in (*quarters, _power_of_two(share), smallest) if smallest <= size <= largest}, reverse=True)


def _power_of_two(number: int) -> int:
    """The largest that is not above ``number``."""
    return 1 << number.bit_length() - 1


def no_statistics() -> Statistics:
    """Of no samples."""
    return Statistics(*[jnp.float32(0)] * len(Statistics._fields))


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

    def mean_of(values):
        # Exact: a GPU would round the factors of an ordinary product.
        return jnp.matmul(member, values, precision=jax.lax.Precision.HIGHEST) / count

    centred = advantage - mean_of(advantage)[expert]
    deviation = jnp.sqrt(mean_of(jnp.square(centred)))
    return centred / (deviation[expert] + 1e-8)
