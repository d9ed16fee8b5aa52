"""Collects the steps that an update learns from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from flowrl.host.interface import VecEnv
from flowrl.host.learning.actions import Actions
from flowrl.host.learning.observations import Layout, Observation
from flowrl.host.learning.policies import Policy
from flowrl.host.learning.ppo import Rollout
from flowrl.host.spaces import Tree

Values = Callable[[Observation], np.ndarray]
"""Observations ``[N]`` to expected returns ``[N]``."""


class Cut(NamedTuple):
    """Episodes that were truncated in one step."""

    step: int
    rows: np.ndarray
    """int ``[n]``, the environments."""
    last: Observation
    """``[n, ...]``, the last observation of each episode."""


class Collector:
    """Steps a batch of environments with a policy, from rollout to rollout.

    Args:
        learns_from_signs: keep only the sign of each reward.
    """

    def __init__(self, env: VecEnv, layout: Layout, actions: Actions, num_steps: int, learns_from_signs: bool = False):
        self._env, self._layout, self._actions = env, layout, actions
        self._num_steps, self._learns_from_signs = num_steps, learns_from_signs
        self._now: Tree = None

    def reset(self, seed: int) -> None:
        """Begins new episodes; environment *i* is seeded with ``seed + i``."""
        self._now = self._env.reset(seed=seed)

    def collect(self, policy: Policy, values: Values, random: np.random.Generator) -> Rollout:
        """The next ``num_steps`` steps. An interrupt or a fault leaves the collector to be reset.

        Args:
            values: expected returns by the learner's parameters, for episodes that are cut.
            random: decides; a rollout depends on nothing else but the environments.
        """
        env, (steps, batch) = self._env, (self._num_steps, self._env.num_envs)
        observation = self._layout.blank(steps, batch)
        decisions, masks = self._blank_decisions(steps, batch)
        rewards, continues = np.zeros((steps, batch), np.float32), np.zeros((steps, batch), bool)
        cuts: list[Cut] = []
        for step in range(steps):
            seen, allowed = self._layout.encode(self._now), env.get_action_masks()
            decision = self._actions.draw(policy.outputs(seen), allowed, policy.log_std, random)
            _put(observation, step, seen)
            decisions[step] = decision
            if allowed is not None:
                masks[step] = allowed
            result = env.step(self._actions.to_env(decision))
            rewards[step] = np.sign(result.rewards) if self._learns_from_signs else result.rewards
            continues[step] = ~(result.terminated | result.truncated)
            cut = result.truncated & ~result.terminated
            if cut.any():
                cuts.append(self._cut(step, cut, result.final_obs))
            self._now = result.observations
        cut_values = self._cut_values(cuts, values, (steps, batch))
        last = Observation(*(part.copy() for part in self._layout.encode(self._now)))  # the next step may overwrite it
        return Rollout(observation, last, decisions, masks, rewards, continues, cut_values)

    def _blank_decisions(self, steps: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
        masks = self._env.get_action_masks()
        columns = 0 if masks is None else masks.shape[1]
        shape = steps, batch, self._actions.width
        return np.zeros(shape, self._actions.dtype), np.ones((steps, batch, columns), bool)

    def _cut(self, step: int, cut: np.ndarray, final_obs: Tree) -> Cut:
        rows = np.flatnonzero(cut)
        last = self._layout.encode(final_obs)
        return Cut(step, rows, Observation(last.vector[rows], last.image[rows]))

    def _cut_values(self, cuts: list[Cut], values: Values, shape: tuple[int, int]) -> np.ndarray:
        """``[T, B]``: the values of the last observations of episodes that were cut."""
        result = np.zeros(shape, np.float32)
        if cuts:
            last = Observation(*(np.concatenate(parts) for parts in zip(*(cut.last for cut in cuts))))
            steps = np.repeat([cut.step for cut in cuts], [len(cut.rows) for cut in cuts])
            result[steps, np.concatenate([cut.rows for cut in cuts])] = values(last)
        return result


def _put(arrays: Observation, step: int, values: Observation) -> None:
    for array, value in zip(arrays, values):
        array[step] = value
