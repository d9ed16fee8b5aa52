"""How long is left: guessed from the frames that similar skills took. All of it is an estimate, and shown as one."""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Pace(NamedTuple):
    """What completed skills took."""

    frames: Mapping[str, tuple[int, int]]
    """Depth in the graph and frames of each."""
    frames_per_s: Sequence[float]
    budget: int | None
    """The most frames that a skill is trained, unless its run says otherwise."""


class Work(NamedTuple):
    """What is left of one run."""

    seconds: float | None
    is_running: bool
    dependencies: tuple[str, ...]


def seconds_left(pace: Pace, depth: int, frames: int, frames_wanted: int | None, frames_per_s: float | None) -> float | None:
    """Seconds that a run still takes; None if there is nothing to go by.

    Args:
        frames: trained so far.
        frames_wanted: the most that this run is trained; None if not known.
        frames_per_s: its own speed; None if not known.
    """
    total = _total_frames(pace, depth, frames, frames_wanted if frames_wanted is not None else pace.budget)
    speed = frames_per_s or (statistics.median(pace.frames_per_s) if pace.frames_per_s else None)
    return None if total is None or not speed else max(0, total - frames) / speed


def _total_frames(pace: Pace, depth: int, frames: int, most: int | None) -> float | None:
    """What skills as deep took, as far as they took longer than this one has already; the whole budget if none did."""
    longer = [(abs(other - depth), took) for other, took in pace.frames.values() if took > frames]
    if not longer:
        return most
    nearest = min(distance for distance, _ in longer)
    usual = statistics.median(took for distance, took in longer if distance == nearest)
    return usual if most is None else min(usual, most)


def seconds_left_of_all(works: Mapping[str, Work], slots: int) -> float | None:
    """Seconds until all runs are done, each in a free slot once what it needs is done; None if one of them is not known.

    A dependency that is not among ``works`` is done already, or never will be; neither is waited for.
    """
    if not works or any(work.seconds is None for work in works.values()):
        return None
    waiting = {name: work for name, work in works.items() if not work.is_running}
    busy = [(work.seconds, name) for name, work in works.items() if work.is_running]
    heapq.heapify(busy)
    left, now = set(works), 0.0
    while busy or waiting:
        ready = [name for name, work in waiting.items() if left.isdisjoint(work.dependencies)]
        for name in ready[: max(0, slots - len(busy))]:
            heapq.heappush(busy, (now + waiting.pop(name).seconds, name))
        if not busy:  # they wait for each other, or there is no slot
            return None
        now, name = heapq.heappop(busy)
        left.remove(name)
    return now
