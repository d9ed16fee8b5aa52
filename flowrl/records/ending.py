"""``run.exit``: how the process of an attempt ended. Its parent, the keeper, writes it: a killed process cannot."""

from __future__ import annotations

import signal
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json


@dataclass(frozen=True)
class Ending:
    """How the training of an attempt ended. One of ``code`` and ``signal`` is set; neither if it is not known."""

    attempt: int
    code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    """Whether the kernel killed it because memory ran out."""
    ended_at: str | None = field(default=None, compare=False)
    """ISO 8601, UTC."""
    asked_to_stop: bool = False
    """Whether the engine asked the training to stop, as a cluster does when a job's time is nearly over."""

    def __str__(self) -> str:
        if self.signal is not None:
            name = _signal_name(self.signal)
            return f"was ended by the kernel: memory ran out ({name})" if self.out_of_memory else f"was ended by {name}"
        return f"ended with exit code {self.code}" if self.code else "ended"


def write(path: Path, ending: Ending) -> None:
    """Writes the ending, whole."""
    write_json(path, asdict(ending))


def find(path: Path, attempt: int) -> Ending | None:
    """How this attempt ended; None if that is not recorded."""
    try:
        data = read_json(path)
        if data["attempt"] != attempt:
            return None
        return Ending(attempt, data.get("code"), data.get("signal"), bool(data.get("out_of_memory")), data.get("ended_at"),
                      bool(data.get("asked_to_stop")))  # fmt: skip
    except (OSError, BadInput, KeyError, TypeError, AttributeError):
        return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
