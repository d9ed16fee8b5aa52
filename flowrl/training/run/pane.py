"""What the user sees of a run: the live tmux pane, and ``training.log``.

Nothing that happens to the terminal affects the run: a terminal that has died is dropped, and one that was stopped
(Ctrl-S) misses what is drawn until it continues.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from flowrl.files import append_line
from flowrl.training.host.terminal import Terminal, can_be_drawn_on, print_if_possible
from flowrl.training.run.progress import Report
from flowrl.training.run.view import View

DRAWINGS_PER_S = 1
"""How often the pane is drawn: at 4 ms each time this costs the training more than all else that watches it. Between
updates only its clock moves: it shows that a long compilation is alive."""

FIRST_LINES = 3
"""This many updates get a log line each; after them, one is written every `LINE_S`."""

LINE_S = 10.0
"""Seconds between log lines about updates."""


class Pane:
    """Shows a run on the terminal and writes its log; a context manager around the whole run."""

    def __init__(
        self,
        view: View,
        log: Path,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """
        Args:
            view: the live part.
            log: a file that lines are added to.
            stream: where the pane is drawn; ``sys.stdout`` when None.
            clock: seconds, for the pace of log lines.
        """
        self._view = view
        self._log = log
        self._out = sys.stdout if stream is None else stream
        self._live = _live(self._out, self._view) if can_be_drawn_on(self._out) else None
        self._clock = clock
        self._next_line_s = clock()
        self._unlogged: Report | None = None

    def __enter__(self) -> Pane:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error) -> None:
        try:
            self._log_latest()
        finally:
            if self._live:
                self._live.stop()
                self._live.console.file.close()

    def phase(self, text: str) -> None:
        """What the run is doing, such as ``compiling`` or ``evaluating 300/512``; shown until it changes."""
        self._view.set_phase(text)

    def update(self, report: Report) -> None:
        """Shows the latest update; logs it if it is an early one, or enough time has passed."""
        self._view.add(report)
        self._unlogged = report
        if report.update <= FIRST_LINES or self._clock() >= self._next_line_s:
            self._log_latest()

    def line(self, text: str) -> None:
        """A line for the log and the pane; in the log it follows the latest update's."""
        self._log_latest()
        stamped = self._add(text)
        if self._live:
            self._live.console.print(Text(stamped))

    def _log_latest(self) -> None:
        if self._unlogged:
            self._next_line_s = self._clock() + LINE_S
            self._add(self._unlogged.described())
            self._unlogged = None

    def _add(self, text: str) -> str:
        stamped = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ} {text}"
        with contextlib.suppress(OSError):  # a log that cannot be written does not end a training
            append_line(self._log, stamped)
        if not self._live:
            print_if_possible(stamped, self._out)
        return stamped


def _live(stream: TextIO, view: View) -> Live:
    # The stream is known to be a terminal: no environment variable (FORCE_COLOR, ...) may override that.
    console = Console(file=Terminal(stream), force_terminal=True, force_interactive=True, highlight=False)
    return Live(console=console, refresh_per_second=DRAWINGS_PER_S, get_renderable=lambda: view.draw(console.size.height))
