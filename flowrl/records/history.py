"""``history.jsonl``: a line for each time that a skill or rehearsal came to another status, stage or attempt.

The state says how things stand; this says how they came to it: when each attempt ran, in which slot, and what it waited for. It
is for people and for the report. Nothing is decided by it, so a line that a full disk or a kill has swallowed does no harm.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from flowrl.files import append_line
from flowrl.records.scheduler_state import SkillEntry, Stage, Status


class Moment(NamedTuple):
    """One line: from this time on, this is how a skill stood."""

    at: datetime
    skill_name: str
    status: Status
    stage: Stage | None
    attempt: int
    slot: int | None


@dataclass
class History:
    """Writes the file of one experiment.

    Attributes:
        known: how each skill stood last, as (status, stage, attempt).
    """

    path: Path
    known: dict[str, tuple]

    @classmethod
    def of(cls, path: Path, entries: Iterable[SkillEntry]) -> History:
        """A history that goes on from here; what happened before is not written again."""
        return cls(path, {entry.skill_name: _phase(entry) for entry in entries})

    def look(self, entries: Iterable[SkillEntry], now: datetime) -> None:
        """Writes down what has changed since the last look."""
        for entry in entries:
            if self.known.get(entry.skill_name) != _phase(entry):
                self.known[entry.skill_name] = _phase(entry)
                line = Moment(now, entry.skill_name, entry.status, entry.stage, entry.attempt, entry.slot)
                with contextlib.suppress(OSError):
                    append_line(self.path, json.dumps(line._asdict() | {"at": now.isoformat(timespec="milliseconds")}))


def read(path: Path) -> list[Moment]:
    """All lines in order; those that are damaged are left out. Empty where there is no file: an earlier flowrl wrote none."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [moment for line in lines if (moment := _moment(line))]


def _moment(line: str) -> Moment | None:
    try:
        data = json.loads(line)
        stage = None if data["stage"] is None else Stage(data["stage"])
        at, status = datetime.fromisoformat(data["at"]), Status(data["status"])
        slot = None if data["slot"] is None else int(data["slot"])
        return Moment(at, str(data["skill_name"]), status, stage, int(data["attempt"]), slot)
    except (ValueError, TypeError, KeyError):
        return None


def _phase(entry: SkillEntry) -> tuple:
    return entry.status, entry.stage, entry.attempt
