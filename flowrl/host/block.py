"""The arrays of a batch, side by side in one piece of memory: what goes to the environments, and what comes back."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from flowrl.errors import NoRoom
from flowrl.host.spaces import Leaf, Rows, Tree, action_leaf, leaves, num_masked, tree

_ALIGNED = 64
"""Bytes of a cache line: arrays begin on one."""

Shapes = Sequence[tuple[tuple[int, ...], np.dtype]]
"""Shape and dtype of each of several arrays."""


class Block:
    """The arrays of ``num_envs`` environments. Each side of a shared block makes its own from the same spaces.

    Row *i* belongs to environment *i*.

    Attributes:
        actions: ``[num_envs, *action_shape]``.
        rewards: ``[num_envs]``, float64.
        terminated, truncated: ``[num_envs]``, bool.
        action_masks: ``[num_envs, num_choices]``, bool: true where an action is allowed. Whoever steps an environment
            sets its row. No columns if actions are a Box.
        episode_returns, episode_lengths: ``[num_envs]``, of the episode that the last step belonged to.
    """

    def __init__(self, num_envs: int, observation_space: spaces.Space, action_space: spaces.Space, memory: Any = None):
        """
        Args:
            memory: a buffer of at least `num_bytes`, zeroed when it was made; None for memory of our own.
        """
        self._leaves = leaves(observation_space)
        shapes = _shapes(num_envs, self._leaves, action_space)
        arrays = placed(shapes, bytearray(size_of(shapes)) if memory is None else memory)
        count = len(self._leaves)
        self._observations, self._final = arrays[:count], arrays[count : 2 * count]
        (self.actions, self.rewards, self.terminated, self.truncated, self.action_masks, self.episode_returns,
         self.episode_lengths) = arrays[2 * count :]  # fmt: skip

    @property
    def observations(self) -> Tree:
        """``[num_envs, *shape]`` for each leaf."""
        return tree(self._leaves, self._observations)

    @property
    def final_obs(self) -> Tree:
        """Like `observations`; a row counts only where an episode has just ended."""
        return tree(self._leaves, self._final)

    def copies(self) -> tuple[Tree, Tree]:
        """`observations` and `final_obs`, which later steps do not change."""
        found = ([array.copy() for array in arrays] for arrays in (self._observations, self._final))
        return tuple(tree(self._leaves, arrays) for arrays in found)

    def observation_rows(self) -> Rows:
        return Rows(self._leaves, self._observations)

    def final_rows(self) -> Rows:
        return Rows(self._leaves, self._final)


def num_bytes(num_envs: int, observation_space: spaces.Space, action_space: spaces.Space) -> int:
    """The size of a `Block`."""
    return size_of(_shapes(num_envs, leaves(observation_space), action_space))


def shared_memory(size: int, whose: str = "the environments") -> int:
    """Makes memory that processes can share, and returns its descriptor.

    The memory has no name: a process can have it only from one that has it, and the system frees it when the last of them
    ends, however it ends. So nothing has to be removed, and nothing can be left behind.

    Args:
        whose: who needs it, for the message.

    Raises:
        NoRoom: the machine has not that much memory.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("flowrl-host")
    else:
        with tempfile.TemporaryFile(prefix="flowrl-host-") as file:  # removed as it is made, and kept by its descriptors
            descriptor = os.dup(file.fileno())
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)  # taken now: memory that runs out later would end us with SIGBUS
        else:
            os.ftruncate(descriptor, size)
    except OSError as error:
        os.close(descriptor)
        raise NoRoom(f"{whose} need {size / 1e6:,.0f} MB of shared memory, which is not available: {error}") from None
    return descriptor


def attached(descriptor: int) -> mmap.mmap:
    """The memory behind a descriptor, which may be closed afterwards."""
    return mmap.mmap(descriptor, os.fstat(descriptor).st_size)


def _shapes(num_envs: int, observation: Sequence[Leaf], action_space: spaces.Space) -> Shapes:
    action = action_leaf(action_space)
    flags = np.dtype(bool)
    found = [((num_envs, *leaf.shape), leaf.dtype) for leaf in observation]
    return [
        *found,
        *found,
        ((num_envs, *action.shape), action.dtype),
        ((num_envs,), np.dtype(np.float64)),
        ((num_envs,), flags),
        ((num_envs,), flags),
        ((num_envs, num_masked(action_space) or 0), flags),
        ((num_envs,), np.dtype(np.float64)),
        ((num_envs,), np.dtype(np.int64)),
    ]


def placed(shapes: Shapes, memory: Any) -> list[np.ndarray]:
    """Arrays side by side in memory of at least `size_of` bytes."""
    arrays, start = [], 0
    for shape, dtype in shapes:
        arrays.append(np.frombuffer(memory, dtype, math.prod(shape), start).reshape(shape))
        start += _padded(shape, dtype)
    return arrays


def size_of(shapes: Shapes) -> int:
    """Bytes that arrays take side by side."""
    return sum(_padded(shape, dtype) for shape, dtype in shapes)


def _padded(shape: tuple[int, ...], dtype: np.dtype) -> int:
    # At least one line, since no array can begin behind the end of the memory.
    return max(1, -(-math.prod(shape) * dtype.itemsize // _ALIGNED)) * _ALIGNED
