"""Films of completed skills, made while others train: one at a time, in a process that yields to trainings, and for at most a
hundredth of their time."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.paths import ExperimentPaths

SHARE = 0.01
"""Of the time that trainings took, what films may cost."""
USUAL_COST_S = 60.0
"""Processor seconds of a film, before one has been made: most of it is compiling."""
LOWEST_PRIORITY = 19

Film = Callable[[str], float | None]
"""Films a skill of this name; returns its cost in processor seconds, None if it failed."""


class BackgroundFilms:
    """The films of one start. What goes wrong with them is nobody's concern: ``flowrl report --films`` makes them as well.

    Args:
        film: makes one, in a thread of this object; None: in a process.
    """

    def __init__(self, paths: ExperimentPaths, film: Film | None = None):
        self._paths = paths
        self._processes = _Processes(paths)
        self._film = film or self._processes.film
        self._failed: set[str] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def look(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Begins a film if there is time for one and a completed skill has none; returns at once.

        Args:
            entries: skills and rehearsals, as in scheduler_state.json.
        """
        with self._lock:
            if (self._thread and self._thread.is_alive()) or self._processes.is_closed:
                return
            spent_s = self._spent_s()
            allowed_s = SHARE * sum(60 * (entry["minutes"] or 0.0) for entry in entries) - spent_s
            name = self._next(entries) if allowed_s >= self._cost_s() else None
            if name is None:
                return
            self._thread = threading.Thread(target=self._make, args=(name, spent_s), name="flowrl-films", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends a film that is being made."""
        self._processes.close()
        if self._thread:
            self._thread.join()

    def _next(self, entries: Sequence[Mapping[str, Any]]) -> str | None:
        """The skill that was completed last among those without a film of what its expert can do."""
        completed = [entry for entry in entries if entry["status"] == "completed" and entry["expert_idx"] is not None]
        wanted = [entry for entry in completed if entry["skill_name"] not in self._failed and not self._is_filmed(entry)]
        newest = max(wanted, key=lambda entry: str(entry["completed_at"]), default=None)
        return newest and newest["skill_name"]

    def _is_filmed(self, entry: Mapping[str, Any]) -> bool:
        try:
            return self._paths.has_film(entry["expert_idx"], entry["skill_name"])
        except OSError:
            return True  # its folder is gone or cannot be read: nothing to film

    def _make(self, name: str, spent_s: float) -> None:
        cost_s = self._film(name)
        if cost_s is None:
            self._failed.add(name)
            cost_s = self._cost_s()  # it may have cost as much
        with contextlib.suppress(OSError):
            write_json(self._paths.film_costs, {"seconds": round(spent_s + cost_s, 1), "newest": round(cost_s, 1)})

    def _spent_s(self) -> float:
        return self._costs().get("seconds", 0.0)

    def _cost_s(self) -> float:
        return self._costs().get("newest", USUAL_COST_S)

    def _costs(self) -> dict[str, float]:
        with contextlib.suppress(OSError, BadInput):
            found = read_json(self._paths.film_costs)
            return found if isinstance(found, dict) else {}
        return {}


class _Processes:
    """Makes films in processes of their own, one at a time."""

    def __init__(self, paths: ExperimentPaths):
        self._paths = paths
        self._current: subprocess.Popen | None = None
        self.is_closed = False

    def film(self, name: str) -> float | None:
        """See `Film`."""
        command = [sys.executable, "-m", "flowrl", "watch", str(self._paths.root), name]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # A session of its own: Ctrl-C in our terminal is not meant for it.
        self._current = subprocess.Popen(command, start_new_session=True, **quiet)
        with contextlib.suppress(psutil.Error):
            psutil.Process(self._current.pid).nice(LOWEST_PRIORITY)
        if self.is_closed:
            self._current.kill()
        _, status, usage = os.wait4(self._current.pid, 0)
        self._current.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_utime + usage.ru_stime if status == 0 else None

    def close(self) -> None:
        """Ends the one that is under way."""
        self.is_closed = True
        if self._current and self._current.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._current.pid, 9)
