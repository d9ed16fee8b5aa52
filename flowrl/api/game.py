"""A game as an environment: whole episodes, on the game's own reward."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from flowrl.api.environment import Environment
from flowrl.envs.adapter import GameAdapter
from flowrl.envs.features import task_inputs
from flowrl.envs.readings import goal_names, make_own_reward, make_reader


class GameEnvironment(Environment):
    """Episodes from a fresh world until the game is over; there is no time limit.

    The state is the game's own. The reward is the game's own, 0 if it declares none. ``info["goals"]`` says which of
    `goal_names` are unlocked, bool ``[A]``. There are no ``params``.
    """

    def __init__(self, adapter: GameAdapter):
        super().__init__(adapter)
        self.goal_names = goal_names(adapter)
        self._reward, self._read = make_own_reward(adapter), make_reader(adapter, ())

    @property
    def name(self):
        return self.adapter.env_name

    @property
    def default_params(self):
        return ()

    def reset_env(self, key, params):
        return self.adapter.reset(key)

    def step_env(self, key, state, action, params):
        before = self.adapter.features(state)
        observation, state, done = self.adapter.step(key, state, action)
        after = self.adapter.features(state)
        info = {
            "goals": self._read(after).goals,
            "terminated": done,
            "truncated": jnp.zeros_like(done),
            "final_observation": observation,
        }
        return observation, state, self._reward(task_inputs(before, after, 0)), done, info

    def goals_in(self, state) -> jax.Array:
        """Which goals are unlocked in a state, bool ``[A]``."""
        return self._read(self.adapter.features(state)).goals
