"""When and how a run's state is saved: the loop hands over a copy and goes on, while one thread writes it to disk.

All writes of a run go through that one thread, so that only one is under way at a time, each is complete before the
next begins, and the newest one comes last.
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
"""Processor seconds that a checkpoint may take at the usual interval, a hundredth of a minute; more expensive ones are
written less often."""

Write = Callable[[RunState], str]
"""Writes a checkpoint, whole, and returns its path in the run's folder."""


class Safekeeping:
    """Keeps the state of a run on disk; a context manager around the run.

    What was learned until a Ctrl-C is saved when the block ends, and no write is under way after it.
    """

    def __init__(self, paths: RunPaths, local_to_global: dict[int, int | None], attempt: int, supervision: Supervision):
        self._folder, self._supervision = paths.folder, supervision
        self._saver = Saver(lambda state: self._written(paths, state, local_to_global, attempt))
        self._unsaved: RunState | None = None

    def _written(self, paths: RunPaths, state: RunState, local_to_global: dict[int, int | None], attempt: int) -> str:
        self._supervision.lifetime.check_is_newest()
        return checkpoints.save(paths, state, local_to_global, attempt)

    def __enter__(self) -> Safekeeping:
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            if self._unsaved and kind and issubclass(kind, KeyboardInterrupt):
                with contextlib.suppress(OSError, FlowrlError):  # no room: the earlier checkpoint stays
                    self._saver.save(self._unsaved)
        finally:
            self._saver.close()

    def using_up(self) -> None:
        """The state's memory is about to be donated to the next one: a Ctrl-C finds nothing to save."""
        self._unsaved = None

    def learned(self, state: RunState) -> None:
        """This is what a Ctrl-C saves from here on."""
        self._unsaved = state

    def save(self, state: RunState) -> str:
        """Saves a checkpoint in the foreground, and returns its path; waits while the disk has no room for it.

        Raises:
            Stopped: the run was asked to end while it waited.
            FlowrlError: a parameter is not a number.
            Superseded: a newer attempt at the run has begun.
        """
        path = self._supervision.when_there_is_room(lambda: self._saver.save(state), self._folder)
        self._unsaved = None
        return path

    def save_now_and_then(self, state: RunState) -> bool:
        """Starts a checkpoint every `CHECKPOINT_S`, without waiting for it; raises the last one's failure.

        Returns:
            whether one was started, or written instead of one that failed.
        """
        try:
            self._saver.look()
            if not self._saver.is_due(CHECKPOINT_S):
                return False
            self._saver.begin(state)
        except OSError as error:
            if why_no_room(error) is None:
                raise
            self.save(state)  # instead of the failed one, once there is room
        return True


class Saver:
    """Writes the checkpoints of one run.

    A failed background write is never lost: the next call of `look`, `begin` or `save` raises its error (`save` ignores
    an OSError, since it writes a newer state).
    """

    def __init__(self, write: Write, clock: Callable[[], float] = time.monotonic):
        """
        Args:
            write: called in the saver's thread; its argument does not change during the call.
            clock: seconds, for the age of the newest checkpoint.
        """
        self._write = write
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saver")
        self._under_way: Future[str] | None = None
        self._begun_s = clock()
        self.cost_s = 0.0
        """Processor seconds that the newest checkpoint took."""

    def is_due(self, interval_s: float) -> bool:
        """Whether the newest checkpoint (or the saver, before the first) has reached the age at which one of its cost
        is replaced.

        Args:
            interval_s: the interval for checkpoints that cost at most `MOST_COST_S`; for others it grows in proportion
                to their cost.
        """
        return self._clock() - self._begun_s > interval_s * max(1.0, self.cost_s / MOST_COST_S)

    def look(self) -> None:
        """Raises the error of a failed background write; does not wait."""
        if self._under_way and self._under_way.done():
            self._settle()

    def begin(self, state: RunState) -> None:
        """Starts writing a checkpoint in the background, once the one before is written; ``state`` may then be donated.

        Raises:
            OSError, FlowrlError: the previous write has failed; this one was not started.
            MemoryError: there is not enough memory for a copy.
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
        """Waits until no write is under way; ignores its errors."""
        self._thread.shutdown(wait=True)

    def _written(self, state: RunState) -> str:
        begun_s = time.thread_time()
        try:
            return self._write(state)
        finally:
            self.cost_s = time.thread_time() - begun_s

    def _settle(self) -> None:
        if self._under_way:
            wait([self._under_way])  # an interrupt during the wait leaves it under way
            ended, self._under_way = self._under_way, None
            ended.result()


def copy_of(state: RunState) -> RunState:
    """The state with its experts as numpy arrays that own their memory.

    On a CPU `jax.device_get` returns a view of JAX's memory. While a view exists, an update cannot reuse that memory
    for its result and needs as much again.
    """
    return state._replace(learner=jax.tree.map(np.array, jax.device_get(state.learner)))
