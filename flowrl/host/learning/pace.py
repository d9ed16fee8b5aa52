"""How fast a training is, once its programs are compiled."""

from __future__ import annotations

WARM_UP_UPDATES = 3
"""The first updates compile, or read programs from disk."""


class Pace:
    """Frames and seconds of updates, without the first ones and without what is between updates."""

    def __init__(self):
        self._updates = self._frames = 0
        self._seconds = 0.0

    def add(self, frames: int, seconds: float) -> None:
        """Counts one update: collecting its frames and learning from them."""
        self._updates += 1
        if self._updates > WARM_UP_UPDATES:
            self._frames += frames
            self._seconds += seconds

    @property
    def frames_per_s(self) -> float | None:
        """None before it is known."""
        return self._frames / self._seconds if self._frames else None
