"""A figure over a run as a line of blocks: ``▁▂▄▆█``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

BLOCKS = "▁▂▃▄▅▆▇█"


class Curve:
    """The course of a figure in a bounded number of points, each the mean of equally many updates.

    Args:
        width: points that are drawn at most.
    """

    def __init__(self, width: int):
        self._width = width
        self._points: list[float] = []
        self._open: list[float] = []
        self._values_per_point = 1

    def add(self, value: float) -> None:
        """The figure after one more update; what is not a number is left out."""
        if not math.isfinite(value):
            return
        self._open.append(value)
        if len(self._open) == self._values_per_point:
            self._points.append(fmean(self._open))
            self._open = []
        if len(self._points) == 2 * self._width:
            self._points = [fmean(pair) for pair in zip(self._points[::2], self._points[1::2], strict=True)]
            self._values_per_point *= 2

    def drawn(self) -> str:
        """At most ``width`` blocks, from the first update to the latest."""
        points = [*self._points, *([fmean(self._open)] if self._open else [])]
        at_once = -(-len(points) // self._width) if points else 1
        return sparkline([fmean(points[first : first + at_once]) for first in range(0, len(points), at_once)])


def sparkline(values: Sequence[float]) -> str:
    """A block for each value; the lowest is ``▁`` and the highest ``█``. Values that are all the same lie in the middle."""
    if not values:
        return ""
    low, high = min(values), max(values)
    if high == low:
        return BLOCKS[len(BLOCKS) // 2] * len(values)
    return "".join(BLOCKS[min(int((value - low) / (high - low) * len(BLOCKS)), len(BLOCKS) - 1)] for value in values)
