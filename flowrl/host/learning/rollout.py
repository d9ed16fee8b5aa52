"""Collects the steps that an update learns from."""

from __future__ import annotations

import numpy as np

from flowrl.host.interface import VecEnv
from flowrl.host.learning.actions import Actions
from flowrl.host.learning.numpy_policy import Policy
from flowrl.host.learning.observations import Layout
from flowrl.host.learning.ppo import Rollout
from flowrl.host.learning.steps import Stepper, Values, truncation_values


class Collector:
    """Steps a batch of environments with a policy, from rollout to rollout.

    Args:
        learns_from_signs: keep only the sign of each reward.
    """

    def __init__(self, env: VecEnv, layout: Layout, actions: Actions, num_steps: int, learns_from_signs: bool = False):
        self._stepper = Stepper(env, layout, actions, learns_from_signs)
        self._num_steps = num_steps

    def reset(self, seed: int) -> None:
        """Begins new episodes; environment *i* is seeded with ``seed + i``."""
        self._stepper.reset(seed)

    def collect(self, policy: Policy, values: Values, random: np.random.Generator) -> Rollout:
        """The next ``num_steps`` steps. An interrupt or a fault leaves the collector to be reset.

        Args:
            values: expected returns by the learner's parameters, for episodes that are cut.
            random: decides; a rollout depends on nothing else but the environments.
        """
        steps = self._stepper.blank(self._num_steps)
        self._stepper.fill(steps, policy, random)
        return Rollout(
            observation=steps.observation,
            last_observation=steps.last_observation,
            decision=steps.decision,
            masks=steps.masks,
            reward=steps.reward,
            continues=steps.continues,
            truncation_value=truncation_values(steps, values),
        )
