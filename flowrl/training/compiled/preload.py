"""Loads stored programs in a thread, while the run that will call them does other things.

Loading a game's step takes a second or more of a start, mostly without holding Python's lock. A list beside the
programs says which ones to load, and in which order: those that the last run of this kind called up to its first
update. If the list is missing or out of date, the run only starts more slowly.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from flowrl.files import write_whole


class Preloader:
    """Loads programs by their paths, one after the other."""

    def __init__(self, load: Callable[[Path], Any]):
        """
        Args:
            load: returns a stored program, or None; never raises.
        """
        self._load = load
        self._awaited: dict[Path, Future] = {}

    def begin(self, paths: list[Path]) -> None:
        """Starts loading, in the order given."""
        new = {path: Future() for path in paths if path not in self._awaited}
        self._awaited |= new
        if new:
            threading.Thread(target=self._load_all, args=(list(new.items()),), name="preload").start()

    def take(self, path: Path) -> Any:
        """Returns a program, and waits for it if it is being loaded; None if it is not in the list, or its turn has not
        come."""
        future = self._awaited.pop(path, None)
        if future is None or future.cancel():
            return None
        return future.result()

    def forget(self) -> None:
        """Drops the programs that nobody has taken, and loads no more."""
        for future in self._awaited.values():
            future.cancel()
        self._awaited.clear()

    def _load_all(self, awaited: list[tuple[Path, Future]]) -> None:
        for path, future in awaited:
            if not threading.main_thread().is_alive():
                return  # the process ends
            if future.set_running_or_notify_cancel():
                future.set_result(self._load(path))


def listed(path: Path) -> list[Path]:
    """The programs of a list, in order; none if the list is missing or invalid."""
    with contextlib.suppress(OSError, ValueError):
        names = json.loads(path.read_text())
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return [path.with_name(Path(name).name) for name in names if Path(name).name]
    return []


def list_programs(path: Path, programs: list[Path]) -> None:
    """Writes a list, unless the same list is there already or it cannot be written."""
    if programs != listed(path):
        with contextlib.suppress(OSError):
            write_whole(path, json.dumps([program.name for program in programs]))
