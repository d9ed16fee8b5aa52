"""A terminal that never fails and never blocks."""

from __future__ import annotations

import contextlib
import io
import os
from typing import TextIO


def can_be_drawn_on(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor."""
    try:
        return stream.isatty() and os.environ.get("TERM", "").lower() not in ("", "dumb", "unknown")
    except (OSError, ValueError):
        return False


def print_if_possible(line: str, stream: TextIO) -> None:
    """Prints a line; a stream that has died is dropped for good."""
    try:
        print(line, file=stream, flush=True)
    except (OSError, ValueError):
        _abandon(stream)


def _abandon(stream: TextIO) -> None:
    # What is still in the stream's buffer, or is printed later, must not fail either (at exit it would cost the
    # process its exit status).
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class Terminal(io.TextIOBase):
    """A terminal to draw on that never fails and never blocks.

    What is written between two flushes is drawn as a whole. While the terminal accepts no output (the user pressed
    Ctrl-S), output is dropped; once it is dead, all output is.
    """

    encoding = "utf-8"

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._descriptor = _own_descriptor(stream.fileno())
        self._drawing: list[str] = []
        self._waiting = b""
        self._dead = False

    def isatty(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._drawing.append(text)
        return len(text)

    def flush(self) -> None:
        drawing = "".join(self._drawing).encode(self.encoding, "replace")
        self._drawing.clear()
        if self._dead:
            return
        try:
            self._send(self._waiting)
            if not self._waiting:
                self._send(drawing)
        except OSError:
            self._dead = True
            _abandon(self._stream)

    def close(self) -> None:
        """Leaves the terminal to later prints; makes sure that a stopped terminal does not block them."""
        if not self.closed:
            self.flush()
            if self._waiting:
                _abandon(self._stream)
            self._dead = True
            os.close(self._descriptor)
        super().close()

    def _send(self, data: bytes) -> None:
        self._waiting = data
        with contextlib.suppress(BlockingIOError):
            while self._waiting:
                self._waiting = self._waiting[os.write(self._descriptor, self._waiting) :]


def _own_descriptor(terminal: int) -> int:
    # Opened again, since blocking is a property of the open file, which is shared with others.
    try:
        return os.open(os.ttyname(terminal), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return os.dup(terminal)
