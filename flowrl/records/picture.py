"""``pane.json``: what the pane of a run shows, written by a training that has no terminal of its own.

A training on a cluster's node writes it, and the session of its job draws it. Nothing is decided by it. What it says is also in
``metrics.jsonl``, for programs; here it is in the words that are drawn.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json_unsynced


@dataclass(frozen=True)
class Figure:
    """A figure with its course over the run."""

    name: str
    value: str
    course: str
    """A line of blocks: ``▁▂▄▆█``."""


@dataclass(frozen=True)
class Rate:
    """A rate with its bar."""

    name: str
    value: str
    """The rate in digits; ``-`` while it is not known."""
    share: float | None
    """How much of the bar is full, from 0 to 1; None while that is not known."""
    is_good: bool = False
    remark: str = ""
    style: str = ""
    """How its name is drawn, as rich names it: ``cyan``, ``dim``."""


@dataclass(frozen=True)
class Rates:
    """The rate of the whole run, and those of its parts."""

    whole: Rate
    parts: tuple[Rate, ...]
    left_out: Literal["first", "last"]
    """Which parts are left out where there is no room for all."""
    left_out_words: str
    """What those are that are left out, after their number: ``earlier tasks``."""


@dataclass(frozen=True)
class Picture:
    """What a pane shows at one moment, whatever its size."""

    title: str
    phase: str
    """What the run does, such as ``training`` or ``testing 300/512``."""
    phase_began_at: float | None
    """Seconds since the epoch; None: no clock is shown."""
    frames: int
    total_frames: int
    speed: str = ""
    memory: str = ""
    time: str = ""
    """Where the time goes."""
    figures: tuple[Figure, ...] = ()
    rates: Rates | None = None
    """None while there is nothing to show, and where there is nothing to succeed at."""
    note: str = ""
    """Lines below the rates."""


def bar_share(value: float | None) -> float | None:
    """A share as a bar shows it; None for what is not a number, which JSON does not have."""
    return None if value is None or not math.isfinite(value) else value


def write(path: Path, attempt: int, picture: Picture) -> None:
    """Writes the picture, whole, for whoever looks meanwhile.

    Raises:
        OSError: the file cannot be written.
    """
    write_json_unsynced(path, {"attempt": attempt, **asdict(picture)})


def find(path: Path, attempt: int) -> Picture | None:
    """The picture that this attempt has written; None if there is none that can be read."""
    try:
        data = read_json(path)
        return _ADAPTER.validate_python(data) if data["attempt"] == attempt else None
    except (OSError, BadInput, ValidationError, KeyError, TypeError):
        return None


_ADAPTER = TypeAdapter(Picture)
