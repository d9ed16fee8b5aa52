"""PPO over a mixture of experts.

`make_update` is the algorithm: advantages, then epochs of minibatches (`make_batch`), each expert learning from its own
samples only (`make_learning`): loss mean, advantage normalisation, gradient clip and Adam are per expert. A run calls
the two separately, since the first is the same for any number of experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flowrl.envs.observations import Observation
from flowrl.records.training_settings import TrainingSettings
from flowrl.training.learning import experts, learning_blocks, losses, optimiser, products, returns
from flowrl.training.learning.learning_blocks import Loss
from flowrl.training.learning.networks import ExpertNetwork, Params


class Hyperparameters(NamedTuple):
    """The parameters of an update; static, so a change compiles another program."""

    gamma: float = TrainingSettings.gamma
    gae_lambda: float = TrainingSettings.gae_lambda
    clip_eps: float = TrainingSettings.clip_eps
    ent_coef: float = TrainingSettings.ent_coef
    vf_coef: float = TrainingSettings.vf_coef
    max_grad_norm: float = TrainingSettings.max_grad_norm
    update_epochs: int = TrainingSettings.update_epochs
    num_minibatches: int = TrainingSettings.num_minibatches
    block_size: int | None = None
    """How many samples of one expert are computed together; None for `learning_blocks.block_sizes`."""

    @classmethod
    def of(cls, settings: TrainingSettings) -> Hyperparameters:
        """The parameters of a run."""
        return cls(**{name: getattr(settings, name) for name in cls._fields if hasattr(settings, name)})


def make_update(network: ExpertNetwork, hyper: Hyperparameters, num_experts: int):
    """The update as a function ``(learner, rollout [T, B], last_values [B], key, lr) -> (learner, statistics)``."""
    learn_from = make_learning(network, hyper, num_experts)

    def update(learner: Learner, rollout: Transition, last_values, key, lr):
        return learn_from(learner, make_batch(rollout, last_values, key, hyper), lr)

    return update


def make_batch(rollout: Transition, last_values: jax.Array, key: jax.Array, hyper: Hyperparameters) -> Batch:
    """The first part of an update, the same for any number of experts: advantages, and which sample is in which
    minibatch."""
    samples = advantage_samples(rollout, last_values, hyper)
    return Batch(samples, shuffled_minibatches(key, samples, hyper))


def make_learning(network: ExpertNetwork, hyper: Hyperparameters, num_experts: int, around: Around | None = None):
    """The second part: ``(learner, batch, lr) -> (learner, statistics)``.

    Args:
        around: wraps the learning of one expert, so that it learns in another form.
    """
    gradient_step = optimiser.make(hyper.max_grad_norm)

    def loss(params, samples, weights):
        return expert_loss(params, network, samples, weights, hyper)

    def learn_from(learner: Learner, batch: Batch, lr):
        minibatches = by_expert(batch.samples, batch.rows, num_experts)
        return learn(loss, gradient_step, learner, batch.samples, minibatches, lr, hyper.block_size, around)

    return learn_from


def expert_loss(
    params: Params, network: ExpertNetwork, samples: Samples, weights: jax.Array, hyper: Hyperparameters
) -> tuple[jax.Array, Statistics]:
    """The weighted sum of one expert's sample losses (weights of all its samples add up to 1).

    ``policy loss + vf_coef * value loss - ent_coef * entropy`` (Schulman et al. 2017, equation 9).
    """
    logits, value = network.logits_and_value(params, samples.observation)
    log_prob = losses.log_prob_of(logits, samples.action)
    ratio_moved = jnp.abs(jnp.exp(log_prob - samples.log_prob) - 1) > hyper.clip_eps
    parts = Statistics(
        policy_loss=losses.clipped_policy_loss(log_prob, samples.log_prob, samples.advantage, hyper.clip_eps),
        value_loss=losses.clipped_value_loss(value, samples.value, samples.target, hyper.clip_eps),
        entropy=losses.entropy(logits),
        kl=jax.lax.stop_gradient(losses.approximate_kl(log_prob, samples.log_prob)),
        clip_fraction=ratio_moved.astype(jnp.float32),
    )
    means = Statistics(*products.exact(jnp.stack(parts), weights))
    loss = means.policy_loss + hyper.vf_coef * means.value_loss - hyper.ent_coef * means.entropy
    return loss, jax.lax.stop_gradient(means)


# The parts of an update.


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


class Batch(NamedTuple):
    """What an update learns from."""

    samples: Samples
    rows: jax.Array
    """int32 ``[S, M]``: sample numbers, for each of the update's ``S`` minibatches over all epochs."""


class Minibatches(NamedTuple):
    """The ``S`` minibatches of ``M`` samples of an update; a first axis of ``S`` everywhere."""

    rows: jax.Array
    """int32 ``[S, M]``: sample numbers, those of the same expert adjacent."""
    advantage: jax.Array
    """float32 ``[S, M]``: advantages of ``rows``, normalised among those of the same expert."""
    counts: jax.Array
    """int32 ``[S, K]``: the number of samples of each expert."""


class Learner(NamedTuple):
    """What learning changes; a first axis of ``K`` experts everywhere."""

    params: Params
    optimiser_state: optimiser.OptimiserState


class Statistics(NamedTuple):
    """For each expert, the mean over its samples in a minibatch, averaged over the minibatches with such samples;
    float32 ``[K]``, 0 without any."""

    policy_loss: jax.Array
    value_loss: jax.Array
    entropy: jax.Array
    kl: jax.Array
    clip_fraction: jax.Array


Around = Callable[[Callable[[Learner], tuple[Learner, Statistics]], Learner], tuple[Learner, Statistics]]
"""``(all steps of an expert, the expert) -> (the expert after them, statistics)``; one expert, without the axis ``K``."""


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
    """Row numbers ``[S, M]`` of all epochs' minibatches: in each epoch every row once, in a new random order."""
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
    loss: Loss,
    gradient_step: optimiser.GradientStep,
    learner: Learner,
    samples: Samples,
    minibatches: Minibatches,
    lr: jax.Array,
    block_size: int | None = None,
    around: Around | None = None,
) -> tuple[Learner, Statistics]:
    """Every expert makes all its gradient steps, one expert after the other: experts do not depend on each other here.

    So only one expert's parameters and optimiser state are in use at a time, in the processor's caches, and an expert
    without samples costs nothing.
    """

    def one_expert(owner, expert):
        def step(expert, number):
            minibatch = experts.select(minibatches, number)
            return descend(loss, gradient_step, expert, owner, samples, minibatch, lr, block_size)

        def all_steps(expert):
            return each_with_samples(step, expert, minibatches.counts[:, owner] > 0)

        return around(all_steps, expert) if around else all_steps(expert)

    return experts.one_by_one(one_expert, learner, jnp.any(minibatches.counts > 0, axis=0))


def each_with_samples(step, expert: Learner, has_samples: jax.Array) -> tuple[Learner, Statistics]:
    """Makes the steps where ``has_samples`` (bool ``[S]``) is true, in order; statistics are means over these."""
    order = jnp.argsort(~has_samples, stable=True)

    def next_step(place, carried):
        expert, total = carried
        expert, statistics = step(expert, order[place])
        return expert, jax.tree.map(jnp.add, total, statistics)

    num_steps = jnp.sum(has_samples)
    expert, total = jax.lax.fori_loop(0, num_steps, next_step, (expert, no_statistics()))
    return expert, jax.tree.map(lambda value: value / jnp.maximum(num_steps, 1), total)


def no_statistics() -> Statistics:
    """The statistics of no samples."""
    return Statistics(*[jnp.float32(0)] * len(Statistics._fields))


def descend(
    loss: Loss,
    gradient_step: optimiser.GradientStep,
    expert: Learner,
    owner: jax.Array,
    samples: Samples,
    minibatch: Minibatches,
    lr: jax.Array,
    block_size: int | None,
) -> tuple[Learner, Statistics]:
    """One gradient step of one expert, the ``owner``, with its own samples of one minibatch (without the axis ``S``)."""
    end = jnp.cumsum(minibatch.counts)[owner]
    begin = end - minibatch.counts[owner]

    def draw(places):
        rows, advantage = (part.at[places].get(mode="clip") for part in (minibatch.rows, minibatch.advantage))
        return jax.tree.map(lambda leaf: leaf[rows], samples)._replace(advantage=advantage)

    num_rows = len(minibatch.rows)
    sizes = [block_size] if block_size else learning_blocks.block_sizes(num_rows, len(minibatch.counts))
    gradient, statistics = learning_blocks.gradient(loss, expert.params, draw, begin, end, sizes, num_rows)
    return Learner(*optimiser.step(gradient_step, *expert, gradient, lr)), statistics


def normalise_per_expert(advantage: jax.Array, expert: jax.Array, num_experts: int) -> jax.Array:
    """Advantages ``[M]`` with mean 0 and standard deviation 1 among the samples of each expert."""
    member = (expert[None] == jnp.arange(num_experts)[:, None]).astype(advantage.dtype)
    count = jnp.maximum(member.sum(axis=1), 1)

    def mean_of(values):
        return products.exact(member, values) / count

    centred = advantage - mean_of(advantage)[expert]
    deviation = jnp.sqrt(mean_of(jnp.square(centred)))
    return centred / (deviation[expert] + 1e-8)
