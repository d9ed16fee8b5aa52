"""What the user sees of a run: the live tmux pane, or ``pane.json`` for those who look from elsewhere, and ``training.log``.

Nothing that happens to the terminal affects the run: a terminal that has died is dropped, and one that was stopped
(Ctrl-S) misses what is drawn until it continues.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from flowrl.files import append_line
from flowrl.pane.drawing import drawn
from flowrl.records import picture
from flowrl.records.log_line import stamped
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


PICTURE_S = 2.0
"""Seconds between two pictures for those who look from elsewhere, unless the run begins to do something else."""


class PictureFile:
    """``pane.json``, in which a training without a terminal keeps what its pane would show.

    Args:
        clock: seconds, for the pace of pictures.
    """

    def __init__(self, path: Path, attempt: int, clock: Callable[[], float] = time.monotonic):
        self._path, self._attempt, self._clock = path, attempt, clock
        self._next_s = clock()
        self._phase_began_at: float | None = None

    def show(self, view: View) -> None:
        """Writes what is to be seen, if it is time to, or a new phase has begun: the next call may be minutes away."""
        if self._clock() >= self._next_s or view.phase_began_at != self._phase_began_at:
            self.show_now(view)

    def show_now(self, view: View) -> None:
        """Writes what is to be seen."""
        self._next_s, self._phase_began_at = self._clock() + PICTURE_S, view.phase_began_at
        with contextlib.suppress(OSError):  # a full disk is reported when a checkpoint or result is written
            picture.write(self._path, self._attempt, view.picture())


class Pane:
    """Shows a run on the terminal and writes its log; a context manager around the whole run."""

    def __init__(
        self,
        view: View,
        log: Path,
        *,
        picture_file: PictureFile | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """
        Args:
            view: the live part.
            log: a file that lines are added to.
            picture_file: where the live part is kept if there is no terminal to draw it on; None: nowhere.
            stream: where the pane is drawn; ``sys.stdout`` when None.
            clock: seconds, for the pace of log lines.
        """
        self._view = view
        self._log = log
        self._out = sys.stdout if stream is None else stream
        self._live = _live(self._out, self._view) if can_be_drawn_on(self._out) else None
        self._picture_file = None if self._live else picture_file
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
            if self._picture_file:
                self._picture_file.show_now(self._view)
            if self._live:
                self._live.stop()
                self._live.console.file.close()

    def phase(self, text: str) -> None:
        """What the run is doing, such as ``compiling`` or ``evaluating 300/512``; shown until it changes."""
        self._view.set_phase(text)
        if self._picture_file:
            self._picture_file.show(self._view)

    def update(self, report: Report) -> None:
        """Shows the latest update; logs it if it is an early one, or enough time has passed."""
        self._view.add(report)
        self._unlogged = report
        if self._picture_file:
            self._picture_file.show(self._view)
        if report.update <= FIRST_LINES or self._clock() >= self._next_line_s:
            self._log_latest()

    def line(self, text: str) -> None:
        """A line for the log and the pane; in the log it follows the latest update's."""
        self._log_latest()
        line = self._add(text)
        if self._live:
            self._live.console.print(Text(line))

    def _log_latest(self) -> None:
        if self._unlogged:
            self._next_line_s = self._clock() + LINE_S
            self._add(self._unlogged.described())
            self._unlogged = None

    def _add(self, text: str) -> str:
        line = stamped(text)
        with contextlib.suppress(OSError):  # a log that cannot be written does not end a training
            append_line(self._log, line)
        if not self._live:
            print_if_possible(line, self._out)
        return line


def _live(stream: TextIO, view: View) -> Live:
    # The stream is known to be a terminal: no environment variable (FORCE_COLOR, ...) may override that.
    console = Console(file=Terminal(stream), force_terminal=True, force_interactive=True, highlight=False)
    return Live(
        console=console,
        refresh_per_second=DRAWINGS_PER_S,
        get_renderable=lambda: drawn(view.picture(), console.size.height, time.time()),
    )
