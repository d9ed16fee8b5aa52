"""Whether the training process of a run lives: ``run.lock``, a kernel lock that it holds, and ``run.pid``, which names it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.records.process_id import ProcessId

_NO_LOCKS = {None, errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What a file system without locks says. filelock makes a NotImplementedError, without a number, of the first one."""


@dataclass(frozen=True)
class Holder:
    """The process that last took a run's lock, for which attempt, and on which host."""

    process: ProcessId
    attempt: int
    host: str = ""
    """Empty in a record of an earlier version."""

    @property
    def is_local(self) -> bool:
        """Whether it is a process of this host: on another one, neither its pid nor its kernel lock means anything here."""
        return self.host in ("", socket.gethostname())


def write_holder(path: Path, attempt: int) -> None:
    """Records that this process holds the run's lock."""
    me = ProcessId.of(os.getpid())
    assert me is not None  # this process exists
    write_json(path, {**me.to_record(), "host": socket.gethostname(), "attempt": attempt})


def find_holder(path: Path) -> Holder | None:
    """Who last took the run's lock; None if nobody has so far."""
    try:
        data = read_json(path)
        return Holder(ProcessId.from_record(data), int(data["attempt"]), str(data.get("host", "")))
    except (OSError, BadInput, KeyError, TypeError, ValueError, AttributeError):
        return None


def find_process(path: Path, attempt: int) -> ProcessId | None:
    """The process of this host that took the run's lock for this attempt; None if none has so far."""
    holder = find_holder(path)
    return holder.process if holder and holder.attempt == attempt and holder.is_local else None


def is_held(path: Path) -> bool:
    """Whether a live process is known to hold the lock file at ``path``."""
    return bool(held(path))


def held(path: Path) -> bool | None:
    """Whether a live process holds the lock file at ``path``; None on a file system without locks. Nobody holds a missing
    file."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # some file systems say EACCES
        return True
    except OSError as error:
        if has_no_locks(error):
            return None
        raise
    finally:
        os.close(descriptor)
    return False


def has_no_locks(error: BaseException) -> bool:
    """Whether this is how a file system says that it has no locks."""
    return isinstance(error, OSError | NotImplementedError) and getattr(error, "errno", None) in _NO_LOCKS
