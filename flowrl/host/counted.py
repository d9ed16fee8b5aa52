"""Batches that somebody else steps and that do not count their episodes: they are counted here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from flowrl.host.episodes import Info
from flowrl.host.interface import StepResult, VecEnv
from flowrl.host.spaces import Tree


class CountedVecEnv(VecEnv):
    """A batch with the return and the length of each environment's episode."""

    def __init__(self, num_envs: int, observation_space, action_space):
        super().__init__(num_envs, observation_space, action_space)
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs, np.int64)
        self._over = np.ones(num_envs, bool)

    @abstractmethod
    def _begin(self, seeds: Sequence[int | None], options: Info | None) -> Tree: ...

    @abstractmethod
    def _step(self) -> StepResult: ...

    def _reset(self, seeds: Sequence[int | None], options: Info | None) -> Tree:
        self._over[:] = True
        return self._begin(seeds, options)

    def _finish_step(self) -> StepResult:
        result = self._step()
        self._returns[self._over], self._lengths[self._over] = 0.0, 0
        self._returns += result.rewards
        self._lengths += 1
        self._over = result.terminated | result.truncated
        return result

    def _totals(self) -> tuple[np.ndarray, np.ndarray]:
        return self._returns, self._lengths

    def _drop_step(self) -> None:
        pass  # a step is taken as a whole
