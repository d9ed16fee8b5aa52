"""``heartbeat``: one line, written by the training loop itself, never by a thread beside it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

WIDTH = 120
"""Characters of the line: always the same, so that a new line overwrites the old one."""


class Activity(StrEnum):
    """What a training is doing. Only while it is `TRAINING` is there a heartbeat for each update."""

    STARTING = "starting"
    COMPILING = "compiling"
    TRAINING = "training"
    PAUSED = "paused"  # the disk is full


@dataclass(frozen=True)
class Heartbeat:
    """What the file holds."""

    attempt: int
    activity: str
    """An `Activity`; a newer flowrl may have more of them."""
    usual_s: float
    """Seconds that an update usually takes; 0 while that is not known."""
    text: str = ""
    """The whole line: two equal lines are the same heartbeat."""


def write(path: Path, beat: Heartbeat) -> None:
    """Writes the line in place: an update may take milliseconds, and a reader that finds half a line looks again.

    Raises:
        OSError: the file cannot be written.
    """
    data = {
        "attempt": beat.attempt,
        "at": round(time.time(), 3),
        "phase": str(beat.activity),
        "usual_s": round(beat.usual_s, 4),
    }
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.write(f"{json.dumps(data):<{WIDTH}}\n".encode())
        file.truncate()


def find(path: Path, attempt: int) -> Heartbeat | None:
    """The heartbeat of this attempt; None if there is none that can be read."""
    try:
        text = path.read_text()
        data = json.loads(text)
        beat = Heartbeat(int(data["attempt"]), str(data["phase"]), float(data["usual_s"]), text)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return beat if beat.attempt == attempt else None
