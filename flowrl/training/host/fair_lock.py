"""A lock for two threads that take it over and over."""

from __future__ import annotations

import threading


class FairLock:
    """A lock for two threads: neither gets it twice in a row while the other waits."""

    def __init__(self):
        self._next, self._held = threading.Lock(), threading.Lock()

    @property
    def is_taken(self) -> bool:
        return self._held.locked()

    def __enter__(self) -> None:
        with self._next:
            self._held.acquire()

    def __exit__(self, *_) -> None:
        self._held.release()
