"""One update of the Q-network: double Q-learning over several steps, and a margin for what was demonstrated.

Double targets as in van Hasselt, Guez and Silver (2016, https://arxiv.org/abs/1509.06461); the large margin loss as in Hester
et al. (2018, https://arxiv.org/abs/1704.03732), for a set of right cells instead of one right action, and for all wrong cells
instead of the best one: with 1,600 cells, one wrong cell for each update is too few.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flowrl.fire.agent.q_network import QNetwork, untrained

Params = Any
_NEVER = -1e9
MAX_GRAD_NORM = 10.0


class QLearner(NamedTuple):
    """What is learned.

    Attributes:
        params: of the network.
        target: of the network that targets come from, an older one.
        optimiser_state: Adam's.
    """

    params: Params
    target: Params
    optimiser_state: optax.OptState


class LearningBatch(NamedTuple):
    """``B`` experiences to learn from, the last ``L`` of which may go on after what they hold.

    Attributes:
        observations, allowed, chosen, returns, demonstrated: ``[B, ...]``, as in `Experiences`.
        discounts, later, later_allowed: ``[L, ...]``, likewise. The returns of the others are complete.
    """

    observations: np.ndarray
    allowed: np.ndarray
    chosen: np.ndarray
    returns: np.ndarray
    demonstrated: np.ndarray
    discounts: np.ndarray
    later: np.ndarray
    later_allowed: np.ndarray


class Losses(NamedTuple):
    """Means over a batch: of the temporal difference, and of the margin over what was demonstrated."""

    td: jax.Array
    margin: jax.Array


class Programs(NamedTuple):
    """What is compiled for agents of one kind.

    Attributes:
        values: action values ``[B, A]`` from parameters, observations and allowed cells.
        update: see `make_update`.
        new_params: parameters of an untrained network from a seed and an observation's shape.
        optimiser: Adam.
    """

    values: Callable[[Params, jax.Array, jax.Array], jax.Array]
    update: Callable[[QLearner, LearningBatch], tuple[QLearner, Losses]]
    new_params: Callable[[int, tuple[int, int, int]], Params]
    optimiser: optax.GradientTransformation


@functools.cache
def programs_of(width: int, learning_rate: float, margin: float) -> Programs:
    """The same programs for every agent with these settings: they compile once."""
    network, optimiser = QNetwork(width), make_optimiser(learning_rate)
    new_params = partial(untrained, network)
    return Programs(jax.jit(network.apply), make_update(network, optimiser, margin), new_params, optimiser)


def make_optimiser(learning_rate: float) -> optax.GradientTransformation:
    """Adam with a clipped gradient."""
    return optax.chain(optax.clip_by_global_norm(MAX_GRAD_NORM), optax.adam(learning_rate))


def make_update(
    network: QNetwork, optimiser: optax.GradientTransformation, margin: float
) -> Callable[[QLearner, LearningBatch], tuple[QLearner, Losses]]:
    """A compiled update.

    It is called once for each batch, from Python: the gradient of a convolution inside ``lax.scan`` is many times slower on
    a CPU than outside.
    """

    def loss(params: Params, target: Params, batch: LearningBatch) -> tuple[jax.Array, Losses]:
        values = network.apply(params, batch.observations, batch.allowed)
        wanted = jax.lax.stop_gradient(targets(params, target, batch))
        td = td_loss(values, batch.chosen, wanted)
        beside = margin_loss(values, batch.allowed & ~batch.chosen, wanted, margin) * batch.demonstrated
        losses = Losses(jnp.mean(td), jnp.sum(beside) / jnp.maximum(jnp.sum(batch.demonstrated), 1))
        return jnp.mean(td + beside), losses

    def targets(params: Params, target: Params, batch: LearningBatch) -> jax.Array:
        if not len(batch.later):
            return batch.returns
        complete, going_on = jnp.split(batch.returns, [len(batch.returns) - len(batch.later)])
        both = [network.apply(one, batch.later, batch.later_allowed) for one in (params, target)]
        return jnp.concatenate([complete, double_targets(going_on, batch.discounts, *both, batch.later_allowed)])

    @jax.jit
    def update(learner: QLearner, batch: LearningBatch) -> tuple[QLearner, Losses]:
        (_, losses), gradient = jax.value_and_grad(loss, has_aux=True)(learner.params, learner.target, batch)
        change, optimiser_state = optimiser.update(gradient, learner.optimiser_state, learner.params)
        return QLearner(optax.apply_updates(learner.params, change), learner.target, optimiser_state), losses

    return update


def double_targets(
    returns: jax.Array, discounts: jax.Array, values: jax.Array, target_values: jax.Array, allowed: jax.Array
) -> jax.Array:
    """``returns + discounts * target_values[argmax values]``, over the allowed cells: ``[B]``.

    Args:
        returns, discounts: ``[B]``; a discount of 0 is an episode that has ended.
        values, target_values: ``[B, A]`` of the newest and of the target network, some steps later.
        allowed: bool ``[B, A]``.
    """
    best = jnp.argmax(jnp.where(allowed, values, _NEVER), axis=1)
    later = jnp.take_along_axis(target_values, best[:, None], axis=1)[:, 0]
    return returns + jnp.where(discounts > 0, discounts * later, 0.0)


def td_loss(values: jax.Array, chosen: jax.Array, wanted: jax.Array) -> jax.Array:
    """The Huber loss of all chosen cells against the target of their step, on average over the cells: ``[B]``.

    Args:
        values: ``[B, A]``.
        chosen: bool ``[B, A]``.
        wanted: ``[B]``.
    """
    losses = optax.huber_loss(values, jnp.broadcast_to(wanted[:, None], values.shape))
    return jnp.sum(losses * chosen, axis=1) / jnp.maximum(jnp.sum(chosen, axis=1), 1)


def margin_loss(values: jax.Array, wrong: jax.Array, wanted: jax.Array, margin: float) -> jax.Array:
    """The Huber loss of wrong cells by as much as they fail to lie ``margin`` below the right ones, over all of them: ``[B]``.

    Args:
        values: ``[B, A]``.
        wrong: bool ``[B, A]``.
        wanted: ``[B]``, what the right cells are worth.
    """
    excess = jnp.maximum(values - (wanted[:, None] - margin), 0.0)
    return jnp.sum(optax.huber_loss(excess) * wrong, axis=1)
