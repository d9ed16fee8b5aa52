"""How fast this process makes updates."""

from __future__ import annotations

import bisect
import statistics
import time

from flowrl.training.run.resources import TimeShares


class Clock:
    """The seconds of one process's updates, without the time between them."""

    def __init__(self, started_s: float, frames_per_update: int):
        """
        Args:
            started_s: when the process started, in seconds since the epoch.
        """
        self._started_s, self._frames_per_update = started_s, frames_per_update
        self.first_update_s: float | None = None
        """Seconds from the start of the process to the end of its first update; None before that."""
        self.update_seconds: list[float] = []
        self._sorted: list[float] = []
        self._playing_s, self._learning_s = 0.0, 0.0
        self._network_share: float | None = None

    def count(self, seconds: float) -> None:
        """Records how long an update took."""
        if self.update_seconds:
            # There may be tens of thousands, and each update needs their median.
            bisect.insort(self._sorted, seconds)
        self.update_seconds.append(seconds)
        if self.first_update_s is None:
            self.first_update_s = self.seconds_alive

    def spent(self, playing_s: float, learning_s: float, network_share: float | None = None) -> None:
        """Records the parts of an update, before the update itself. The first update compiles, so it does not count.

        Args:
            network_share: the network's part of ``playing_s``, if it was measured.
        """
        if self.first_update_s is None:
            return
        self._playing_s += playing_s
        self._learning_s += learning_s
        self._network_share = self._network_share if network_share is None else network_share

    @property
    def time_shares(self) -> TimeShares | None:
        """Where the time since the first update went; None before the second."""
        whole_s = self.seconds_alive - (self.first_update_s or 0.0)
        if self.num_updates < 2 or whole_s <= 0 or not self._playing_s:
            return None
        playing, update = self._playing_s / whole_s, self._learning_s / whole_s
        return TimeShares(playing, self._network_share, update, max(0.0, 1 - playing - update))

    @property
    def num_updates(self) -> int:
        """Updates of this process so far."""
        return len(self.update_seconds)

    @property
    def seconds_alive(self) -> float:
        """Since the start of the process."""
        return time.time() - self._started_s

    @property
    def seconds_per_update(self) -> float:
        """The median; 0 before the first update. The first one compiles, so it does not count once there are others."""
        return statistics.median(self._sorted or self.update_seconds or [0.0])

    @property
    def frames_per_s(self) -> float:
        """Frames per second at the usual pace; only valid after the first update."""
        return self._frames_per_update / self.seconds_per_update

    def timings(self) -> dict[str, float | None]:
        """The fields of ``result.json`` about time; all None if this process has made no update."""
        if not self.update_seconds:
            return dict.fromkeys(("seconds_to_first_update", "seconds_per_update", "seconds_training", "frames_per_s"))
        return {
            "seconds_to_first_update": round(self.first_update_s, 3),
            "seconds_per_update": round(self.seconds_per_update, 4),
            "seconds_training": round(sum(self.update_seconds), 3),
            "frames_per_s": round(self.frames_per_s, 1),
        }
