"""The eight symmetries of a square, applied to what an agent sees: a turned landscape in a turned wind burns the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowrl.fire.breaks.observation import VECTORS

NUM_TURNS = 4


def symmetries_of(shape: tuple[int, int]) -> list[tuple[int, bool]]:
    """Quarter turns and whether to mirror first, for areas of this shape: eight, or four if it is no square."""
    turns = range(NUM_TURNS) if shape[0] == shape[1] else range(0, NUM_TURNS, 2)
    return [(turn, mirror) for turn in turns for mirror in (False, True)]


def transformed(maps: np.ndarray, turns: int, mirror: bool) -> np.ndarray:
    """Maps ``[..., H, W]``, mirrored from east to west if asked for, then turned counter-clockwise by quarters."""
    return np.rot90(maps[..., ::-1] if mirror else maps, turns, axes=(-2, -1))


def transformed_observations(
    observations: np.ndarray, turns: int, mirror: bool, vectors: Sequence[tuple[int, int]] = VECTORS
) -> np.ndarray:
    """Observations ``[B, C, H, W]`` of the transformed area: maps, and the parts of vectors.

    Args:
        vectors: channels that are the east and the north part of a vector.
    """
    found = transformed(observations, turns, mirror).copy()
    for east, north in vectors:
        right, up = found[:, east].copy(), found[:, north].copy()
        if mirror:
            right = -right
        for _ in range(turns % NUM_TURNS):
            right, up = -up, right
        found[:, east], found[:, north] = right, up
    return found
