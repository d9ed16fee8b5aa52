"""A terminal that is drawn as a whole, at any size, each time that something has changed."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple, TextIO

from rich.console import Console, RenderableType
from rich.text import Text

HIDE_CURSOR, SHOW_CURSOR = "\033[?25l", "\033[?25h"
_HOME, _ERASE_LINE, _ERASE_BELOW = "\033[H", "\033[K", "\033[J"


class Size(NamedTuple):
    """Of a terminal."""

    columns: int
    rows: int


class Content(NamedTuple):
    """What a screen shows, from above; what comes first has room first."""

    head: RenderableType
    body: Callable[[int], RenderableType] | None = None
    """Makes the middle part, for the number of rows that are left."""
    lines: Sequence[str] = ()
    """Fill the rest: as many of the last ones as there is room for. They may have colours, as programs print them."""


class Screen:
    """Draws on a terminal. One that is gone is no error."""

    def __init__(self, out: TextIO):
        self._out = out

    @property
    def size(self) -> Size:
        """Of the terminal now; 80 columns and 24 rows for what is none."""
        try:
            found = os.get_terminal_size(self._out.fileno())
            return Size(found.columns or 80, found.lines or 24)
        except (OSError, ValueError, AttributeError):  # no terminal, closed, or without a descriptor
            return Size(80, 24)

    def show(self, content: Content) -> None:
        """Draws all of it, in place of what was there."""
        size = self.size
        lines = _lines_of(content, size)
        below = "" if len(lines) == size.rows else f"\r\n{_ERASE_BELOW}"
        # Each line is erased before it is drawn: at the last column, some terminals would erase its last letter.
        self.write(_HOME + "\r\n".join(_ERASE_LINE + line for line in lines) + below)

    def write(self, text: str) -> None:
        """Sends text to the terminal as it is."""
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone
            self._out.write(text)
            self._out.flush()


def _lines_of(content: Content, size: Size) -> list[str]:
    """The rows of a screen, never more than there are."""
    lines = _rendered(content.head, size)[: size.rows]
    if content.body and (room := size.rows - len(lines)):
        lines += _rendered(content.body(room), size)[:room]
    rest: list[str] = []
    for line in reversed(content.lines):
        room = size.rows - len(lines) - len(rest)
        if room <= 0:
            break
        rest = _rendered(_printed(line), size)[-room:] + rest
    return lines + rest


def _rendered(part: RenderableType, size: Size) -> list[str]:
    console = Console(file=io.StringIO(), width=size.columns, height=size.rows, force_terminal=True, highlight=False)
    console.print(part)
    return console.file.getvalue().removesuffix("\n").split("\n")


def _printed(line: str) -> Text:
    """A line of a program's output with its colours, and with nothing else that steers a terminal."""
    shown = line.rstrip("\r").rpartition("\r")[2].expandtabs()  # a bar that draws over itself: its last state
    return Text.from_ansi("".join(letter for letter in shown if letter.isprintable() or letter == "\033"))
