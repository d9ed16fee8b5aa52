"""``queue.json``: where the jobs of an experiment stand in a cluster's queue, for people who look.

The scheduler writes it when it has asked the cluster, so that no one else has to. Nothing is decided by it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json


@dataclass(frozen=True)
class Place:
    """One run's job. ``attempt``: the one that the job is for."""

    run: str
    """The name of the run's folder."""
    attempt: int
    job: str = ""
    """Its number; empty until the cluster has taken it."""
    state: str = ""
    """As the cluster says it: PENDING, RUNNING, ..."""
    reason: str = ""
    """Why it waits, or how it ended; empty if there is nothing to say."""
    node: str = ""
    place: int | None = None
    """Its place among this user's waiting jobs, from 1; None if it does not wait."""
    waiting: int = 0
    """How many these are."""
    expected_at: str = ""
    """When the cluster expects to start it; ISO 8601, UTC; empty if it does not say."""

    def __str__(self) -> str:
        if not self.job:
            return f"not in the queue yet: {self.reason}" if self.reason else "not in the queue yet"
        where = f" on {self.node}" if self.node else ""
        place = f", place {self.place} of your {self.waiting} waiting jobs" if self.place else ""
        why = f" ({self.reason})" if self.reason else ""
        expected = f", expected to start {self.expected_at}" if self.expected_at else ""
        return f"job {self.job} {self.state.lower()}{where}{place}{why}{expected}"


@dataclass(frozen=True)
class QueueRecord:
    """What the file holds."""

    asked_at: str = ""
    """When the cluster answered last; ISO 8601, UTC."""
    silence: str = ""
    """Why it gave no answer when it was asked last; empty if it did."""
    places: tuple[Place, ...] = ()

    def of(self, run: str) -> Place | None:
        """The place of a run's job, by the name of the run's folder."""
        return next((place for place in self.places if place.run == run), None)


def write(path: Path, record: QueueRecord) -> None:
    """Writes the record, whole."""
    write_json(path, asdict(record))


def find(path: Path) -> QueueRecord | None:
    """The record; None if there is none that can be read."""
    try:
        data = read_json(path)
        places = tuple(Place(**place) for place in data["places"])
        return QueueRecord(data["asked_at"], data["silence"], places)
    except (OSError, BadInput, KeyError, TypeError, AttributeError):
        return None
