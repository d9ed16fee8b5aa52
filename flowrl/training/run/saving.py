"""When a run's state is saved, and by whom: the loop hands over a copy and goes on, one thread writes it to disk.

All writes of a run go through that one thread, so that there is never more than one under way, each is whole before
the next begins, and the newest one is the last.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import jax
import numpy as np

from flowrl.errors import FlowrlError
from flowrl.files import why_no_room
from flowrl.paths import RunPaths
from flowrl.training.run import checkpoints
from flowrl.training.run.state import RunState
from flowrl.training.run.supervision import Supervision

CHECKPOINT_S = 60.0
"""Seconds between the checkpoints that are written in the background; more for very large ones (`Saver.is_due`)."""

MOST_COST_S = 0.6
"""Processor seconds that a checkpoint may take at the usual interval, a hundredth of a minute; dearer ones are rarer."""

Write = Callable[[RunState], str]
"""Writes a checkpoint, whole, and returns its path in the run's folder."""


class Safekeeping:
    """Keeps the state of a run on disk; a context manager around the run.

    What was learned until a Ctrl-C is saved as the block is left, and after it nothing is being written any more.
    """

    def __init__(self, paths: RunPaths, local_to_global: dict[int, int | None], attempt: int, supervision: Supervision):
        self._folder, self._supervision = paths.folder, supervision
        self._saver = Saver(lambda state: checkpoints.save(paths, state, local_to_global, attempt))
        self._unsaved: RunState | None = None

    def __enter__(self) -> Safekeeping:
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            if self._unsaved and kind and issubclass(kind, KeyboardInterrupt):
                with contextlib.suppress(OSError, FlowrlError):  # no room: what was saved before is what stays
                    self._saver.save(self._unsaved)
        finally:
            self._saver.close()

    def using_up(self) -> None:
        """The memory of the state is about to become the next one's: a Ctrl-C finds nothing to save."""
        self._unsaved = None

    def learned(self, state: RunState) -> None:
        """This is what a Ctrl-C saves from here on."""
        self._unsaved = state

    def save(self, state: RunState) -> str:
        """Saves a checkpoint before anything goes on, and returns its path; waits while the disk has no room for it.

        Raises:
            Stopped: the run was asked to end while it waited.
            FlowrlError: a parameter is not a number.
        """
        path = self._supervision.when_there_is_room(lambda: self._saver.save(state), self._folder)
        self._unsaved = None
        return path

    def save_now_and_then(self, state: RunState) -> None:
        """Once in `CHECKPOINT_S` a checkpoint is begun, and training goes on; the last one's failure shows here."""
        try:
            self._saver.look()
            if self._saver.is_due(CHECKPOINT_S):
                self._saver.begin(state)
        except OSError as error:
            if why_no_room(error) is None:
                raise
            self.save(state)  # in its place, once there is room


class Saver:
    """Writes the checkpoints of one run.

    A write in the background that fails is never forgotten: what it raised is raised by the next call of `look`,
    `begin` or `save` (in `save`, but for an OSError: what it writes is newer).
    """

    def __init__(self, write: Write, clock: Callable[[], float] = time.monotonic):
        """
        Args:
            write: called in the saver's thread; what it is given does not change meanwhile.
            clock: seconds, for how old the newest checkpoint is.
        """
        self._write = write
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saver")
        self._under_way: Future[str] | None = None
        self._begun_s = clock()
        self.cost_s = 0.0
        """Processor seconds that the newest checkpoint took."""

    def is_due(self, interval_s: float) -> bool:
        """Whether the newest checkpoint (or else the saver) is as old as checkpoints of its cost may become.

        Args:
            interval_s: for those that cost no more than `MOST_COST_S`; for others it grows in proportion to their cost.
        """
        return self._clock() - self._begun_s > interval_s * max(1.0, self.cost_s / MOST_COST_S)

    def look(self) -> None:
        """Raises what a write in the background has failed with; waits for none."""
        if self._under_way and self._under_way.done():
            self._settle()

    def begin(self, state: RunState) -> None:
        """Has a checkpoint written in the background, once the one before is written; ``state`` may then be used up.

        Raises:
            OSError, FlowrlError: the write before has failed; this one was not begun.
            MemoryError: there is no room for a copy.
        """
        self._settle()
        self._begun_s = self._clock()
        self._under_way = self._thread.submit(self._written, copy_of(state))

    def save(self, state: RunState) -> str:
        """Writes a checkpoint, and returns its path once it is on disk."""
        with contextlib.suppress(OSError):
            self._settle()
        self._begun_s = self._clock()
        return self._thread.submit(self._written, state).result()

    def close(self) -> None:
        """Waits until nothing is being written any more; what a write has failed with does not matter now."""
        self._thread.shutdown(wait=True)

    def _written(self, state: RunState) -> str:
        begun_s = time.thread_time()
        try:
            return self._write(state)
        finally:
            self.cost_s = time.thread_time() - begun_s

    def _settle(self) -> None:
        if self._under_way:
            wait([self._under_way])  # an interrupt while we wait leaves it under way
            ended, self._under_way = self._under_way, None
            ended.result()


def copy_of(state: RunState) -> RunState:
    """The state with its experts as numpy arrays with memory of their own.

    On a CPU `jax.device_get` only gives a view of JAX's memory, and as long as there is one, an update cannot take that
    memory for its result and needs as much again.
    """
    return state._replace(learner=jax.tree.map(np.array, jax.device_get(state.learner)))
