"""How steps come from actors to the learner: who waited for whom, and how old the policy was that acted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Flow:
    """One or several updates of a learner. Two of them add up.

    Attributes:
        seconds: of wall-clock time.
        learner_waited_s: of that, the time in which the learner waited for trajectories.
        actors_worked_s, actors_waited_s: time that actors took steps, and that they waited for a free slot, in the
            trajectories that were learned from.
        trajectories: how many these were.
        lag_sum, largest_lag: the updates that the learner had made since each trajectory's policy.
        slots_full: full slots when each update began, summed over the updates.
        num_slots: all slots.
    """

    updates: int
    frames: int
    seconds: float
    learner_waited_s: float
    actors_worked_s: float
    actors_waited_s: float
    trajectories: int
    lag_sum: int
    largest_lag: int
    slots_full: int
    num_slots: int

    def __add__(self, other: Flow) -> Flow:
        mine, its = vars(self), vars(other)
        sums = {name: mine[name] + its[name] for name in mine}
        return Flow(**sums | {"largest_lag": max(self.largest_lag, other.largest_lag), "num_slots": other.num_slots})

    @property
    def frames_per_s(self) -> float:
        return self.frames / max(self.seconds, 1e-9)

    @property
    def mean_lag(self) -> float:
        return self.lag_sum / max(self.trajectories, 1)

    @property
    def learner_waits(self) -> float:
        """The share of its time in which the learner waited."""
        return self.learner_waited_s / max(self.seconds, 1e-9)

    @property
    def actors_wait(self) -> float:
        """The share of their time in which the actors waited."""
        return self.actors_waited_s / max(self.actors_worked_s + self.actors_waited_s, 1e-9)

    @property
    def mean_slots_full(self) -> float:
        return self.slots_full / max(self.updates, 1)

    def in_words(self) -> str:
        return (
            f"frames/s: {self.frames_per_s:,.0f}  |  policy lag: mean {self.mean_lag:.1f}, largest {self.largest_lag}  |  "
            f"waiting: learner {self.learner_waits:.0%}, actors {self.actors_wait:.0%}  |  "
            f"slots full: {self.mean_slots_full:.1f} of {self.num_slots}"
        )

    def to_json(self) -> dict[str, Any]:
        """The figures of a line of ``metrics.jsonl``."""
        return {
            "policy_lag": round(self.mean_lag, 3),
            "largest_policy_lag": self.largest_lag,
            "learner_waits": round(self.learner_waits, 4),
            "actors_wait": round(self.actors_wait, 4),
            "slots_full": round(self.mean_slots_full, 3),
            "num_slots": self.num_slots,
        }
