"""The pause before a failed skill is tried again."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 300.0
"""Jitter makes a pause up to a quarter longer."""


def backoff_s(name: str, retry: int) -> float:
    """Seconds before the ``retry``-th retry (from 1): doubling, with a jitter that depends on the name and the retry alone."""
    base = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (retry - 1))
    return base * random.Random(f"{name}/{retry}").uniform(0.75, 1.25)


def is_due(retry_at: datetime | None, now: datetime) -> bool:
    """Whether a skill may be tried now. A time further away than any backoff means that the clock jumped."""
    if retry_at is None:
        return True
    return retry_at <= now or retry_at - now > timedelta(seconds=2 * MAX_BACKOFF_S)
