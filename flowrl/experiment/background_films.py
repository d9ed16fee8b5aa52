"""Films of completed skills, made while others train: one at a time, in a process that yields to trainings, and for at most a
hundredth of their time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import psutil

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.paths import FILM_SUFFIXES, ExperimentPaths, unfinished_film

SHARE = 0.01
"""Of the time that trainings took, what films may cost."""
USUAL_COST_S = 120.0
"""Processor seconds of a film, before one has been made: most of it is compiling. A first film of full Craftax took 118."""
LOWEST_PRIORITY = 19


def start_watch(paths: ExperimentPaths, skill: str, **how: Any) -> subprocess.Popen:
    """Starts ``flowrl watch`` at the lowest priority.

    Args:
        how: further arguments of `subprocess.Popen`.
    """
    process = subprocess.Popen([sys.executable, "-m", "flowrl", "watch", str(paths.root), skill], **how)
    with contextlib.suppress(psutil.Error):
        psutil.Process(process.pid).nice(LOWEST_PRIORITY)
    return process


Film = Callable[[str], float | None]
"""Films a skill of this name; returns its cost in processor seconds, None if it failed."""


class _Costs(NamedTuple):
    """Processor seconds."""

    spent_s: float = 0.0
    """On all films so far."""
    newest_s: float = USUAL_COST_S
    """On the newest."""


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
        self._thread: threading.Thread | None = None

    def look(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Begins a film if there is time for one and a completed skill has none; returns at once. Called by one thread.

        Args:
            entries: skills and rehearsals, as in scheduler_state.json.
        """
        if (self._thread and self._thread.is_alive()) or self._processes.is_closed:
            return
        costs = self._costs()
        allowed_s = SHARE * sum(60 * (entry["minutes"] or 0.0) for entry in entries) - costs.spent_s
        name = self._next(entries) if allowed_s >= costs.newest_s else None
        if name is None:
            return
        self._thread = threading.Thread(target=self._make, args=(name, costs), name="flowrl-films", daemon=True)
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

    def _make(self, name: str, costs: _Costs) -> None:
        cost_s = self._film(name)
        if cost_s is None:
            self._failed.add(name)
            cost_s = costs.newest_s  # it may have cost as much
        with contextlib.suppress(OSError):
            write_json(self._paths.film_costs, {"seconds": round(costs.spent_s + cost_s, 1), "newest": round(cost_s, 1)})

    def _costs(self) -> _Costs:
        with contextlib.suppress(OSError, BadInput):
            found = read_json(self._paths.film_costs)
            if isinstance(found, dict):
                return _Costs(found.get("seconds", 0.0), found.get("newest", USUAL_COST_S))
        return _Costs()


class _Processes:
    """Makes films in processes of their own, one at a time."""

    def __init__(self, paths: ExperimentPaths):
        self._paths = paths
        self._current: subprocess.Popen | None = None
        self.is_closed = False

    def film(self, name: str) -> float | None:
        """See `Film`."""
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # A session of its own: Ctrl-C in our terminal is not meant for it.
        self._current = start_watch(self._paths, name, start_new_session=True, **quiet)
        if self.is_closed:
            _end(self._current)
        _, status, usage = os.wait4(self._current.pid, 0)
        self._current.returncode = os.waitstatus_to_exitcode(status)
        if status:
            self._forget(name, self._current.pid)
        return usage.ru_utime + usage.ru_stime if status == 0 else None

    def _forget(self, name: str, process_id: int) -> None:
        """Deletes what a process has written of a film, which it had no time to do itself."""
        for suffix in FILM_SUFFIXES:
            with contextlib.suppress(OSError):
                unfinished_film(self._paths.film(name, suffix), process_id).unlink()

    def close(self) -> None:
        """Ends the one that is under way."""
        self.is_closed = True
        if self._current and self._current.returncode is None:
            _end(self._current)


def _end(process: subprocess.Popen) -> None:
    """At once, and the encoder that it started too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
