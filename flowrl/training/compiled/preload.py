"""Stored programs that are loaded in a thread, while the run that will call them does other things.

Loading a game's step takes a second or more of a start, and hardly any of it holds Python's lock. Which programs a run
will call, and in which order, is what the last run of its kind called until it had made an update: a list that lies
beside the programs. A list that is out of date, or missing, costs nothing but the time that it would have saved.
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
    """Programs by their paths, loaded one after the other."""

    def __init__(self, load: Callable[[Path], Any]):
        """
        Args:
            load: gives a stored program, or None; never raises.
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
        """A program, waited for if it is just being loaded; None if it is not among those, or its turn has not come."""
        future = self._awaited.pop(path, None)
        if future is None or future.cancel():
            return None
        return future.result()

    def forget(self) -> None:
        """Lets go of what nobody has taken, and loads no more."""
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
    """The programs of a list, in order; none if there is no list, or it is not one."""
    with contextlib.suppress(OSError, ValueError):
        names = json.loads(path.read_text())
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return [path.with_name(Path(name).name) for name in names if Path(name).name]
    return []


def list_programs(path: Path, programs: list[Path]) -> None:
    """Writes a list, unless it is there already, or cannot be written."""
    if programs != listed(path):
        with contextlib.suppress(OSError):
            write_whole(path, json.dumps([program.name for program in programs]))
