"""Environments stepped one after the other, in the caller's thread: fastest where a step is cheap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flowrl.host.block import Block
from flowrl.host.block_env import BlockVecEnv
from flowrl.host.episodes import Info
from flowrl.host.group import Group
from flowrl.host.interface import StepResult, check_functions, common_spaces
from flowrl.host.spaces import Tree


class SequentialVecEnv(BlockVecEnv):
    """A batch that is stepped in this thread.

    Args:
        env_fns: one function for each environment, which makes it.
        with_infos: hand on what environments say about each step.
        copy: see `BlockVecEnv`.

    Raises:
        BadInput: the environments have different spaces, or spaces that cannot be stepped.
        EnvironmentFault: an environment could not be made.
    """

    def __init__(self, env_fns: Sequence[Callable[[], Any]], *, with_infos: bool = False, copy: bool = True):
        env_fns = check_functions(env_fns)
        self._group = Group(range(len(env_fns)), env_fns)
        try:
            spaces = common_spaces(self._group.spaces())
            block = Block(len(env_fns), *spaces)
            super().__init__(len(env_fns), *spaces, block, copy)
        except BaseException:
            self._group.close_quietly()
            raise
        self._group.attach(block)
        self._with_infos = with_infos

    def _reset(self, seeds: Sequence[int | None], options: Info | None) -> Tree:
        infos = self._group.reset(seeds, options)
        self.reset_infos = infos if self._with_infos else ()
        return self._observations()

    def _begin_step(self, actions: np.ndarray) -> None:
        self._block.actions[...] = actions

    def _finish_step(self) -> StepResult:
        infos = self._group.step()
        return self._result(infos if self._with_infos else ())

    def _drop_step(self) -> None:
        pass  # it had not begun

    def _close(self) -> None:
        self._group.close()
