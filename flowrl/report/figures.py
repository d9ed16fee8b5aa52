"""Numbers in a form that people read."""

from __future__ import annotations

from datetime import datetime


def frames_text(frames: int | None) -> str:
    """``1.2M`` for 1,234,567; ``-`` for what is not known."""
    if frames is None:
        return "-"
    for size, suffix in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if frames >= size:
            return f"{frames / size:.1f}{suffix}"
    return str(frames)


def minutes_text(minutes: float | None) -> str:
    """One decimal, ``-`` for what is not known."""
    return "-" if minutes is None else f"{minutes:.1f}"


def moment(text: str | None) -> datetime | None:
    """A time in the state file (ISO 8601 with its zone)."""
    return None if text is None else datetime.fromisoformat(text)


def duration_text(seconds: float) -> str:
    """``45 s``, ``12 min``, ``2 h 05 min`` or ``3 d 4 h``: two places at most."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"


def plain(text: str) -> str:
    """One line without control characters: names and errors may come from a model, and must not steer the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
