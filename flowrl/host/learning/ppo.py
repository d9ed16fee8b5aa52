"""PPO on the steps of a batch of environments: one program for a whole update.

Schulman et al. 2017, https://arxiv.org/abs/1707.06347. Losses, advantages and Adam are those of skill training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flowrl.host.learning.distributions import Judge
from flowrl.host.learning.networks import Network
from flowrl.host.learning.observations import Observation
from flowrl.host.learning.settings import LearningSettings
from flowrl.training.learning import losses, optimiser, returns
from flowrl.training.learning.networks import Params


class Hyperparameters(NamedTuple):
    """The parameters of an update; static, so a change compiles another program."""

    gamma: float
    gae_lambda: float
    clip_eps: float
    ent_coef: float
    vf_coef: float
    max_grad_norm: float
    update_epochs: int
    num_minibatches: int

    @classmethod
    def of(cls, settings: LearningSettings, update_epochs: int, num_minibatches: int) -> Hyperparameters:
        """Those of some settings; the last two may depend on what is learned from."""
        return cls(
            gamma=settings.gamma,
            gae_lambda=settings.gae_lambda,
            clip_eps=settings.clip_eps,
            ent_coef=settings.ent_coef,
            vf_coef=settings.vf_coef,
            max_grad_norm=settings.max_grad_norm,
            update_epochs=update_epochs,
            num_minibatches=num_minibatches,
        )


class Rollout(NamedTuple):
    """``T`` steps of ``B`` environments."""

    observation: Observation
    """``[T, B, ...]``, what the decisions were made from."""
    last_observation: Observation
    """``[B, ...]``, after the last step."""
    decision: jax.Array
    """``[T, B, D]``, int32 for choices, float32 for numbers."""
    masks: jax.Array
    """bool ``[T, B, num_outputs]``, the choices that were allowed; ``[T, B, 0]`` if all were."""
    reward: jax.Array
    """float32 ``[T, B]``."""
    continues: jax.Array
    """bool ``[T, B]``: the same episode goes on after the step."""
    truncation_value: jax.Array
    """float32 ``[T, B]``: the value of the last observation of an episode that was cut at this step, else 0."""


class Learner(NamedTuple):
    """What learning changes."""

    params: Params
    optimiser_state: optimiser.OptimiserState


class Samples(NamedTuple):
    """What a minibatch is drawn from, ``[N, ...]`` with ``N = T B``."""

    observation: Observation
    decision: jax.Array
    masks: jax.Array
    log_prob: jax.Array
    """Of the decision, by the policy that made it."""
    value: jax.Array
    advantage: jax.Array
    target: jax.Array


class Statistics(NamedTuple):
    """Means over all samples and gradient steps of an update; float32 scalars."""

    policy_loss: jax.Array
    value_loss: jax.Array
    entropy: jax.Array
    kl: jax.Array
    clip_fraction: jax.Array
    explained_variance: jax.Array
    """The share of the targets' variance that the critic knew before the update; at most 1, below 0 for a bad critic."""


def init(network: Network, hyper: Hyperparameters, key: jax.Array) -> Learner:
    """A fresh learner."""
    params = jax.jit(network.init)(key)  # as one program: one for each operation would take longer to compile
    return Learner(params, optimiser.make(hyper.max_grad_norm).init(params))


Update = Callable[[Learner, Any, jax.Array, jax.Array], tuple[Learner, Statistics]]
"""``(learner, rollout, shuffle key, learning rate) -> (learner, statistics)``."""


class Algorithm(NamedTuple):
    """What actor-critic algorithms differ in."""

    make_samples: Callable[[Network, Judge, Params, Any, Hyperparameters], Samples]
    policy_loss: Callable[[jax.Array, jax.Array, jax.Array, float], jax.Array]
    """``(log_prob, log_prob of the policy that acted, advantage, limit of their ratio) -> loss``; all ``[N]`` but the limit."""


def make_update(network: Network, judge: Judge, hyper: Hyperparameters, algorithm: Algorithm | None = None) -> Update:
    """An update as one program, compiled when it is first called.

    Args:
        algorithm: PPO if None.
    """
    algorithm = algorithm or PPO
    descend = _descent(network, judge, hyper, algorithm)

    @jax.jit
    def update(learner: Learner, rollout: Any, key: jax.Array, lr: jax.Array):
        samples = algorithm.make_samples(network, judge, learner.params, rollout, hyper)
        rows = minibatches(key, samples.value.size, hyper)
        learner, parts = jax.lax.scan(lambda learner, rows: descend(learner, samples, rows, lr), learner, rows)
        return learner, _statistics(samples, parts)

    return update


def make_stepwise_update(network: Network, judge: Judge, hyper: Hyperparameters, algorithm: Algorithm | None = None) -> Update:
    """The same with a call of a program for each gradient step.

    On a CPU, XLA computes the gradient of a convolution inside a loop nine times as slowly as outside: 3.7 instead of 0.4
    processor seconds for four steps of 32 images of 42 x 42.
    """
    algorithm = algorithm or PPO
    descend = jax.jit(_descent(network, judge, hyper, algorithm))
    statistics = jax.jit(_statistics)

    @jax.jit
    def prepare(learner: Learner, rollout: Any, key: jax.Array):
        samples = algorithm.make_samples(network, judge, learner.params, rollout, hyper)
        return samples, list(minibatches(key, samples.value.size, hyper))

    def update(learner: Learner, rollout: Any, key: jax.Array, lr: jax.Array):
        samples, order = prepare(learner, rollout, key)
        parts = []
        for rows in order:
            learner, part = descend(learner, samples, rows, lr)
            parts.append(part)
        return learner, statistics(samples, jnp.stack(parts))

    return update


def _descent(network: Network, judge: Judge, hyper: Hyperparameters, algorithm: Algorithm):
    """One gradient step: ``(learner, samples, rows [M], learning rate) -> (learner, parts of the loss [5])``."""
    gradient_step = optimiser.make(hyper.max_grad_norm)

    def descend(learner: Learner, samples: Samples, rows: jax.Array, lr: jax.Array):
        minibatch = jax.tree.map(lambda leaf: leaf[rows], samples)
        gradient, parts = jax.grad(loss, has_aux=True)(learner.params, network, judge, minibatch, hyper, algorithm)
        return Learner(*optimiser.step(gradient_step, *learner, gradient, lr)), parts

    return descend


def _statistics(samples: Samples, parts: jax.Array) -> Statistics:
    """Means of the parts ``[S, 5]`` of the loss in all gradient steps, and how well the critic knew the targets before."""
    explained = 1 - jnp.var(samples.target - samples.value) / (jnp.var(samples.target) + 1e-8)
    return Statistics(*jnp.mean(parts, axis=0), explained)


def make_samples(network: Network, judge: Judge, params: Params, rollout: Rollout, hyper: Hyperparameters) -> Samples:
    """The steps of a rollout with what the agent thought of them, and how much better they were."""
    flat, log_prob, value, following = judged_steps(network, judge, params, rollout, hyper.num_minibatches)
    advantages = returns.generalized_advantages(
        rollout.reward, value.reshape(following.shape), following, rollout.continues, hyper.gamma, hyper.gae_lambda
    ).reshape(-1)
    return Samples(*flat, log_prob, value, advantages, advantages + value)


def judged_steps(network: Network, judge: Judge, params: Params, rollout: Any, num_parts: int):
    """What an agent thinks of the steps of a rollout.

    Returns:
        observations, decisions and masks ``[N, ...]``; how likely the agent finds each decision, ``[N]``; each step's value,
        ``[N]``; and the value of what followed it, ``[T, B]``.
    """
    steps = rollout.reward.shape
    flat = in_rows((rollout.observation, rollout.decision, rollout.masks))

    def judged(part):
        outputs, value = network.outputs_and_value(params, part[0])
        return judge(outputs, *part[1:]).log_prob, value

    log_prob, value = in_parts(judged, flat, num_parts)
    values = value.reshape(steps)
    last_values = network.outputs_and_value(params, rollout.last_observation)[1]
    following = returns.following_values(values, last_values, rollout.continues, rollout.truncation_value)
    return flat, log_prob, value, following


def loss(params: Params, network: Network, judge: Judge, samples: Samples, hyper: Hyperparameters, algorithm: Algorithm):
    """``policy loss + vf_coef * value loss - ent_coef * entropy`` (equation 9), and its parts ``[5]``.

    The value loss is not clipped: with returns in the hundreds a critic that may move by 0.2 in an update learns too slowly
    (Andrychowicz et al. 2021, https://arxiv.org/abs/2006.05990, section 3.2).
    """
    outputs, value = network.outputs_and_value(params, samples.observation)
    log_prob, entropy = judge(outputs, samples.decision, samples.masks)
    advantage = (samples.advantage - samples.advantage.mean()) / (samples.advantage.std() + 1e-8)
    moved = jnp.abs(jnp.exp(log_prob - samples.log_prob) - 1) > hyper.clip_eps
    parts = (
        algorithm.policy_loss(log_prob, samples.log_prob, advantage, hyper.clip_eps),
        losses.clipped_value_loss(value, samples.value, samples.target, jnp.inf),
        entropy,
        losses.approximate_kl(log_prob, samples.log_prob),
        moved.astype(jnp.float32),
    )
    means = jnp.mean(jnp.stack(parts), axis=1)
    return means[0] + hyper.vf_coef * means[1] - hyper.ent_coef * means[2], jax.lax.stop_gradient(means)


PPO = Algorithm(make_samples, losses.clipped_policy_loss)


def minibatches(key: jax.Array, num_samples: int, hyper: Hyperparameters) -> jax.Array:
    """Row numbers ``[S, M]`` of all epochs' minibatches: in each epoch every row once, in a new random order."""
    orders = jax.vmap(lambda key: jax.random.permutation(key, num_samples))(jax.random.split(key, hyper.update_epochs))
    return orders.reshape(-1, num_samples // hyper.num_minibatches)


def in_rows(tree: Any) -> Any:
    """Arrays ``[T, B, ...]`` as ``[T B, ...]``."""
    return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:]), tree)


def in_parts(function, values, num_parts: int):
    """``function`` of rows ``[N, ...]``, computed in so many parts one after the other: all at once, the inner layers of a
    network for images would need gigabytes."""
    parts = jax.tree.map(lambda leaf: leaf.reshape(num_parts, len(leaf) // num_parts, *leaf.shape[1:]), values)
    return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:]), jax.lax.map(function, parts))
