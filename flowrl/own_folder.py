"""A folder that one process trains in: its lock, a full disk in words, and signals that end the training as Ctrl-C does."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from flowrl.errors import FolderInUse, NoRoom
from flowrl.files import sweep_files, why_no_room

_LOCK_WAIT_S = 1.0


class Terminated(BaseException):
    """The process was asked to end, by SIGTERM or because its terminal is gone. Not an error, as KeyboardInterrupt."""

    def __init__(self, number: int):
        super().__init__(number)
        self.exit_code = 128 + number


@contextlib.contextmanager
def own_folder(folder: Path, lock_file: Path, folder_flag: str) -> Iterator[None]:
    """The folder, for this process alone.

    Args:
        lock_file: in the folder; a kernel lock on it is held.
        folder_flag: the flag that names the folder, for messages.

    Raises:
        FolderInUse: another process trains in it.
        NoRoom: it cannot be made or written, now or later; the rest of the work is lost, what was saved stays.
        Terminated: SIGTERM or SIGHUP came.
    """
    with contextlib.ExitStack() as around:
        around.enter_context(_held(folder, lock_file, folder_flag))
        around.enter_context(_no_room_in_words(folder))
        around.enter_context(_signals())
        yield


@contextlib.contextmanager
def _held(folder: Path, lock_file: Path, folder_flag: str) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoRoom(f"{folder_flag} {folder} cannot be created: {error.strerror}") from None
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=_LOCK_WAIT_S)
    except Timeout:
        raise FolderInUse(f"another process trains in {folder}; wait for it, end it, or give another {folder_flag}") from None
    try:
        sweep_files(folder, deep=False)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _no_room_in_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if (why := why_no_room(error)) is None:
            raise
        raise NoRoom(
            f"{folder} cannot be written ({why}); free disk space, then give the same command again to continue"
        ) from error


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    def terminate(number: int, _: Any) -> None:
        raise Terminated(number)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]  # nohup
    before = {number: signal.signal(number, terminate) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
