"""Rows of a benchmark's table: what was measured, beside what is wanted."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil


class Row(NamedTuple):
    """One figure.

    Attributes:
        wanted: at least so much; None for figures that only stand beside others.
        detail: what it was made of.
    """

    what: str
    value: float
    unit: str
    wanted: float | None = None
    at_most: bool = False
    detail: str = ""

    @property
    def reached(self) -> bool | None:
        if self.wanted is None:
            return None
        return self.value <= self.wanted if self.at_most else self.value >= self.wanted

    def in_words(self) -> str:
        limit = "" if self.wanted is None else f"  ({'at most' if self.at_most else 'at least'} {self.wanted:g})"
        verdict = {None: "", True: "  reached", False: "  NOT REACHED"}[self.reached]
        return f"{self.what:<66} {self.value:>9,.4g} {self.unit}{limit}{verdict}{'  ' + self.detail if self.detail else ''}"


def interleaved(measures: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Measures one after the other, again and again, so that what else runs on the machine disturbs all alike."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repeats):
        for name, measure in measures.items():
            found[name].append(measure())
    return found


def rate(step: Callable[[], int], seconds: float) -> float:
    """What ``step`` counts, per second, over at least so many seconds."""
    began_s, count = time.perf_counter(), 0
    while (passed_s := time.perf_counter() - began_s) < seconds or not count:
        count += step()
    return count / passed_s


class OtherPrograms:
    """How much of the machine other programs take while something is measured: the figures of a busy machine are too low,
    and those of several processes more so than those of one."""

    def __init__(self):
        self._began_s, self._used_s = time.perf_counter(), _used_by_others_s()

    @property
    def cores(self) -> float:
        """Cores that they kept busy since this was made. Processes of ours must live that long."""
        return max(0.0, _used_by_others_s() - self._used_s) / (time.perf_counter() - self._began_s)

    def in_words(self) -> str:
        return f"meanwhile other programs used {self.cores:.1f} of {psutil.cpu_count()} cores"


def _used_by_others_s() -> float:
    times, own = psutil.cpu_times(), psutil.Process()
    processes = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return times.user + times.nice + times.system - sum(process.user + process.system for process in processes)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """All values, the smallest first."""
    return ", ".join(f"{value:,.{digits}f}" for value in sorted(values))


def show(rows: Sequence[Row], path: Path | None) -> None:
    """Prints rows, and writes them as JSON if there is a path."""
    for row in rows:
        print(row.in_words(), flush=True)
    if path is not None:
        path.write_text(json.dumps([_plain(row) for row in rows], indent=2, allow_nan=False) + "\n")


def _plain(row: Row) -> dict[str, Any]:
    """A row for JSON, which knows no infinity: what was never reached has no value."""
    values = {**row._asdict(), "reached": row.reached}
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()}
