"""Whether a run makes progress: how long its heartbeat has not changed.

A run writes its heartbeat from the loop that does the work, never from a thread beside it. What counts is that the file
changes, timed with our own monotonic clock: wall clocks are never compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from flowrl.records.heartbeat import Activity, Heartbeat

LOOK_EVERY_S = 1.0
LEAST_TIMEOUT_S = 300.0
USUAL_UPDATES = 10
COMPILE_LIMIT_S = 3600.0
"""Seconds that starting and compiling may take, which write no heartbeat."""


def limit_s(beat: Heartbeat | None, stall_timeout_s: float) -> float:
    """Seconds of silence after which a run counts as hanging.

    Args:
        stall_timeout_s: as given; 0 means ten times the usual update, at least five minutes.
    """
    usual_s = beat.usual_s if beat else 0.0
    working_s = stall_timeout_s or max(LEAST_TIMEOUT_S, USUAL_UPDATES * usual_s)
    return working_s if beat and beat.activity == Activity.TRAINING else max(working_s, COMPILE_LIMIT_S)


class Pulse:
    """Measures how long a run has been silent.

    A pause of our own (a stopped scheduler, a machine that slept) is not silence of the run: between two checks, at
    most ``LONGEST_STEP_S`` count.
    """

    LONGEST_STEP_S = 5.0

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._looked_s = clock()
        self._heard: Heartbeat | None = None
        self.silent_s = 0.0

    def is_due(self) -> bool:
        """Whether it is time for another check."""
        return self._clock() - self._looked_s >= LOOK_EVERY_S

    def listen(self, beat: Heartbeat | None) -> None:
        """Takes the heartbeat that the file holds now; None where it could not be read."""
        now_s = self._clock()
        self.silent_s += min(now_s - self._looked_s, self.LONGEST_STEP_S)
        self._looked_s = now_s
        if beat is not None and beat != self._heard:
            self._heard, self.silent_s = beat, 0.0

    def is_stalled(self, stall_timeout_s: float) -> bool:
        """Whether the silence has lasted too long."""
        return self.silent_s > limit_s(self._heard, stall_timeout_s)
