"""What a job's session knows of its attempt, all of it from files; the cluster is not asked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from flowrl.errors import BadInput
from flowrl.files import read_json
from flowrl.parallel.launchers.batch_script import claim_of, output_of
from flowrl.paths import ExperimentPaths, RunPaths, job_receipt
from flowrl.records import ending, picture, queue
from flowrl.records import result as run_result
from flowrl.records.ending import Ending
from flowrl.records.picture import Picture
from flowrl.records.queue import Place, QueueRecord
from flowrl.records.result import RunResult

_SHOWN_BYTES = 16_000

T = TypeVar("T")


class Latest(Generic[T]):
    """What a file holds, read again only when it has changed: there may be a hundred sessions, and each looks every second.

    Args:
        read: returns None for what cannot be read; what was read before then stays.
    """

    def __init__(self, path: Path, read: Callable[[Path], T | None]):
        self._path, self._read = path, read
        self._mark: tuple[int, ...] = ()
        self._found: T | None = None

    def get(self) -> T | None:
        """None before the file could be read once."""
        try:
            state = os.stat(self._path)
        except OSError:
            return self._found
        mark = (state.st_mtime_ns, state.st_size, state.st_ino)
        if mark != self._mark and (found := self._read(self._path)) is not None:
            self._mark, self._found = mark, found
        return self._found


class JobFiles:
    """The files about one attempt at a run."""

    def __init__(self, run: RunPaths, attempt: int):
        self._run, self._attempt = run, attempt
        self._queue = Latest(ExperimentPaths(run.folder.parent.parent).queue, queue.find)
        self._picture = Latest(run.pane, lambda path: picture.find(path, attempt))
        self._output = Latest(output_of(run.folder), _last_lines)
        self._ending = Latest(run.exit, lambda path: ending.find(path, attempt))
        self._result = Latest(run.result, lambda path: run_result.find(path, attempt))

    @property
    def queue(self) -> QueueRecord:
        """What the scheduler knows of the cluster's queue; empty before it has written that."""
        return self._queue.get() or QueueRecord()

    @property
    def place(self) -> Place | None:
        """Where the job stands; None if the scheduler has not asked since it was submitted."""
        return self.queue.of(self._run.folder.name, self._attempt)

    @property
    def job(self) -> str | None:
        """The job's number; None before it was submitted."""
        if (place := self.place) and place.job:
            return place.job
        try:
            data = read_json(job_receipt(self._run.folder))
            return str(data["job"]) if data["attempt"] == self._attempt else None
        except (OSError, BadInput, KeyError, TypeError):
            return None

    @property
    def claim(self) -> str | None:
        """Which job has begun with the attempt, and on which host; None if none has."""
        try:
            return claim_of(self._run.folder, self._attempt).read_text().strip()
        except OSError:
            return None

    @property
    def picture(self) -> Picture | None:
        """What the training's pane shows; None before it has said so."""
        return self._picture.get()

    @property
    def output(self) -> list[str]:
        """The last lines that the run's jobs have printed."""
        return self._output.get() or []

    @property
    def ending(self) -> Ending | None:
        """How the training has ended; None if it has not."""
        return self._ending.get()

    @property
    def result(self) -> RunResult | None:
        """What came of it; None before it is known."""
        return self._result.get()


def _last_lines(path: Path) -> list[str] | None:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _SHOWN_BYTES))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return None
    return [line for line in (lines if size <= _SHOWN_BYTES else lines[1:]) if line.strip()]
