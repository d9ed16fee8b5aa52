"""The experts of a library, ready to act."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import struct

from flowrl.envs.adapter import GameAdapter
from flowrl.envs.observations import Observation
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.training.learning import experts
from flowrl.training.learning.networks import ExpertNetwork, Params
from flowrl.training.one_hot import first_layer
from flowrl.training.playing.acting import make_logits


class Experts(struct.PyTreeNode):
    """Some experts, stacked."""

    params: Params
    """``[K padded, ...]``."""
    logits: Any = struct.field(pytree_node=False)
    """``(params, observation, typical, expert) -> [B, num_actions]``."""

    def actions(self, keys: jax.Array, expert: jax.Array, observation: Observation) -> jax.Array:
        """What each environment's expert does, sampled: int32 ``[B]``.

        Args:
            keys: ``[B]``.
            expert: int32 ``[B]``.
            observation: ``[B, ...]``.
        """
        typical = first_layer.typical_columns(observation.columns)
        logits = self.logits(self.params, observation, typical, expert)
        return jax.vmap(jax.random.categorical)(keys, logits)


def experts_of(library: Library, adapter: GameAdapter, skills: Sequence[LibrarySkill]) -> Experts:
    """The experts of some of a library's skills, in that order."""
    network = ExpertNetwork(adapter.layout, adapter.num_actions, library.layer_size, library.mixed_precision)
    logits = make_logits(network, experts.padded_count(len(skills)))
    return Experts(experts.stack([skill.params for skill in skills]), logits)
