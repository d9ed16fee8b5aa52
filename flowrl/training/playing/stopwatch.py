"""How long the parts of a rollout take. A device works beside Python, so each part has to be waited for."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import jax

GAME, NETWORK = "game", "network"


class Stopwatch:
    """Seconds of each part, from lap to lap.

    Attributes:
        seconds: of each part so far.
    """

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self._since_s = time.perf_counter()

    def lap(self, part: str, results: Any) -> None:
        """Waits for the results of a part, and counts the time since the last lap for it."""
        jax.block_until_ready(results)
        now_s = time.perf_counter()
        self.seconds[part] += now_s - self._since_s
        self._since_s = now_s

    @property
    def network_share(self) -> float | None:
        """The network's part of the time of both; None if nothing was measured."""
        both = self.seconds[GAME] + self.seconds[NETWORK]
        return self.seconds[NETWORK] / both if both else None


class Unwatched(Stopwatch):
    """Measures nothing and waits for nothing."""

    def lap(self, part: str, results: Any) -> None:
        pass


UNWATCHED = Unwatched()
