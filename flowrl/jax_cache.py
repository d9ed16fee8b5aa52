"""The compiled programs that all runs on this machine share: JAX's persistent cache, with a size limit.

JAX drops the least recently used programs once a new one would exceed the limit. It keeps the time of a program's last
use in a file beside it, and stores nothing any more if a single one is missing. Times are missing if a process was
killed between writing the two files, or if programs were stored without a limit.

The folder may be the user's own (``JAX_COMPILATION_CACHE_DIR``), with files of other programs in it. Only a file that
has a JAX cache name and holds the beginning of a program is removed; all others stay.
"""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from pathlib import Path

from filelock import FileLock, Timeout

from flowrl.paths import compile_cache

_FOLDER = "JAX_COMPILATION_CACHE_DIR"
_LIMIT = "JAX_COMPILATION_CACHE_MAX_SIZE"
_SHORTEST = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
"""JAX's own variables, read once, when it is imported."""

LIMIT_BYTES = 4 * 2**30
"""A game with one size of batch and network takes some 10 MB."""

LOCK = ".lockfile"
"""JAX's own lock: a kernel lock, so it is free if its holder was killed."""

LOCK_WAIT_S = 5.0
"""Other processes hold it while they read or store a program."""

_PROGRAM, _LAST_USE = "-cache", "-atime"
_KEY = re.compile(r".+-[0-9a-f]{64}")
"""A module's name and a SHA-256 (``jax._src.cache_key``)."""

_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_RAW, _ZSTD_RLE, _ZSTD_COMPRESSED = range(3)


def prepare() -> None:
    """Makes this process use the cache, with a limit if its folder allows one; a variable that is set already stays."""
    folder = os.environ.setdefault(_FOLDER, str(compile_cache()))
    os.environ.setdefault(_SHORTEST, "0.3")
    limit = os.environ.get(_LIMIT, str(LIMIT_BYTES))
    if limit != "-1" and can_be_limited(Path(folder)):
        os.environ[_LIMIT] = limit


def can_be_limited(folder: Path) -> bool:
    """Whether JAX can limit the size of ``folder``; creates the folder, and repairs what prevents the limit.

    Returns:
        False if the folder cannot be written (with a limit, JAX would not even read it), or if a file that is not JAX's
        looks like a program without a last use (with a limit, JAX would store nothing, or delete that file).
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK, timeout=LOCK_WAIT_S):
            return all(_has_a_last_use(path) for path in folder.glob(f"*{_PROGRAM}"))
    except Timeout:
        return True  # in use by other processes, which have repaired it
    except OSError:
        return False


def _has_a_last_use(path: Path) -> bool:
    """Gives a JAX program without a time of last use one, and removes a torn program.

    Returns:
        False for what is not JAX's and has no such time; it is not touched.
    """
    key = path.name.removesuffix(_PROGRAM)
    last_use = path.with_name(key + _LAST_USE)
    if last_use.exists():
        return True
    if not _KEY.fullmatch(key) or not path.is_file():
        return not os.path.lexists(path)  # gone: dropped by a process without the lock
    with contextlib.suppress(FileNotFoundError):
        stored_ns = path.stat().st_mtime_ns
        if is_torn(path.read_bytes()):
            path.unlink()  # JAX would fail to read it, and never store it again
        else:
            last_use.write_bytes(stored_ns.to_bytes(8, "little"))
    return True


def is_torn(packed: bytes) -> bool:
    """Whether this is no more than the beginning of a program as JAX packs it.

    JAX packs with zstd if it finds a library for it, otherwise with zlib.
    """
    if packed.startswith(_ZSTD[: len(packed)]):  # an empty file is a beginning too
        return _is_cut_off_zstd(packed)
    return _is_cut_off_zlib(packed)


def _is_cut_off_zlib(packed: bytes) -> bool:
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed)
    except zlib.error:  # damaged, or not zlib
        return False
    return not unpacking.eof


def _is_cut_off_zstd(packed: bytes) -> bool:
    """Follows the blocks of a frame (RFC 8878, 3.1.1) without unpacking them, which would take a library."""
    if len(packed) <= len(_ZSTD):
        return True
    descriptor = packed[len(_ZSTD)]
    at = len(_ZSTD) + 1 + _zstd_header_size(descriptor)
    is_last = False
    while not is_last:
        if len(packed) < at + 3:
            return True
        header = int.from_bytes(packed[at : at + 3], "little")
        is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        if kind not in (_ZSTD_RAW, _ZSTD_RLE, _ZSTD_COMPRESSED):
            return False  # damaged
        at += 3 + (1 if kind == _ZSTD_RLE else size)
    has_checksum = bool(descriptor & 4)
    return len(packed) < at + 4 * has_checksum


def _zstd_header_size(descriptor: int) -> int:
    """Bytes of a frame's header behind its descriptor: window, dictionary and content size."""
    is_single_segment = descriptor >> 5 & 1
    content_size = (is_single_segment, 2, 4, 8)[descriptor >> 6]
    return (not is_single_segment) + (0, 1, 2, 4)[descriptor & 3] + content_size
