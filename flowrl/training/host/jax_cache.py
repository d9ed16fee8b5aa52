"""The compiled programs that all runs on this machine share: JAX's persistent cache, kept below a size.

JAX drops the programs that were not used for longest once a new one would exceed the size. It keeps the time of a program's
last use in a file beside it, and where a single one is missing it stores nothing any more. Times are missing where a
process was killed between the two files, and where programs were stored without a limit.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path

from filelock import FileLock, Timeout

LIMIT_BYTES = 4 * 2**30
"""A game with one size of batch and network takes some 10 MB."""

LOCK = ".lockfile"
"""JAX's own lock: a kernel lock, so that one whose holder was killed is free."""

LOCK_WAIT_S = 5.0
"""Others hold it for as long as they read or store a program."""

_PROGRAM, _LAST_USE = "-cache", "-atime"


def can_be_limited(folder: Path) -> bool:
    """Whether JAX can keep the programs in ``folder`` below a size; makes the folder, and mends what stands against it.

    Returns:
        False where the folder cannot be written: with a limit, JAX would not even read what is there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK, timeout=LOCK_WAIT_S):
            for program in folder.glob(f"*{_PROGRAM}"):
                _give_a_last_use(program)
    except Timeout:
        return True  # in use by others, who have mended it
    except OSError:
        return False
    return True


def _give_a_last_use(program: Path) -> None:
    last_use = program.with_name(program.name.removesuffix(_PROGRAM) + _LAST_USE)
    if last_use.exists():
        return
    with contextlib.suppress(FileNotFoundError):  # dropped by a process without the lock
        stored_ns = program.stat().st_mtime_ns
        if _is_whole(program.read_bytes()):
            last_use.write_bytes(stored_ns.to_bytes(8, "little"))
        else:
            os.unlink(program)  # JAX would fail to read it, and never store it anew


def _is_whole(packed: bytes) -> bool:
    try:
        zlib.decompress(packed)
    except zlib.error:
        return False
    return True
