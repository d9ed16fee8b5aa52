"""Processes of runs: which there are, and how a whole tree of them is ended.

Children that left the tree (``nohup``, ``setsid``) are found by a cookie that every descendant inherits in its environment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from flowrl.records.process_id import COOKIE, ProcessId, runs

_KILL_ROUNDS = 50
_ROUND_S = 0.1


def name_of(pid: int) -> str:
    """The name of the process that has this pid now; empty if there is none."""
    try:
        process = psutil.Process(pid)
        return process.name() if runs(process) else ""
    except psutil.Error:
        return ""


def with_cookie(cookie: str) -> list[psutil.Process]:
    """The living processes, of those that we may look into, that carry ``cookie``."""
    return _marked(lambda mark: mark == cookie)


def of_runs_below(folder: Path) -> list[psutil.Process]:
    """The living processes, of those that we may look into, that belong to a run in ``folder`` or below."""
    return _marked(lambda mark: mark.startswith(f"{folder.resolve()}/"))


def kill_runs_below(folder: Path, timeout_s: float) -> bool:
    """Kills, without asking them to stop, all processes of runs in ``folder`` and below; returns whether none is left."""

    def none_is_left() -> bool:
        living = of_runs_below(folder)
        _signal(living, "kill")
        return not living

    return retry_until(none_is_left, timeout_s)


def children_of_ours() -> list[ProcessId]:
    """The living children of this process."""
    found = (ProcessId.of(child.pid) for child in psutil.Process().children())
    return [process for process in found if process is not None]


def end_tree(roots: Iterable[ProcessId], cookie: str, grace_s: float) -> bool:
    """Ends ``roots``, all below them, and all that carry ``cookie``: asks first (TERM), kills after ``grace_s``.

    Safe to repeat. Returns whether nothing of it is left.
    """
    known = {process.pid: process for process in _members(roots, cookie)}
    _signal(known.values(), "terminate")
    _signal(known.values(), "resume")  # a stopped process would not handle the signal
    _await_end(known.values(), grace_s)
    for _ in range(_KILL_ROUNDS):
        # Searched again each round: a process that is being killed may still fork.
        left = [process for process in {*known.values(), *_members(roots, cookie)} if runs(process)]
        if not left:
            return True
        _signal(left, "kill")
        _await_end(left, _ROUND_S)
    return False


def retry_until(condition, timeout_s: float, interval_s: float = 0.05) -> bool:
    """Checks ``condition`` until it holds or ``timeout_s`` have passed; returns whether it held."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_s)
    return True


def _members(roots: Iterable[ProcessId], cookie: str) -> set[psutil.Process]:
    found = {process for root in roots if (process := root.living()) is not None}
    for process in list(found):
        try:
            found.update(process.children(recursive=True))
        except psutil.Error:
            continue
    return found | set(with_cookie(cookie))


def _await_end(processes: Iterable[psutil.Process], timeout_s: float) -> None:
    # Not psutil.wait_procs, which waits for zombies too: a server of sessions may leave one unreaped for as long as it runs.
    processes = list(processes)
    retry_until(lambda: not any(map(runs, processes)), timeout_s, interval_s=0.01)


def _marked(is_meant: Callable[[str], bool]) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _carries(process, is_meant)]


def _carries(process: psutil.Process, is_meant: Callable[[str], bool]) -> bool:
    try:
        mark = process.environ().get(COOKIE)  # most processes have none: they belong to no run
        return bool(mark) and is_meant(mark) and process.pid != os.getpid() and runs(process)
    except (psutil.Error, OSError):
        return False


def _signal(processes: Iterable[psutil.Process], method: str) -> None:
    for process in processes:
        try:
            getattr(process, method)()
        except psutil.Error:
            continue
