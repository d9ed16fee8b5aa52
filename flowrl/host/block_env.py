"""What the ways of stepping that keep their batch in a `Block` have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowrl.host.block import Block
from flowrl.host.episodes import Info
from flowrl.host.interface import StepResult, VecEnv
from flowrl.host.spaces import Tree


class BlockVecEnv(VecEnv):
    """A batch whose rows are in a block.

    Args:
        copy: results are copies that the caller may keep. Without, they are overwritten by the next step, which saves time
            where observations are large.
    """

    def __init__(self, num_envs: int, observation_space, action_space, block: Block, copy: bool):
        super().__init__(num_envs, observation_space, action_space)
        self._block = block
        self._copy = copy

    def get_action_masks(self) -> np.ndarray | None:
        self._check_open()
        masks = self._block.action_masks
        return masks.copy() if masks.shape[1] else None

    def _totals(self) -> tuple[np.ndarray, np.ndarray]:
        return self._block.episode_returns, self._block.episode_lengths

    def _observations(self) -> Tree:
        return self._block.copies()[0] if self._copy else self._block.observations

    def _result(self, infos: Sequence[Info]) -> StepResult:
        block = self._block
        observations, final_obs = block.copies() if self._copy else (block.observations, block.final_obs)
        # Small, so always copies.
        return StepResult(observations, block.rewards.copy(), block.terminated.copy(), block.truncated.copy(), final_obs, infos)
