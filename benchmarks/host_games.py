"""Environments for benchmarks of `flowrl.host`; worker processes import them too."""

from __future__ import annotations

import time

import gymnasium
import numpy as np
from gymnasium import spaces

STEP_S = 2e-3
EPISODE_STEPS = 200


class Steps(gymnasium.Env):
    """Episodes of a fixed length, in which nothing is to be learned."""

    def __init__(self):
        self.observation_space = spaces.Box(-1, 1, (4,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._seen = np.zeros(4, np.float32)
        self._at = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._at = 0
        return self._seen, {}

    def step(self, action):
        self.work()
        self._at += 1
        return self._seen, 1.0, False, self._at == EPISODE_STEPS, {}

    def work(self) -> None:
        """What a step costs."""


class Busy(Steps):
    """A step computes in Python for 2 ms of processor time, so that a core that is taken away does not make it cheaper."""

    def work(self):
        until = time.thread_time() + STEP_S
        while time.thread_time() < until:
            pass


class Waiting(Steps):
    """A step waits for 2 ms, as for a server or a device."""

    def work(self):
        time.sleep(STEP_S)


class Images(Steps):
    """A step draws an image of 84 x 84 in four channels."""

    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (84, 84, 4), np.uint8)
        self._seen = np.zeros((84, 84, 4), np.uint8)

    def work(self):
        self._seen = self._seen + np.uint8(1)


def cartpole() -> gymnasium.Env:
    """The cheap one: a step takes some microseconds."""
    return gymnasium.make("CartPole-v1")
