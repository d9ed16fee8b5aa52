"""``queue.json``: where the jobs of an experiment stand in a cluster's queue, for people who look.

The scheduler writes it when it has asked the cluster, so that no one else has to. Nothing is decided by it. The words for it
are here as well, so that a job's session and `flowrl status` say the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json

_REASONS = {
    "Priority": "jobs of higher priority go first",
    "Resources": "no node has room for it yet",
    "BeginTime": "its start time has not come",
    "Dependency": "it waits for another job",
    "Licenses": "a licence is not free yet",
    "Reservation": "its reservation has not begun",
    "JobHeldUser": "it is held; `scontrol release` releases it",
    "JobHeldAdmin": "an administrator holds it",
    "PartitionTimeLimit": "its --slurm_time is more than the partition allows",
    "PartitionNodeLimit": "it asks for more than the partition allows",
    "PartitionDown": "the partition accepts no jobs now",
    "PartitionInactive": "the partition accepts no jobs now",
    "ReqNodeNotAvail": "the nodes that it may use are down or reserved",
    "NodeDown": "a node that it needs is down",
    "BadConstraints": "no node fits its --slurm_args",
    "QOSGrp": "your group has reached its limit on the cluster",
    "AssocGrp": "your group has reached its limit on the cluster",
    "QOSMax": "you have reached your limit on the cluster",
    "AssocMax": "you have reached your limit on the cluster",
    "MaxJobs": "you have reached your limit on the cluster",
    "AssociationJobLimit": "you have reached your limit on the cluster",
}
"""By how Slurm's own word begins; a cluster may have others, which are shown as they are."""


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

    @property
    def waits(self) -> bool:
        """Whether the job has not begun."""
        return self.place is not None or not self.job

    @property
    def why(self) -> str:
        """The reason in words, with the cluster's own word for it: ``Priority: jobs of higher priority go first``."""
        word = self.reason.partition(",")[0]
        words = next((words for beginning, words in _REASONS.items() if word.startswith(beginning)), "")
        return f"{word}: {words}" if words else self.reason

    def __str__(self) -> str:
        if not self.job:
            return f"not in the queue yet: {self.why}" if self.reason else "not in the queue yet"
        where = f" on {self.node}" if self.node else ""
        place = f", place {self.place} of your {self.waiting} waiting jobs" if self.place else ""
        why = f" ({self.why})" if self.reason else ""
        expected = f", expected to start {_moment(self.expected_at)}" if self.expected_at else ""
        return f"job {self.job} {self.state.lower()}{where}{place}{why}{expected}"


@dataclass(frozen=True)
class QueueRecord:
    """What the file holds."""

    asked_at: str = ""
    """When the cluster last said something new; ISO 8601, UTC."""
    silence: str = ""
    """Why it gave no answer when it was asked last; empty if it did."""
    places: tuple[Place, ...] = ()
    silent_since: str = ""
    """When it first did not answer; ISO 8601, UTC; empty if it answers."""

    def of(self, run: str, attempt: int) -> Place | None:
        """The place of the job for an attempt at a run, by the name of the run's folder."""
        return next((place for place in self.places if (place.run, place.attempt) == (run, attempt)), None)

    @property
    def age_in_words(self) -> str:
        """Since when the queue is as the record says; empty before it is known. While nothing changes, nothing is written."""
        return f"the queue last changed {_moment(self.asked_at)}" if self.asked_at else ""

    @property
    def silence_in_words(self) -> str:
        """Since when the cluster has not answered, and why; empty if it answers."""
        if not self.silence:
            return ""
        answers = f"has not answered since {_moment(self.silent_since)}" if self.silent_since else "does not answer"
        return f"the cluster {answers}: {self.silence}"


def write(path: Path, record: QueueRecord) -> None:
    """Writes the record, whole."""
    write_json(path, asdict(record))


def find(path: Path) -> QueueRecord | None:
    """The record; None if there is none that can be read."""
    try:
        data = read_json(path)
        places = tuple(Place(**place) for place in data["places"])
        return QueueRecord(data["asked_at"], data["silence"], places, data.get("silent_since", ""))
    except (OSError, BadInput, KeyError, TypeError, AttributeError):
        return None


def _moment(text: str) -> str:
    """A time as people read it; text that is none is shown as it is."""
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return text
