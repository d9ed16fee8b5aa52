"""How a training went, update by update: the data of a learning curve."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowrl.records import tried
from flowrl.records.tried import Tried

MOST_POINTS = 100
"""A curve of a million updates looks the same with so many, and fifty of them do not fill the page."""
_DIGITS = 4


@dataclass
class Curve:
    """One value for each update that is kept; None where nothing was known then."""

    frames: list[int] = field(default_factory=list)
    raw: list[float | None] = field(default_factory=list)
    """Success as the newest episodes show it; of a rehearsal, achievements; of a plain agent, the reward of a step."""
    cohorts: list[float | None] = field(default_factory=list)
    """Success over whole cohorts of episodes: smoother, and unbiased."""
    entropy: list[float | None] = field(default_factory=list)
    tried: list[Tried | None] = field(default_factory=list)
    """What the skill's own expert did lately; None where the game names no actions."""
    tests: list[tuple[int, float]] = field(default_factory=list)
    """Frames and rate of each test for the goal."""
    attempts: list[tuple[int, int]] = field(default_factory=list)
    """Attempt, and the frames at which it began; the first one is left out."""

    def __bool__(self) -> bool:
        return bool(self.frames)

    @property
    def last_tried(self) -> Tried | None:
        """What the expert does now, or did at the end."""
        return self.tried[-1] if self.tried else None

    @property
    def decisive_shares(self) -> list[float | None]:
        """How often the expert tried what brought most successes."""
        return [None if found is None else _short(found.decisive_share) for found in self.tried]

    def rows(self, most: int) -> list[tuple]:
        """At most so many rows, evenly chosen: frames, latest episodes, whole cohorts, entropy, the decisive action's share."""
        step = max(1, -(-len(self.frames) // most))
        return list(zip(self.frames, self.raw, self.cohorts, self.entropy, self.decisive_shares))[::step]


def read(path: Path, never_done: bool = False) -> Curve:
    """The curve in a ``metrics.jsonl``; empty where there is none. Damaged lines are left out.

    Args:
        never_done: there is nothing to succeed at; the curve is that of the reward.
    """
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return Curve()
    rows = [row for row in map(_row, lines) if row]
    curve, attempt, tested = Curve(), None, None
    for row in rows:
        if attempt is not None and row.get("attempt") not in (None, attempt):
            curve.attempts.append((row["attempt"], row["frames"]))
        attempt = row.get("attempt", attempt)
        rate = row.get("test_success_rate")
        if rate is not None and rate != tested:
            curve.tests.append((row["frames"], rate))
        tested = rate
    for row in _thinned(rows):
        curve.frames.append(row["frames"])
        curve.raw.append(_short(row.get("reward") if never_done else row.get("achievements", row.get("estimate"))))
        curve.cohorts.append(None if never_done else _short(row.get("success_rate")))
        curve.entropy.append(_short(row.get("entropy")))
        curve.tried.append(tried.from_data(row.get("tried")))
    return curve


def _short(value: Any) -> float | None:
    return round(value, _DIGITS) if isinstance(value, int | float) else None


def _row(line: str) -> dict | None:
    try:
        row = json.loads(line)
        return row if isinstance(row, dict) and isinstance(row.get("frames"), int) else None
    except ValueError:
        return None


def _thinned(rows: Sequence[dict]) -> list[dict]:
    """Evenly chosen rows, the last one among them."""
    step = max(1, -(-len(rows) // MOST_POINTS))
    chosen = list(rows[::step])
    return chosen if not rows or chosen[-1] is rows[-1] else [*chosen, rows[-1]]
