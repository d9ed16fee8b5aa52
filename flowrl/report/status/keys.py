"""Single keys from a terminal, without Enter, while a screen is refreshed."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Self


class Keys:
    """The keyboard of this process's terminal. Use as a context; what was set on the terminal is undone at its end."""

    def __init__(self, descriptor: int | None = None):
        self._descriptor = sys.stdin.fileno() if descriptor is None else descriptor
        self._before: list | None = None

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)  # Ctrl-C still interrupts
        return self

    def __exit__(self, *_) -> None:
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def wait(self, seconds: float) -> str | None:
        """The next key within this time, or None. Of a key that sends several bytes, such as an arrow, the first one."""
        ready, _, _ = select.select([self._descriptor], [], [], seconds)
        if not ready:
            return None
        read = os.read(self._descriptor, 64)
        return read[:1].decode(errors="replace") if read else "q"  # the terminal is gone

    @contextlib.contextmanager
    def handed_over(self) -> Iterator[None]:
        """Meanwhile the terminal belongs to another program."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()
