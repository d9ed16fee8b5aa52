"""Environments made for tests; worker processes import them too."""

from __future__ import annotations

import os
import sys
import time

import gymnasium
import numpy as np
from gymnasium import spaces


class Count(gymnasium.Env):
    """An episode of ``length`` steps. The observation is ``[episode, step]``, both counted from 0, the reward the step."""

    def __init__(self, length: int = 3, cut: bool = False):
        self.observation_space = spaces.Box(0, 1000, (2,), np.float32)
        self.action_space = spaces.Discrete(3)
        self.length, self.cut = length, cut
        self.episode, self.at = -1, 0
        self.seeds = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append((type(seed).__name__, seed))
        self.episode, self.at = self.episode + 1, 0
        return self._observation(), {"seeds": list(self.seeds), "options": options}

    def step(self, action):
        self.at += 1
        over = self.at == self.length
        return self._observation(), float(self.at), over and not self.cut, over and self.cut, {"at": self.at}

    def _observation(self):
        return np.array([self.episode, self.at], np.float32)


class Rich(gymnasium.Env):
    """Every kind of observation at once, at random; actions are several choices, some of them forbidden."""

    def __init__(self):
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (6, 5, 3), np.uint8),
                "inner": spaces.Dict({"kind": spaces.Discrete(7), "kinds": spaces.MultiDiscrete([3, 4])}),
                "size": spaces.Box(-1, 1, (2,), np.float64),
            }
        )
        self.action_space = spaces.MultiDiscrete([3, 2])
        self.total = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.total = 0
        return self._observation(), {}

    def step(self, action):
        self.total += int(action.sum())
        over = self.np_random.random() < 0.1
        return self._observation(), float(self.np_random.normal()), bool(over), self.total > 20, {}

    def action_masks(self):
        mask = np.ones(5, bool)
        mask[self.total % 5] = False
        return mask

    def _observation(self):
        random = self.np_random
        return {
            "image": random.integers(0, 256, (6, 5, 3), dtype=np.uint8),
            "inner": {"kind": random.integers(7), "kinds": random.integers(0, 3, 2)},
            "size": np.full(2, self.total / 100),
        }


class Pushed(gymnasium.Env):
    """Actions are forces; the observation is the sum of all, in which each action object is looked at again and again."""

    def __init__(self):
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.forces = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.forces = [self.np_random.random(2)]
        return np.sum(self.forces, axis=0), {}  # float64: may become float32

    def step(self, action):
        self.forces.append(action)
        return np.sum(self.forces, axis=0), 1, False, len(self.forces) > 9, {}


class Masked(Count):
    """Says in ``info`` which of its three actions are allowed: in step ``t``, all but ``t % 3``."""

    def reset(self, *, seed=None, options=None):
        observation, _ = super().reset(seed=seed, options=options)
        return observation, {"action_mask": self._mask()}

    def step(self, action):
        *rest, _ = super().step(action)
        return *rest, {"action_mask": self._mask()}

    def _mask(self):
        return (np.arange(3) != self.at % 3).astype(np.int8)


class Broken(Count):
    """Does something wrong, by name."""

    def __init__(self, how: str, length: int = 100):
        super().__init__(length)
        self.how = how
        if how == "make":
            raise RuntimeError("no such level")
        if how == "space":
            self.observation_space = spaces.Box(0, 1000, (3,), np.float32)
        if how == "action space":
            self.action_space = spaces.Discrete(4)
        if how == "tuple space":
            self.observation_space = spaces.Tuple([spaces.Discrete(2)])

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed, options=options)
        if self.how == "reset raises":
            raise ValueError("no map")
        if self.how == "reset without info":
            return observation
        if self.how == "reset shape":
            return np.zeros(1, np.float32), info
        return observation, info

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        match self.how:
            case "raises":
                raise ValueError("the wheel is gone")
            case "four":
                return observation, reward, terminated, info
            case "shape":
                return np.zeros((1, 2), np.float32), reward, terminated, truncated, info
            case "scalar":
                return 3.0, reward, terminated, truncated, info
            case "text":
                return "left", reward, terminated, truncated, info
            case "reward":
                return observation, None, terminated, truncated, info
            case "flag":
                return observation, reward, None, truncated, info
            case "mask":
                return observation, reward, terminated, truncated, {"action_mask": np.ones(7, bool)}
            case "hangs":
                time.sleep(3600)
            case "exits":
                os._exit(3)
            case "says a lock":
                return observation, reward, terminated, truncated, {"lock": (print for _ in ())}
        return observation, reward, terminated, truncated, info

    def close(self):
        if self.how == "close":
            raise ValueError("the door is stuck")


class Leaves(Count):
    """Leaves a file behind when it is closed."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def close(self):
        with open(self.path, "a") as file:
            file.write("closed\n")


class Gated(Count):
    """A step waits until a file exists."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def step(self, action):
        while not os.path.exists(self.path):
            time.sleep(0.01)
        return super().step(action)


class Modules(Count):
    """Says which of some modules this process has imported."""

    def reset(self, *, seed=None, options=None):
        observation, _ = super().reset(seed=seed)
        return observation, {"imported": [name for name in ("jax", "jaxlib", "flax", "optax") if name in sys.modules]}


class Guess(gymnasium.Env):
    """Shows which action pays, for one step: what any learner learns within seconds.

    Args:
        kind: of observations and actions: ``choice``, ``choices``, ``number``, ``image`` or ``masked`` (nothing is shown, and
            only the action that pays is allowed).
    """

    def __init__(self, kind: str):
        self.kind = kind
        self.observation_space = {
            "choice": spaces.Discrete(2, start=3),
            "choices": spaces.MultiDiscrete([2, 2]),
            "number": spaces.Box(-1, 1, (1,), np.float32),
            "image": spaces.Box(0, 255, (8, 8), np.uint8),
            "masked": spaces.Box(0, 1, (1,), np.float32),
        }[kind]
        self.action_space = {
            "choices": spaces.MultiDiscrete([2, 2]),
            "number": spaces.Box(-4, 4, (1,), np.float32),
        }.get(kind, spaces.Discrete(2, start=7))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.shown = self.np_random.integers(0, 2, 2)
        return self._observation(), self._info()

    def step(self, action):
        match self.kind:
            case "choices":
                reward = float(np.mean(action == self.shown))
            case "number":  # 2 or -2 is right, within the bounds of 4
                reward = 1 - abs(float(action[0]) - (4 * self.shown[0] - 2))
            case _:
                reward = float(action - 7 == self.shown[0])
        return self._observation(), reward, True, False, self._info()

    def _observation(self):
        first = self.shown[0]
        match self.kind:
            case "choice":
                return 3 + first
            case "choices":
                return self.shown.copy()
            case "number":
                return np.array([2 * first - 1], np.float32)
            case "image":
                image = np.zeros((8, 8), np.uint8)
                image[:, 4 * first : 4 * first + 4] = 255
                return image
        return np.zeros(1, np.float32)

    def _info(self):
        return {"action_mask": (np.arange(2) == self.shown[0]).astype(np.int8)} if self.kind == "masked" else {}


class Slow(Count):
    """Steps that take so long that a training of them does not end by itself."""

    def __init__(self):
        super().__init__(length=8)

    def step(self, action):
        time.sleep(0.002)
        return super().step(action)


class Fragile(Count):
    """Fails in its 40th step."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 40:
            raise ValueError("the wheel is gone")
        return super().step(action)


class NoJax(Count):
    """Fails where JAX is loaded."""

    def step(self, action):
        assert not {"jax", "jaxlib"} & sys.modules.keys(), "JAX is loaded"
        return super().step(action)


class GuessChoice(Guess):
    """`Guess` by a name without arguments."""

    def __init__(self):
        super().__init__("choice")


class GuessNumber(Guess):
    def __init__(self):
        super().__init__("number")


class GuessImage(Guess):
    def __init__(self):
        super().__init__("image")


class HangsLater(Count):
    """Hangs in its 20th step."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 20:
            time.sleep(3600)
        return super().step(action)


class Cut(Count):
    """Episodes of five steps that are cut."""

    def __init__(self):
        super().__init__(length=5, cut=True)
