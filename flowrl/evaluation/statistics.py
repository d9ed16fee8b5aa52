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
