"""A skill as a Gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium import spaces

from flowrl.api.skill import SkillEnvironment, SkillState


class GymnasiumSkill(gymnasium.Env):
    """One environment, stepped from Python. ``info`` has ``task`` (the name of the active task's skill), ``task_done`` and
    ``success``."""

    metadata = {"render_modes": []}

    def __init__(self, env: SkillEnvironment):
        self.env = env
        self.action_space = spaces.Discrete(env.num_actions)
        self.observation_space = spaces.Box(-np.inf, np.inf, (env.adapter.observation_size,), np.float32)
        self._step = jax.jit(env.step_env)
        self._state: SkillState | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        observation, self._state = self.env.reset(self._key())
        return np.asarray(observation), {"task": self.env.task_names[0]}

    def step(self, action):
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        observation, state, reward, done, info = self._step(self._key(), self._state, action, self.env.default_params)
        self._state = None if done else state
        shown = {
            "task": self.env.task_names[int(info["task"])],
            "task_done": bool(info["task_done"]),
            "success": bool(info["success"]),
        }
        return np.asarray(observation), float(reward), bool(info["terminated"]), bool(info["truncated"]), shown

    def _key(self) -> jax.Array:
        return jax.random.key(self.np_random.integers(2**32, dtype=np.uint32))
