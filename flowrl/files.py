"""Files that another process reads appear whole, or not at all.

A reader never sees half a file: data goes to a temporary file in the same folder, is forced to disk, and
takes the final name in one step (``os.replace``).
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from flowrl.errors import BadInput

_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file size limit is reached",
    errno.EROFS: "the disk is read-only",
}

_NO_FOLDER_SYNC = {
    errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM,
}  # fmt: skip
"""How a file system says that it cannot force a folder to disk, or that a folder may be written but not opened to read."""

TEMPORARY = ".tmp"
"""The ending of an unfinished file's name, which begins with a dot."""


@contextlib.contextmanager
def whole_file(path: Path | str) -> Iterator[BinaryIO]:
    """A file to write to; it replaces ``path`` in one step at the end of the block, and only if nothing failed.

    Raises:
        OSError: the disk is full, or the folder cannot be written; ``path`` then holds what it held before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """The same, but nothing is forced to disk: once the machine has crashed, ``path`` may be empty."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}{TEMPORARY}")
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: Path | str, data: bytes | str) -> None:
    """Writes ``data`` (text is UTF-8) to ``path`` in one step, creating the folder if it is missing.

    Raises:
        OSError: the disk is full, or the folder cannot be written; ``path`` then holds what it held before.
    """
    with whole_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def write_json(path: Path | str, value: Any) -> None:
    """Writes ``value`` as indented JSON, whole. NaN and infinity are refused: jq cannot read them."""
    write_whole(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_json_unsynced(path: Path | str, value: Any) -> None:
    """Writes ``value`` as JSON that a reader finds whole, and that need not outlive the machine: it is for those who look now,
    and is written so often that forcing it to disk would cost too much.

    Raises:
        OSError: the disk is full, or the folder cannot be written, or is not there: a run that was merged meanwhile gets none.
    """
    with _replacing(Path(path)) as file:
        file.write((json.dumps(value, allow_nan=False) + "\n").encode())


def read_json(path: Path | str) -> Any:
    """The value in a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        BadInput: the file is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise BadInput(
            f"{path} is not valid JSON ({error}); restore it from a copy, or move it away to start again without it"
        ) from error


def append_line(path: Path | str, text: str) -> None:
    """Adds one line to a log; a reader that follows the file sees it at once, and never half of it.

    Raises:
        OSError: the disk is full, or the file cannot be written; it then holds what it held before.
    """
    line = (text.rstrip("\n") + "\n").encode()
    with open(path, "ab", buffering=0) as file:
        before = file.tell()
        if file.write(line) < len(line):  # only part of it was written
            file.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def forget_later_lines(path: Path | str, counter: str, last: int) -> None:
    """Removes from a file of JSON lines those whose ``counter`` is above ``last``, and those that a crash has torn.

    A training that goes on from a checkpoint makes what came after it once more.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except FileNotFoundError:
        return
    kept = [line for line in lines if _counted(line, counter) <= last]
    if len(kept) < len(lines):
        write_whole(path, "".join(f"{line}\n" for line in kept))


def _counted(line: str, counter: str) -> float:
    try:
        return json.loads(line)[counter]
    except (ValueError, KeyError, TypeError):
        return math.inf


def why_no_room(error: BaseException) -> str | None:
    """Why a disk takes no more data, if that is what the error says; None for any other error."""
    return _NO_ROOM.get(error.errno) if isinstance(error, OSError) else None


def sweep_files(folder: Path | str, deep: bool = True) -> None:
    """Removes unfinished files from ``folder``, where no process may be writing; ``deep``: from its subfolders too."""
    pattern = f".*{TEMPORARY}"
    for path in Path(folder).rglob(pattern) if deep else Path(folder).glob(pattern):
        with contextlib.suppress(OSError):  # read-only, or gone: harmless
            path.unlink()


def _sync_folder(folder: Path) -> None:
    """Without this the rename itself may be lost when the machine loses power. A disk that fails is an error; a file system
    that has no such call (some network shares) is not: the file already has its name."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
