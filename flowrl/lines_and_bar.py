"""Lines on standard output with a progress bar below them."""

from __future__ import annotations

import contextlib
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_WIDTH_WHEN_PIPED = 120


class LinesAndBar:
    """A context manager. Without a terminal there is no bar.

    Args:
        doing: what the work does at first.
        total: how much of it there is; None if something else ends it.
        unit: follows the number that is done, such as `` of 10 episodes``.
    """

    def __init__(self, doing: str, total: int | None, unit: str):
        console = Console(highlight=False)
        self._console = console if console.is_terminal else Console(width=_WIDTH_WHEN_PIPED, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}{task.fields[unit]}"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            console=self._console,
            refresh_per_second=2,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(doing, total=total, speed="", unit=unit)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Prints text as it is. A terminal that is gone is no error."""
        with contextlib.suppress(OSError, ValueError):
            self._console.print(text, markup=False, soft_wrap=True)

    def show(self, **changes: Any) -> None:
        """Changes the bar: ``description``, ``total``, ``completed``, ``speed`` or ``unit``."""
        self._bar.update(self._task, **changes)
