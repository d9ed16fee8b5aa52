"""Kernel locks: who works on an experiment, and who merges into its library.

A lock is the kernel's (``flock``), so it ends with its holder; that a lock *file* exists means nothing. The file
holds a line about its holder, for the message to whoever finds it taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from flowrl.errors import FlowrlError, FolderInUse
from flowrl.paths import ExperimentPaths

POLL_S = 0.02
MERGE_TIMEOUT_S = 300.0
"""Seconds that a merge waits for another one: of large experts, on a slow disk."""


_is_given_up: ContextVar[Callable[[], bool]] = ContextVar("is_given_up", default=lambda: False)


class LockTimeout(FlowrlError):
    """A live process kept a lock for longer than we were willing to wait."""


class WaitGivenUp(FlowrlError):
    """A lock was waited for that somebody else held, and whoever wanted it is leaving. Nothing was done under it."""


@contextlib.contextmanager
def waiting_unless(is_given_up: Callable[[], bool]) -> Iterator[None]:
    """Within this block, in this thread, nobody waits for the merge lock once ``is_given_up()``: see :class:`WaitGivenUp`."""
    token = _is_given_up.set(is_given_up)
    try:
        yield
    finally:
        _is_given_up.reset(token)


def hold_scheduler_lock(paths: ExperimentPaths) -> FileLock:
    """Takes the experiment for this process; release the lock to give it up.

    Raises:
        FolderInUse: another scheduler works on the folder; says which, and since when.
    """
    lock = _kernel_lock(paths.scheduler_lock)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise FolderInUse(
            f"{paths.root} is in use by another scheduler ({holder(paths.scheduler_lock)}); "
            "wait until it ends, stop it, or use another --graph_path"
        ) from None
    _sign(paths.scheduler_lock, "scheduling")
    return lock


@contextlib.contextmanager
def merge_lock(
    paths: ExperimentPaths, timeout_s: float = MERGE_TIMEOUT_S, doing: str = "merging"
) -> Iterator[None]:
    """Holds the library for one merge. ``doing`` is what others are told that wait for it.

    Two locks are taken: ``global.lock``, and the ``checkpoints/`` folder itself. Somebody who removes the lock file,
    as an old troubleshooting guide advises, frees the first and not the second.

    Raises:
        LockTimeout: a live process held the library for ``timeout_s`` seconds; says which, and since when.
        WaitGivenUp: somebody holds it, and it is not to be waited for (any more).
    """
    paths.checkpoints.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    lock = _kernel_lock(paths.global_lock)
    _wait_for(lambda: _try_file(lock), deadline, lambda: _too_long(paths, timeout_s))
    try:
        with _folder_lock(paths, deadline, timeout_s):
            _sign(paths.global_lock, doing)
            yield
    finally:
        lock.release()


def _wait_for(take: Callable[[], bool], deadline: float, too_long: Callable[[], LockTimeout]) -> None:
    while not take():
        if _is_given_up.get()():
            raise WaitGivenUp("another process holds the library, and is not waited for any more; start the same command again")
        if time.monotonic() > deadline:
            raise too_long()
        time.sleep(POLL_S)


def _try_file(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def holder(path: Path) -> str:
    """Who wrote their name into a lock file, in words."""
    try:
        name = json.loads(path.read_text())
        doing = f", {name['doing']}" if name.get("doing") else ""
        return f"process {name['pid']} on {name['host']}{doing}, since {name['since']}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "a process that has not said who it is"


def _kernel_lock(path: Path) -> FileLock:
    # Not thread-local: the front door opens an experiment in one thread and the scheduler closes it in another.
    # Without the soft fallback: a lock that is a mere file outlives its holder.
    return FileLock(path, thread_local=False, fallback_to_soft=False)


@contextlib.contextmanager
def _folder_lock(paths: ExperimentPaths, deadline: float, timeout_s: float) -> Iterator[None]:
    descriptor = os.open(paths.checkpoints, os.O_RDONLY)
    try:
        _wait_for(
            lambda: _try_exclusive(descriptor), deadline,
            lambda: _too_long(paths, timeout_s, locked_by_kernel(paths.checkpoints)),
        )  # fmt: skip
        yield
    finally:
        os.close(descriptor)


def _try_exclusive(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def locked_by_kernel(path: Path) -> str | None:
    """Who holds a lock on ``path``, in words, as far as the kernel tells: also where the name they left was removed."""
    try:
        inode = path.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for fields in map(str.split, lines):
        if "FLOCK" in fields[:2] and "->" not in fields and fields[5].endswith(f":{inode}"):
            return f"process {fields[4]} ({_command(int(fields[4]))})"
    return None


def _command(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())[:200]
    except psutil.Error:
        return "its command is not known"


def _too_long(paths: ExperimentPaths, timeout_s: float, known: str | None = None) -> LockTimeout:
    return LockTimeout(
        f"Failed to acquire global checkpoint lock {paths.global_lock} within {timeout_s:g} s: it is held by "
        f"{known or holder(paths.global_lock)}; end that process (removing the file does not free the lock) and start again"
    )


def _sign(path: Path, doing: str) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):  # a full disk does not keep anybody from holding a lock
        path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "doing": doing, "since": since}) + "\n")
