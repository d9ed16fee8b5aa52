"""Checkpoints written beside the training: the loop hands over a copy and goes on, one thread writes it to disk.

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

from flowrl.training.learning.ppo import Learner
from flowrl.training.run.checkpoints import Standing

MOST_COST_S = 0.6
"""Processor seconds that a checkpoint may take at the usual interval, a hundredth of a minute; dearer ones are rarer."""

Write = Callable[[Learner, Standing], str]
"""Writes a checkpoint, whole, and returns its path in the run's folder."""


class Saver:
    """Writes the checkpoints of one run.

    A write in the background that fails is never forgotten: what it raised is raised by the next call of `look`,
    `begin` or `save` (in `save`, but for an OSError: what it writes is newer).
    """

    def __init__(self, write: Write, clock: Callable[[], float] = time.monotonic):
        """
        Args:
            write: called in the saver's thread; its arguments do not change meanwhile.
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

    def begin(self, learner: Learner, standing: Standing) -> None:
        """Has a checkpoint written in the background, once the one before is written; ``learner`` may then be used up.

        Raises:
            OSError, FlowrlError: the write before has failed; this one was not begun.
            MemoryError: there is no room for a copy.
        """
        self._settle()
        self._begun_s = self._clock()
        self._under_way = self._thread.submit(self._written, copy_of(learner), standing)

    def save(self, learner: Learner, standing: Standing) -> str:
        """Writes a checkpoint, and returns its path once it is on disk."""
        with contextlib.suppress(OSError):
            self._settle()
        self._begun_s = self._clock()
        return self._thread.submit(self._written, learner, standing).result()

    def close(self) -> None:
        """Waits until nothing is being written any more; what a write has failed with does not matter now."""
        self._thread.shutdown(wait=True)

    def _written(self, learner: Learner, standing: Standing) -> str:
        begun_s = time.thread_time()
        try:
            return self._write(learner, standing)
        finally:
            self.cost_s = time.thread_time() - begun_s

    def _settle(self) -> None:
        if self._under_way:
            wait([self._under_way])  # an interrupt while we wait leaves it under way
            ended, self._under_way = self._under_way, None
            ended.result()


def copy_of(learner: Learner) -> Learner:
    """The learner as numpy arrays with memory of their own.

    On a CPU `jax.device_get` only gives a view of JAX's memory, and as long as there is one, an update cannot take that
    memory for its result and needs as much again.
    """
    return jax.tree.map(np.array, jax.device_get(learner))
