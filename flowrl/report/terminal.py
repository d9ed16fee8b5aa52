"""The terminal of a command: lines with the time that has passed, and what is printed as it is."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from rich.console import Console

_WIDTH_WHEN_PIPED = 120


def console() -> Console:
    """Standard output; wide enough for a table when it is a file or a pipe."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(width=_WIDTH_WHEN_PIPED, highlight=False)


class Terminal:
    """Where one command prints, and the time at which it began."""

    def __init__(self) -> None:
        self.began = datetime.now(UTC)
        self.out = console()

    def say(self, line: str) -> None:
        """Prints a line after the minutes and seconds since the start. A terminal that is gone is no error."""
        seconds = int((datetime.now(UTC) - self.began).total_seconds())
        with contextlib.suppress(OSError):
            self.print(f"{seconds // 60:3d}:{seconds % 60:02d}  {line}")

    def print(self, text: str) -> None:
        """Prints text as it is: no markup, no line breaks added."""
        self.out.print(text, markup=False, soft_wrap=True)
