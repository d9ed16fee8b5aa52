"""Whether an attempt still is the newest one of its run; what an older one writes does not count.

A scheduler starts the next attempt once the engine says that the last one is over. On a cluster its process may live on all
the same: a node that has lost its network is given up by the controller, and trains on. So each process looks, before it
writes what others will read, whether its attempt is still the one in ``run.json``.
"""

from __future__ import annotations

import os
from pathlib import Path

from flowrl.errors import BadInput
from flowrl.records import run_record


class Fence:
    """Of one attempt. Asking costs no more than the time stamp of a file.

    Args:
        run_json: the run's record.
    """

    def __init__(self, run_json: Path, attempt: int):
        self._run_json, self._attempt = run_json, attempt
        self._seen: tuple[int, int] | None = None
        self._newest = attempt

    def newest(self) -> int | None:
        """The newest attempt at the run; None if its folder is gone. A record that cannot be read changes nothing."""
        try:
            found = os.stat(self._run_json)
            stamp = found.st_ino, found.st_mtime_ns
            if stamp != self._seen:
                self._newest, self._seen = run_record.attempt(self._run_json), stamp
        except FileNotFoundError:
            if not self._run_json.parent.exists():
                return None
        except (OSError, BadInput):
            pass
        return self._newest

    def is_open(self) -> bool:
        """Whether no newer attempt has begun."""
        newest = self.newest()
        return newest is not None and newest <= self._attempt
