"""Versioned parameters in shared memory: one process writes them, others read the newest whenever they like.

Nobody waits for anybody. There is room for two versions: the writer replaces the older one, so a reader is disturbed only if
two versions are written while it copies one. It notices that, and copies again.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowrl.host.block import Shapes

_VERSIONS = 2
_RETRY_S = 1e-4


class Place(NamedTuple):
    """One array of the parameters.

    Attributes:
        path: the keys that lead to it.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]


def parameter_shapes(num_parameters: int) -> Shapes:
    """The arrays of `SharedParameters`, in the order that it takes."""
    counts = np.dtype(np.int64)
    return [
        ((1,), counts),
        ((_VERSIONS,), counts),
        ((_VERSIONS,), counts),
        ((_VERSIONS, num_parameters), np.dtype(np.float32)),
    ]


class SharedParameters:
    """
    Args:
        arrays: of `parameter_shapes`; all zero before the first version is published.
    """

    def __init__(self, arrays: Sequence[np.ndarray]):
        # Versions are stored plus 1: 0 means that there is none.
        self._newest, self._versions, self._checksums, self._values = arrays

    def publish(self, version: int, values: np.ndarray) -> None:
        """Makes a version the newest. Only one process may do so, and one version after the other.

        Args:
            values: float32 ``[num_parameters]``.
        """
        place = version % _VERSIONS
        self._versions[place] = 0
        self._values[place] = values
        self._checksums[place] = zlib.crc32(self._values[place])
        self._versions[place] = version + 1
        self._newest[0] = version + 1

    def newest(self) -> tuple[int, np.ndarray]:
        """The newest version and a copy of its values; waits for the first one.

        What is copied is whole: its version must be the same before and after, and its checksum must be right. The checksum
        also finds what an order of writes would hide that a processor may change.
        """
        while (found := self._copied()) is None:
            time.sleep(_RETRY_S)
        return found

    def _copied(self) -> tuple[int, np.ndarray] | None:
        newest = int(self._newest[0])
        place = (newest - 1) % _VERSIONS
        if not newest or self._versions[place] != newest:
            return None
        values, checksum = self._values[place].copy(), int(self._checksums[place])
        if self._versions[place] != newest or zlib.crc32(values) != checksum:
            return None
        return newest - 1, values


def places(params: Mapping[str, Any]) -> list[Place]:
    """The arrays of nested dicts, in a fixed order."""
    found = []
    for key in sorted(params):
        value = params[key]
        if isinstance(value, Mapping):
            found += [Place((key, *place.path), place.shape) for place in places(value)]
        else:
            found.append(Place((key,), tuple(np.shape(value))))
    return found


def num_parameters(found: Sequence[Place]) -> int:
    """Numbers in all arrays together."""
    return sum(math.prod(place.shape) for place in found)


def flat(params: Mapping[str, Any], found: Sequence[Place]) -> np.ndarray:
    """Nested dicts of arrays as one vector, float32 ``[num_parameters]``."""
    arrays = []
    for place in found:
        value: Any = params
        for key in place.path:
            value = value[key]
        arrays.append(np.asarray(value, np.float32).reshape(-1))
    return np.concatenate(arrays)


def nested(values: np.ndarray, found: Sequence[Place]) -> dict[str, Any]:
    """The reverse of `flat`; the arrays are parts of ``values``."""
    result: dict[str, Any] = {}
    start = 0
    for place in found:
        inner = result
        for key in place.path[:-1]:
            inner = inner.setdefault(key, {})
        size = math.prod(place.shape)
        inner[place.path[-1]] = values[start : start + size].reshape(place.shape)
        start += size
    return result
