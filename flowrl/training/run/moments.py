"""Keeps what a run's own expert was like now and then, so that its progress can be filmed."""

from __future__ import annotations

import contextlib

import jax
import numpy as np

from flowrl.errors import BadInput
from flowrl.paths import RunPaths
from flowrl.records import moments
from flowrl.records.moments import Moment
from flowrl.training.run.state import RunState

MOST = 6
"""Moments that are kept, besides the first. With one more, every second one goes, and the distance between them doubles: so
they lie evenly over a run whose length nobody knows."""
FIRST_UPDATES = 4
"""Updates between the first of them."""


class Moments:
    """The moments of one run. What cannot be written is left out: a film is not worth a training's time."""

    def __init__(self, paths: RunPaths, own: int, frames_per_update: int):
        """
        Args:
            own: local index of the run's own expert.
        """
        self._path, self._own = paths.moments, own
        self._distance = FIRST_UPDATES * frames_per_update
        self._kept: list[Moment] | None = None

    def look(self, state: RunState) -> None:
        """Keeps the state's actor if it is time to. Of what an attempt left that trained on after its checkpoint, nothing
        stays."""
        if self._kept is None:
            self._kept = self._before(state.frames)
        if self._kept and state.frames < self._kept[-1].frames + self._distance:
            return
        self._kept.append(Moment(state.frames, _actor(state, self._own)))
        if len(self._kept) > 1 + MOST:
            self._kept = self._kept[::2]
            self._distance *= 2
        with contextlib.suppress(OSError):
            moments.write(self._path, self._kept)

    def _before(self, frames: int) -> list[Moment]:
        with contextlib.suppress(BadInput, OSError):
            found = [moment for moment in moments.read(self._path) if moment.frames <= frames]
            if len(found) > 1:
                self._distance = found[1].frames - found[0].frames
            return found
        return []


def _actor(state: RunState, own: int) -> dict:
    """A copy: a view of an update's memory would keep the next update from using it."""
    return jax.tree.map(lambda leaf: np.array(leaf[own]), jax.device_get(state.learner.params["actor"]))
