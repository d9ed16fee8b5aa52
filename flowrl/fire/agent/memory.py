"""Replay memory: a ring of experiences in numpy, and a part for demonstrations that nothing overwrites."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowrl.errors import BadInput


class Experiences(NamedTuple):
    """``N`` experiences.

    Attributes:
        observations: float32 ``[N, C, H, W]``.
        allowed: bool ``[N, H * W]``, the cells that could be chosen.
        chosen: bool ``[N, H * W]``, the cells that were placed, all of which get the same target; of a demonstration, all
            cells that were right.
        returns: float32 ``[N]``, discounted rewards up to ``later``, or to the episode's end.
        discounts: float32 ``[N]``, what the value of ``later`` counts; 0 if the episode ended before.
        later: float32 ``[N, C, H, W]``, the observation some steps later.
        later_allowed: bool ``[N, H * W]``.
        demonstrated: bool ``[N]``: ``chosen`` were right, and better than all others. The return of a demonstration is
            complete: ``later`` is not looked at.
    """

    observations: np.ndarray
    allowed: np.ndarray
    chosen: np.ndarray
    returns: np.ndarray
    discounts: np.ndarray
    later: np.ndarray
    later_allowed: np.ndarray
    demonstrated: np.ndarray


def joined(parts: list[Experiences]) -> Experiences:
    """One after the other."""
    return Experiences(*(np.concatenate(values) for values in zip(*parts, strict=True)))


class ReplayMemory:
    """The newest ``capacity`` experiences.

    Channels that do not change while an episode lasts are kept once for each area, and the others as float16: a 20 x 20 area
    takes 5 KB for each experience instead of 48. Observations of which nothing is known are kept as they are.

    Args:
        num_fixed: channels at the beginning of an observation that stay in an episode; 0 if that is not known. The others are
            then taken to be flowrl's own: the breaks, and shares from 0 to 1.
    """

    def __init__(self, capacity: int, observation_shape: tuple[int, int, int], num_fixed: int):
        if capacity < 1:
            raise BadInput(f"buffer_size must be at least 1, found {capacity}")
        channels, rows, columns = observation_shape
        changing, cells = (capacity, channels - num_fixed, rows, columns), (capacity, -(-rows * columns // 8))
        self._num_fixed, self._num_cells, self.capacity = num_fixed, rows * columns, capacity
        self._fixed: list[np.ndarray] = []
        self._number_of: dict[bytes, int] = {}
        self._areas = np.zeros(capacity, np.int32)
        kept_as = np.float16 if num_fixed else np.float32  # somebody else's values may exceed what 16 bits hold
        self._now, self._later = np.zeros(changing, kept_as), np.zeros(changing, kept_as)
        self._bits = [np.zeros(cells, np.uint8) for _ in range(3)]
        self._numbers = np.zeros((capacity, 2), np.float32)
        self._demonstrated = np.zeros(capacity, bool)
        self._next, self.size = 0, 0

    def add(self, found: Experiences) -> None:
        """Adds experiences; the oldest give way."""
        count = len(found.returns)
        rows = (self._next + np.arange(count)) % self.capacity
        self._areas[rows] = [self._area(observation[: self._num_fixed]) for observation in found.observations]
        self._now[rows] = found.observations[:, self._num_fixed :]
        self._later[rows] = found.later[:, self._num_fixed :]
        for bits, flags in zip(self._bits, (found.allowed, found.chosen, found.later_allowed), strict=True):
            bits[rows] = np.packbits(flags, axis=1)
        self._numbers[rows] = np.stack([found.returns, found.discounts], axis=1)
        self._demonstrated[rows] = found.demonstrated
        self._next = int((self._next + count) % self.capacity)
        self.size = min(self.size + count, self.capacity)

    def forget_area(self, observation: np.ndarray) -> None:
        """Drops the experiences of the area that an observation ``[C, H, W]`` shows."""
        number = self._number_of.get(observation[: self._num_fixed].tobytes())
        if number is None:
            return
        kept = np.flatnonzero(self._areas[: self.size] != number)
        for values in (self._areas, self._now, self._later, *self._bits, self._numbers, self._demonstrated):
            values[: len(kept)] = values[kept]
        self.size = len(kept)
        self._next = self.size % self.capacity

    def sample(self, rng: np.random.Generator, count: int) -> Experiences:
        """``count`` experiences, each equally likely, with replacement."""
        rows = rng.integers(self.size, size=count)
        allowed, chosen, later_allowed = (
            np.unpackbits(bits[rows], axis=1, count=self._num_cells).astype(bool) for bits in self._bits
        )
        returns, discounts = self._numbers[rows].T
        return Experiences(
            self._whole(rows, self._now), allowed, chosen, returns, discounts, self._whole(rows, self._later), later_allowed,
            self._demonstrated[rows],
        )  # fmt: skip

    def _area(self, fixed: np.ndarray) -> int:
        key = fixed.tobytes()
        if key not in self._number_of:
            self._number_of[key] = len(self._fixed)
            self._fixed.append(fixed.copy())
        return self._number_of[key]

    def _whole(self, rows: np.ndarray, changing: np.ndarray) -> np.ndarray:
        fixed = np.stack([self._fixed[number] for number in self._areas[rows]])
        return np.concatenate([fixed, changing[rows].astype(np.float32)], axis=1)
