"""Steps of a batch of environments with an agent's policy, written into arrays. Imports no JAX: actors use it too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from flowrl.host.block import Shapes
from flowrl.host.interface import VecEnv
from flowrl.host.learning.actions import Actions
from flowrl.host.learning.numpy_policy import Policy
from flowrl.host.learning.observations import Layout, Observation
from flowrl.host.spaces import Tree

Values = Callable[[Observation], np.ndarray]
"""Observations ``[N]`` to expected returns ``[N]``."""


class Steps(NamedTuple):
    """``T`` steps of ``B`` environments, as numpy arrays."""

    observation: Observation
    """``[T, B, ...]``, what the decisions were made from."""
    last_observation: Observation
    """``[B, ...]``, after the last step."""
    final_observation: Observation
    """``[T, B, ...]``, the last observation of an episode that was cut at this step; elsewhere it means nothing."""
    decision: np.ndarray
    """``[T, B, D]``, int32 for choices, float32 for numbers."""
    masks: np.ndarray
    """bool ``[T, B, num_outputs]``, the choices that were allowed; ``[T, B, 0]`` if all were."""
    outputs: np.ndarray
    """float32 ``[T, B, num_outputs]``, what the acting policy said."""
    reward: np.ndarray
    """float32 ``[T, B]``."""
    continues: np.ndarray
    """bool ``[T, B]``: the same episode goes on after the step."""
    cut: np.ndarray
    """bool ``[T, B]``: the episode was truncated at the step, so what came after it has a value."""


def step_shapes(layout: Layout, actions: Actions, num_masked: int, num_steps: int, num_envs: int) -> Shapes:
    """The arrays of `Steps`, in the order that `steps_of` takes.

    Args:
        num_masked: entries of an action mask, 0 if there is none.
    """
    both = num_steps, num_envs
    flags, floats = np.dtype(bool), np.dtype(np.float32)
    seen = [
        ((*axes, *shape), dtype)
        for axes in (both, (num_envs,), both)
        for shape, dtype in (((layout.vector_size,), floats), (layout.image_shape or (0,), np.dtype(np.uint8)))
    ]
    return [
        *seen,
        ((*both, actions.width), np.dtype(actions.dtype)),
        ((*both, num_masked), flags),
        ((*both, actions.num_outputs), floats),
        (both, floats),
        (both, flags),
        (both, flags),
    ]


def steps_of(arrays: Sequence[np.ndarray]) -> Steps:
    """Arrays of `step_shapes` by their names."""
    return Steps(Observation(*arrays[0:2]), Observation(*arrays[2:4]), Observation(*arrays[4:6]), *arrays[6:])


class Stepper:
    """Steps a batch of environments with a policy; episodes go on from call to call.

    Args:
        learns_from_signs: keep only the sign of each reward.
    """

    def __init__(self, env: VecEnv, layout: Layout, actions: Actions, learns_from_signs: bool = False):
        self._env, self._layout, self._actions = env, layout, actions
        self._learns_from_signs = learns_from_signs
        self._now: Tree = None

    def reset(self, seed: int) -> None:
        """Begins new episodes; environment *i* is seeded with ``seed + i``."""
        self._now = self._env.reset(seed=seed)

    def blank(self, num_steps: int) -> Steps:
        """Room for so many steps."""
        masks = self._env.get_action_masks()
        num_masked = 0 if masks is None else masks.shape[1]
        shapes = step_shapes(self._layout, self._actions, num_masked, num_steps, self._env.num_envs)
        return steps_of([np.zeros(shape, dtype) for shape, dtype in shapes])

    def fill(
        self, steps: Steps, policy: Policy, random: np.random.Generator, after_step: Callable[[], None] = lambda: None
    ) -> None:
        """Takes as many steps as there is room for. An interrupt or a fault leaves the environments to be reset.

        Args:
            random: decides; the steps depend on nothing else but the policy and the environments.
            after_step: called after each step.
        """
        env = self._env
        for step in range(len(steps.reward)):
            seen, allowed = self._layout.encode(self._now), env.get_action_masks()
            outputs = policy.outputs(seen)
            decision = self._actions.draw(outputs, allowed, policy.log_std, random)
            _put(steps.observation, step, seen)
            steps.outputs[step], steps.decision[step] = outputs, decision
            if allowed is not None:
                steps.masks[step] = allowed
            result = env.step(self._actions.to_env(decision))
            steps.reward[step] = np.sign(result.rewards) if self._learns_from_signs else result.rewards
            steps.continues[step] = ~(result.terminated | result.truncated)
            steps.cut[step] = cut = result.truncated & ~result.terminated
            if cut.any():
                for array, values in zip(steps.final_observation, self._layout.encode(result.final_obs)):
                    array[step, cut] = values[cut]
            self._now = result.observations
            after_step()
        for array, values in zip(steps.last_observation, self._layout.encode(self._now)):
            array[...] = values


def truncation_values(steps: Steps, values: Values) -> np.ndarray:
    """float32 ``[T, B]``: the values of the last observations of episodes that were cut, 0 elsewhere."""
    result = np.zeros(steps.cut.shape, np.float32)
    if steps.cut.any():
        result[steps.cut] = values(Observation(*(part[steps.cut] for part in steps.final_observation)))
    return result


def _put(arrays: Observation, step: int, values: Observation) -> None:
    for array, value in zip(arrays, values):
        array[step] = value
