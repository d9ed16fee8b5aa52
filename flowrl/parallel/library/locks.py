"""Kernel locks: who works on an experiment, and who merges into its library.

A lock is the kernel's (``flock``), so it ends with its holder; a lock *file* alone means nothing. The file holds a line
about its holder, for the message to anyone who finds it taken.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from flowrl.errors import BadInput, FlowrlError, FolderInUse
from flowrl.paths import ExperimentPaths
from flowrl.records.liveness import has_no_locks

POLL_S = 0.02
_GLANCE_S = 0.5
"""Seconds in which a process that only looks whether the lock is held has let go of it."""
MERGE_TIMEOUT_S = 300.0
"""Seconds that a merge waits for another, which may write large experts to a slow disk."""
_FOLDER_CANNOT_BE_LOCKED = {errno.EBADF, errno.EINVAL, errno.EISDIR, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""NFS says EBADF: it needs a file that is open for writing, which a folder never is."""

_is_given_up: ContextVar[Callable[[], bool]] = ContextVar("is_given_up", default=lambda: False)


class LockTimeout(FlowrlError):
    """A live process held the merge lock for longer than the timeout."""


class WaitGivenUp(FlowrlError):
    """We no longer wait for another process, which has the merge lock or measures for the merge. Nothing was merged."""


@contextlib.contextmanager
def waiting_unless(is_given_up: Callable[[], bool]) -> Iterator[None]:
    """Within this block, in this thread, waiting for another process ends with :class:`WaitGivenUp` once ``is_given_up()``."""
    token = _is_given_up.set(is_given_up)
    try:
        yield
    finally:
        _is_given_up.reset(token)


def raise_if_given_up() -> None:
    """Raises :class:`WaitGivenUp` if we no longer wait for another process (see :func:`waiting_unless`)."""
    if _is_given_up.get()():
        raise WaitGivenUp("the merge was waiting, and this process is shutting down; start the same command again to merge")


def hold_scheduler_lock(paths: ExperimentPaths) -> FileLock:
    """Locks the experiment for this process, until the lock is released.

    Raises:
        BadInput: the file system has no locks.
        FolderInUse: another scheduler works on the folder; says which, and since when.
    """
    lock = _file_lock(paths.scheduler_lock)
    deadline = time.monotonic() + _GLANCE_S
    while not _taken(lock, paths):
        if time.monotonic() < deadline:
            time.sleep(_GLANCE_S / 10)
            continue
        raise FolderInUse(
            f"{paths.root} is in use by another scheduler ({holder(paths.scheduler_lock)}); "
            "wait until it ends, stop it, or use another --graph_path"
        )
    _sign(paths.scheduler_lock, "scheduling")
    return lock


def _taken(lock: FileLock, paths: ExperimentPaths) -> bool:
    try:
        return _try_file(lock)
    except (OSError, NotImplementedError) as error:
        if not has_no_locks(error):
            raise
        raise BadInput(
            f"{paths.root} is on a file system without locks, so two schedulers could work on it at once; use a --graph_path "
            "on another one, or have it mounted with locks (Lustre: -o flock)"
        ) from error


@contextlib.contextmanager
def merge_lock(paths: ExperimentPaths, timeout_s: float = MERGE_TIMEOUT_S, doing: str = "merging") -> Iterator[None]:
    """Holds the library for one merge. ``doing`` is shown to others that wait for it.

    What is locked is the folder ``checkpoints/``, and ``global.lock`` in it says who holds it: removing that file, as an
    old troubleshooting guide advises, does not let a second merge in. Only on a file system that cannot lock a folder
    is the file itself locked.

    Raises:
        LockTimeout: a live process held the library for ``timeout_s`` seconds; says which, and since when.
        WaitGivenUp: another process holds it, and we no longer wait (see :func:`waiting_unless`).
    """
    paths.checkpoints.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    with contextlib.ExitStack() as held:
        try_to_take = _merge_lock(paths, held)
        while not try_to_take():
            if _is_given_up.get()():
                raise WaitGivenUp(
                    f"{paths.checkpoints} is locked by another merge, and this process is shutting down; "
                    "start the same command again to merge"
                )
            if time.monotonic() > deadline:
                raise _too_long(paths, timeout_s)
            time.sleep(POLL_S)
        _sign(paths.global_lock, doing)
        yield


def holder(path: Path) -> str:
    """The holder that a lock file names, in words."""
    try:
        name = json.loads(path.read_text())
        doing = f", {name['doing']}" if name.get("doing") else ""
        return f"process {name['pid']} on {name['host']}{doing}, since {name['since']}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "a process whose name is not recorded"


def _merge_lock(paths: ExperimentPaths, held: contextlib.ExitStack) -> Callable[[], bool]:
    """How the merge lock is taken, without waiting, on this file system; ``held`` releases it."""
    descriptor = os.open(paths.checkpoints, os.O_RDONLY)
    held.callback(os.close, descriptor)
    lock = _file_lock(paths.global_lock)
    held.callback(lock.release)

    def try_to_take() -> bool:
        try:
            return _try_folder(descriptor)
        except OSError as error:
            if error.errno not in _FOLDER_CANNOT_BE_LOCKED:
                raise
            return _try_file(lock)

    return try_to_take


def _try_folder(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # some file systems say EACCES
        return False
    return True


def _try_file(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _file_lock(path: Path) -> FileLock:
    # Not thread-local: the front door opens an experiment in one thread and the scheduler closes it in another.
    # No soft fallback: a lock that is only a file outlives its holder.
    return FileLock(path, thread_local=False, fallback_to_soft=False)


def _too_long(paths: ExperimentPaths, timeout_s: float) -> LockTimeout:
    lock = paths.global_lock
    by = (
        holder(lock)
        if lock.exists()
        else f"an unknown process, as the file that names it was removed (`lsof {paths.checkpoints}` shows it)"
    )
    return LockTimeout(
        f"Failed to acquire global checkpoint lock {lock} within {timeout_s:g} s: it is held by {by}; "
        "end that process (removing the file does not free the lock) and start again"
    )


def _sign(path: Path, doing: str) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):  # a lock can be held on a full disk, too
        path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "doing": doing, "since": since}) + "\n")
