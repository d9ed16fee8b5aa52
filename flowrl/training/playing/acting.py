"""The acting experts' functions: the actions that each environment's expert chooses, and the values it assigns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from flowrl.training.compiled.stored_programs import Compile, Program
from flowrl.training.learning import experts, losses
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.one_hot import first_layer
from flowrl.training.playing.world import Decision

ACTING_BLOCK_SIZE = 64
"""Environments per block while acting; smaller than a learning block, since the experts share fewer rows."""

ACTING_BLOCK_SIZE_OFF_CPU = 1024
"""Many small blocks in a row would leave a GPU idle."""


@dataclass(frozen=True)
class Acting:
    """The functions of ``K`` experts that act; their first argument, the parameters, has a first axis of ``K``."""

    num_experts: int
    """Padded (`experts.padded_count`)."""
    act: Program
    """``(params, observation, typical, expert, key, number) -> Decision``."""
    values: Program
    """``(params, observation, typical, expert, wanted) -> [B]``."""


def build_acting(network: ExpertNetwork, num_experts: int, compiled: Compile) -> Acting:
    """
    Args:
        num_experts: padded.
    """
    return Acting(
        num_experts=num_experts,
        act=compiled("act", make_act(network, num_experts), network.mixed_precision),
        values=compiled("values", make_values(network, num_experts), network.mixed_precision),
    )


def acting_block_size() -> int:
    """Environments per block while acting, on this device."""
    return ACTING_BLOCK_SIZE if jax.default_backend() == "cpu" else ACTING_BLOCK_SIZE_OFF_CPU


def make_act(network: ExpertNetwork, num_experts: int):
    """Sampled actions of the acting experts, with their log probabilities and values."""

    def both(params, inputs):
        actor_sums, critic_sums, scalars = inputs
        actor_first = first_layer.complete(params["actor"], actor_sums, scalars, network.product)
        critic_first = first_layer.complete(params["critic"], critic_sums, scalars, network.product)
        value = network.value_after_first(params, critic_first)
        return jnp.concatenate([network.logits_after_first(params, actor_first), value[:, None]], axis=1)

    def act(params, observation, typical, expert, key, number):
        everyone = jnp.ones_like(expert, bool)
        sums = [
            first_layer.column_sums(
                first_layer.kernel_of(params[part]), observation.columns, typical, expert, everyone, network.layout
            )
            for part in ("actor", "critic")
        ]
        blocks = experts.sort_into_blocks(expert, everyone, num_experts, acting_block_size())
        rest = first_layer.without_columns(params, network.layout)
        outputs = experts.apply(both, rest, (*sums, observation.scalars), blocks)
        logits, value = outputs[:, :-1], outputs[:, -1]
        action = jax.random.categorical(jax.random.fold_in(key, number), logits)
        return Decision(action, losses.log_prob_of(logits, action), value)

    return act


def make_values(network: ExpertNetwork, num_experts: int):
    """The values of the wanted rows by each row's expert; 0 for the others, which cost nothing."""
    return _make_outputs("critic", network.value_after_first, network, num_experts)


def make_logits(network: ExpertNetwork, num_experts: int):
    """``(params, observation, typical, expert) -> [B, num_actions]``: what the acting experts would sample from."""
    outputs = _make_outputs("actor", network.logits_after_first, network, num_experts)
    return lambda params, observation, typical, expert: outputs(
        params, observation, typical, expert, jnp.ones_like(expert, bool)
    )


def _make_outputs(part: str, after_first: Callable, network: ExpertNetwork, num_experts: int):
    """The outputs of one of the two networks for the wanted rows; 0 for the others."""

    def one_block(params, inputs):
        sums, scalars = inputs
        return after_first(params, first_layer.complete(params[part], sums, scalars, network.product))

    def outputs(params, observation, typical, expert, wanted):
        kernel = first_layer.kernel_of(params[part])
        sums = first_layer.column_sums(kernel, observation.columns, typical, expert, wanted, network.layout)
        blocks = experts.sort_into_blocks(expert, wanted, num_experts, acting_block_size())
        rest = first_layer.without_columns(params, network.layout)
        return experts.apply(one_block, rest, (sums, observation.scalars), blocks)

    return outputs
