"""Numbers as a pane and a line of a log show them; a report shows rates so too."""

from __future__ import annotations

import math


def duration(seconds: float) -> str:
    """``1:02:03``, or ``2:03`` below an hour; ``?`` for what is not a number."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def rate_text(rate: float | None) -> str:
    """Two decimals; ``-`` for what is not known."""
    return "-" if rate is None else f"{rate:.2f}"


def share(part: int, whole: int) -> str:
    """A share as a percentage."""
    return f"{100 * part / max(whole, 1):.0f}%"
