"""The memory that actors and the learner share: parameters one way, trajectories in fixed slots the other way."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from flowrl.host.block import Shapes, placed, size_of
from flowrl.host.learning.actions import actions_of
from flowrl.host.learning.actors.parameters import SharedParameters, parameter_shapes
from flowrl.host.learning.observations import Layout
from flowrl.host.learning.steps import Steps, step_shapes, steps_of
from flowrl.host.spaces import num_masked


class Sizes(NamedTuple):
    """What the memory has to hold; both sides make its arrays from it.

    Attributes:
        num_envs: environments of one actor.
        num_steps: of each environment in a trajectory.
        slots_per_actor: a slot belongs to one actor for ever, so that none is lost with an actor that dies.
        num_parameters: of a policy.
    """

    observation_space: spaces.Space
    action_space: spaces.Space
    num_actors: int
    num_envs: int
    num_steps: int
    slots_per_actor: int
    num_parameters: int

    @property
    def num_slots(self) -> int:
        return self.num_actors * self.slots_per_actor

    def owner(self, slot: int) -> int:
        """The number of the actor that a slot belongs to."""
        return slot // self.slots_per_actor

    def slots_of(self, actor: int) -> range:
        """The slots of an actor."""
        return range(actor * self.slots_per_actor, (actor + 1) * self.slots_per_actor)


class Slot(NamedTuple):
    """One trajectory: ``num_steps`` steps of an actor's environments with one version of the policy."""

    steps: Steps
    log_std: np.ndarray
    """float32 ``[D]`` of the policy, for actions that are numbers; else ``[0]``."""
    version: np.ndarray
    """int64 ``[1]``, of the policy: the updates that had made it."""
    seconds: np.ndarray
    """float64 ``[2]``: how long the actor took for the steps, and how long it had waited for the slot."""
    num_ended: np.ndarray
    """int64 ``[1]``, the episodes that ended. Of the next three, so many entries count."""
    returns: np.ndarray
    """float64 ``[num_steps num_envs]``."""
    lengths: np.ndarray
    """int64 ``[num_steps num_envs]``."""
    environments: np.ndarray
    """int64 ``[num_steps num_envs]``, counted in the actor from 0."""


class Exchange:
    """The arrays in the memory.

    Attributes:
        progress: int64 ``[num_actors]``, the steps that each actor has taken.
        stopping: int64 ``[1]``, 1 once actors shall end, even within a trajectory.
        parameters: the policy's, from the learner.
        slots: all trajectories.
    """

    def __init__(self, sizes: Sizes, memory: Any):
        """
        Args:
            memory: a buffer of at least `num_bytes`, zeroed when it was made.
        """
        shared, slot = _shared_shapes(sizes), _slot_shapes(sizes)
        arrays = placed([*shared, *slot * sizes.num_slots], memory)
        self.progress, self.stopping = arrays[:2]
        self.parameters = SharedParameters(arrays[2 : len(shared)])
        rest, count = arrays[len(shared) :], len(slot)
        self.slots = [_slot(rest[start : start + count]) for start in range(0, len(rest), count)]


def num_bytes(sizes: Sizes) -> int:
    """The size of an `Exchange`."""
    return size_of([*_shared_shapes(sizes), *_slot_shapes(sizes) * sizes.num_slots])


def _shared_shapes(sizes: Sizes) -> list:
    counts = np.dtype(np.int64)
    return [((sizes.num_actors,), counts), ((1,), counts), *parameter_shapes(sizes.num_parameters)]


def _slot_shapes(sizes: Sizes) -> list:
    layout, actions = Layout(sizes.observation_space), actions_of(sizes.action_space)
    masked, most_ended = num_masked(sizes.action_space) or 0, sizes.num_steps * sizes.num_envs
    counts, floats = np.dtype(np.int64), np.dtype(np.float64)
    own: Shapes = [
        ((actions.width if isinstance(sizes.action_space, spaces.Box) else 0,), np.dtype(np.float32)),
        ((1,), counts),
        ((2,), floats),
        ((1,), counts),
        ((most_ended,), floats),
        ((most_ended,), counts),
        ((most_ended,), counts),
    ]
    return [*own, *step_shapes(layout, actions, masked, sizes.num_steps, sizes.num_envs)]


def _slot(arrays: list[np.ndarray]) -> Slot:
    return Slot(steps_of(arrays[7:]), *arrays[:7])
