"""envpool's environments, which C++ steps, through flowrl's interface. envpool itself is not imported here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowrl.errors import BadInput
from flowrl.host.counted import CountedVecEnv
from flowrl.host.episodes import Info
from flowrl.host.interface import StepResult, VecEnv
from flowrl.host.spaces import Tree, flat, leaves, num_masked, tree


def from_envpool(pool: Any) -> VecEnv:
    """A batch made by ``envpool.make(..., env_type="gymnasium")``.

    envpool would begin an episode one step after the last has ended; here it begins in the same step, as in every other
    batch. envpool takes its seed when the batch is made, so `VecEnv.reset` takes none.

    Raises:
        BadInput: it is not such a batch, or it answers for a part of its environments at a time.
    """
    needed = ("config", "reset", "step", "observation_space", "action_space")
    if missing := [name for name in needed if not hasattr(pool, name)]:
        raise BadInput(
            f"from_envpool takes what envpool.make(..., env_type='gymnasium') returns, found {type(pool).__name__} without "
            f"{missing[0]}"
        )
    num_envs, at_a_time = pool.config["num_envs"], pool.config.get("batch_size", 0)
    if at_a_time not in (0, num_envs):
        raise BadInput(f"batch_size must be num_envs, {num_envs}, found {at_a_time}; make the environments without batch_size")
    return _FromEnvpool(pool, num_envs)


class _FromEnvpool(CountedVecEnv):
    def __init__(self, pool: Any, num_envs: int):
        super().__init__(num_envs, pool.observation_space, pool.action_space)
        self._pool = pool
        self._leaves = leaves(pool.observation_space)
        self._actions = np.zeros(0)

    def get_action_masks(self) -> np.ndarray | None:
        self._check_open()
        size = num_masked(self.single_action_space)
        return None if size is None else np.ones((self.num_envs, size), bool)

    def _begin(self, seeds: Sequence[int | None], options: Info | None) -> Tree:
        if seeds[0] is not None:
            raise BadInput("envpool takes its seed when it is made: envpool.make(..., seed=...); call reset() without one")
        if options:
            raise BadInput("envpool's reset takes no options; call reset() without them")
        return tree(self._leaves, self._arrays(self._pool.reset()[0]))

    def _begin_step(self, actions: np.ndarray) -> None:
        self._actions = actions.astype(self._action.dtype)

    def _step(self) -> StepResult:
        observations, rewards, terminated, truncated, _ = self._pool.step(self._actions)
        final = self._arrays(observations)
        current = [array.copy() for array in final]
        terminated, truncated = np.array(terminated, bool), np.array(truncated, bool)
        ended = np.flatnonzero(terminated | truncated).astype(np.int32)
        if ended.size:
            for array, first in zip(current, self._arrays(self._pool.reset(ended)[0])):
                array[ended] = first
        return StepResult(
            tree(self._leaves, current), np.array(rewards, np.float64), terminated, truncated, tree(self._leaves, final)
        )

    def _arrays(self, observations: Tree) -> list[np.ndarray]:
        return [np.array(array) for array in flat(self._leaves, observations)]

    def _close(self) -> None:
        self._pool.close()
