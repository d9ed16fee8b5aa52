"""Compresses arrays that a run does not need for a while: the training's games during a test.

A test for the goal plays as many environments as training does, so both would be in memory at once. Game states consist
mostly of a few repeated numbers, so they compress well.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.training.host import heap

LEAST_BYTES = 2**20
"""Arrays smaller than this stay as they are."""

FASTEST = 1


class _Packed(NamedTuple):
    data: bytes
    shape: tuple[int, ...]
    dtype: np.dtype


class Compressed:
    """A tree of arrays that takes little memory until it is restored, bit for bit."""

    def __init__(self, tree: Any):
        """
        Args:
            tree: its large arrays are deleted, so that their memory is free until `restore`.
        """
        leaves, self._structure = jax.tree.flatten(tree)
        self._leaves = [_packed(leaf) if leaf.nbytes >= LEAST_BYTES else leaf for leaf in leaves]
        heap.give_back()

    def restore(self) -> Any:
        """The tree; can be called once."""
        leaves = []
        while self._leaves:
            leaf = self._leaves.pop(0)
            leaves.append(_unpacked(leaf) if isinstance(leaf, _Packed) else leaf)
        heap.give_back()  # what was used in between
        return jax.tree.unflatten(self._structure, leaves)


def _packed(leaf: jax.Array) -> _Packed:
    packed = _Packed(zlib.compress(np.ascontiguousarray(leaf), FASTEST), leaf.shape, leaf.dtype)
    leaf.delete()
    return packed


def _unpacked(packed: _Packed) -> jax.Array:
    return jnp.asarray(np.frombuffer(zlib.decompress(packed.data), packed.dtype).reshape(packed.shape))
