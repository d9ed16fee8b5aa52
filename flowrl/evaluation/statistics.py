"""Figures with their uncertainty: rates, means, and the score of Crafter's paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Z_95 = 1.959964
"""Standard deviations on both sides of the mean that hold 95 % of a normal distribution."""


class Interval(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def rate(successes: int, tries: int) -> Interval:
    """A share with the interval of Wilson (1927, *Probable inference, the law of succession, and statistical inference*).

    Raises:
        ValueError: there was no try.
    """
    if tries < 1:
        raise ValueError("a rate needs at least one try")
    share, z_squared = successes / tries, Z_95**2
    centre = (share + z_squared / (2 * tries)) / (1 + z_squared / tries)
    half = Z_95 / (1 + z_squared / tries) * math.sqrt(share * (1 - share) / tries + z_squared / (4 * tries**2))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def difference(successes: tuple[int, int], tries: tuple[int, int]) -> Interval:
    """How much higher the second of two rates is, with Newcombe's hybrid score interval.

    With the shares ``p1``, ``p2`` and their Wilson intervals ``(l1, u1)``, ``(l2, u2)``, the interval of ``d = p2 - p1`` goes
    from ``d - sqrt((p2 - l2)^2 + (u1 - p1)^2)`` to ``d + sqrt((u2 - p2)^2 + (p1 - l1)^2)`` (Newcombe 1998, *Interval
    estimation for the difference between independent proportions: comparison of eleven methods*, method 10). It is made for
    independent tries; where both rates come from the same worlds, which makes them alike, it is too wide rather than too
    narrow.

    Raises:
        ValueError: there was no try for one of them.
    """
    first, second = (rate(done, of) for done, of in zip(successes, tries, strict=True))
    value = second.value - first.value
    low = value - math.hypot(second.value - second.low, first.high - first.value)
    high = value + math.hypot(second.high - second.value, first.value - first.low)
    return Interval(value, low, high)


def mean(values: Sequence[float] | np.ndarray) -> Interval:
    """A mean of independent values, with the normal interval of its standard error; no width where there is one value.

    Raises:
        ValueError: there is no value.
    """
    array = np.asarray(values, float)
    if not len(array):
        raise ValueError("a mean needs at least one value")
    half = Z_95 * array.std(ddof=1) / math.sqrt(len(array)) if len(array) > 1 else 0.0
    return Interval(float(array.mean()), float(array.mean() - half), float(array.mean() + half))


def crafter_score(rates: Sequence[float]) -> float:
    """``exp(mean(ln(1 + s))) - 1`` over achievements unlocked in ``s`` per cent of the episodes (Hafner 2021, equation 1).

    Args:
        rates: 0 to 1, one an achievement.

    Raises:
        ValueError: there is no achievement.
    """
    if not len(rates):
        raise ValueError("a score needs at least one achievement")
    return float(np.exp(np.mean(np.log1p(100 * np.asarray(rates, float)))) - 1)
