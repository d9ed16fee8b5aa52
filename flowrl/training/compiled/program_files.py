"""The files of stored programs: machine code with a checksum, in a folder of limited size."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from filelock import FileLock, Timeout
from jax.experimental import serialize_executable

from flowrl.files import TEMPORARY, write_whole

LIMIT_BYTES = 2 * 2**30
"""The most that all stored programs may take; the least recently used are deleted first."""

WAIT_S = 120.0
"""Seconds to wait for another process that compiles the same program: far fewer than make a run count as hung."""

ABANDONED_S = 3600.0
"""Seconds after which an unfinished file counts as abandoned."""


def load(path: Path) -> Any:
    """A stored program; None if there is none, it is incomplete, or this machine cannot load it."""
    try:
        sealed = path.read_bytes()
        seal, data = sealed[:32], sealed[32:]
        if hashlib.sha256(data).digest() != seal:
            return None
        executable, inputs, outputs = pickle.load(io.BytesIO(data))
        with contextlib.suppress(OSError):
            os.utime(path)
        return serialize_executable.deserialize_and_load(
            executable, jax.tree.structure(inputs), jax.tree.structure(outputs), execution_devices=jax.devices()[:1]
        )
    except Exception:  # a stored program with any fault is compiled again
        return None


def store(path: Path, compiled: Any) -> None:
    """Stores a compiled program, or a mark that it cannot be stored. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = packed(compiled)
    if data is None:
        _mark_of(path).touch()
    else:
        write_whole(path, hashlib.sha256(data).digest() + data)
    make_room(path.parent, LIMIT_BYTES)


def cannot_be_stored(path: Path) -> bool:
    """Whether the program is marked as not storable, or its folder cannot be written."""
    return _mark_of(path).exists() or not os.access(path.parent, os.W_OK)


def packed(compiled: Any) -> bytes | None:
    """What is stored of a program; None if it cannot be serialised completely."""
    try:
        # Functions outside XLA (such as LAPACK's) are not included, and another process may not have loaded them.
        if any(not name.startswith("__") for name in _CALLED.findall(compiled.as_text())):
            return None
        executable, inputs, outputs = serialize_executable.serialize(compiled)
        # A tree is stored as an example tree: its types are pickled by name.
        examples = [jax.tree.unflatten(tree, range(tree.num_leaves)) for tree in (inputs, outputs)]
        return pickle.dumps((executable, *examples))
    except Exception:  # not every platform and not every type in a tree supports this
        return None


_CALLED = re.compile(r'custom_call_target="([^"]*)"')


def _mark_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.not_storable")


def make_room(folder: Path, limit_bytes: int) -> None:
    """Removes the least recently used programs until the others take at most this many bytes."""
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.name.endswith(TEMPORARY) and time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink()
            elif not path.name.startswith("."):
                entries.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size


@contextlib.contextmanager
def only_one(path: Path, wait_s: float = WAIT_S) -> Iterator[bool]:
    """Held by the process that compiles a program; yields True if that is this process, or if locks do not work here."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    alone = True
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock.acquire(timeout=wait_s)
    except Timeout:
        alone = False
    except OSError:
        pass
    try:
        yield alone
    finally:
        lock.release()
