"""Whole experiments in simulated time: how long the core's order of launches takes, and how long it takes to decide."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flowrl.parallel.core import SchedulerCore
from flowrl.parallel.events import Launch, Launched, Merge, Merged, Resumed, RunEnded, SkillAdded
from flowrl.parallel.launch_queue import LaunchQueue
from flowrl.records.scheduler_state import SchedulerState

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Job:
    """A skill, and the seconds that it takes to train."""

    name: str
    dependencies: tuple[str, ...]
    duration_s: float


@dataclass(frozen=True)
class Schedule:
    """``decisions_s``: the CPU time that each of the core's decisions took."""

    makespan_s: float
    decisions_s: tuple[float, ...]
    order: tuple[str, ...]


class FirstCome(SchedulerCore):
    """Launches the skill that was added first, no matter what waits for it."""

    class queue_type(LaunchQueue):
        def raise_heights(self, name):
            pass


def layered_graph(num_jobs: int, num_layers: int, rng: random.Random, most_needs: int = 3) -> list[Job]:
    """Layers of about the same size; each skill needs one to ``most_needs`` of the layer before."""
    layers = [range(layer * num_jobs // num_layers, (layer + 1) * num_jobs // num_layers) for layer in range(num_layers)]
    jobs = []
    for number, layer in enumerate(layers):
        before = layers[number - 1] if number else ()
        for job in layer:
            needs = rng.sample(before, min(len(before), rng.randint(1, most_needs)))
            jobs.append(Job(f"S{job}", tuple(f"S{need}" for need in sorted(needs)), rng.lognormvariate(0, 0.5)))
    return jobs


def tech_tree(num_jobs: int, rng: random.Random) -> list[Job]:
    """As skills are proposed: each needs none to three of those before it, mostly late ones."""
    jobs = []
    for number in range(num_jobs):
        needs = {int(number * (1 - rng.random() ** 2)) for _ in range(rng.randint(0, 3))} if number else ()
        jobs.append(Job(f"S{number}", tuple(f"S{need}" for need in sorted(needs)), rng.lognormvariate(0, 0.5)))
    return jobs


def critical_path_s(jobs: Sequence[Job]) -> float:
    """The longest chain: no schedule is shorter."""
    ends: dict[str, float] = {}
    for job in jobs:
        ends[job.name] = job.duration_s + max((ends[need] for need in job.dependencies), default=0.0)
    return max(ends.values())


def lower_bound_s(jobs: Sequence[Job], slots: int) -> float:
    """The larger of the critical path, and of all work over the slots."""
    return max(critical_path_s(jobs), sum(job.duration_s for job in jobs) / slots)


def run(jobs: Sequence[Job], slots: int, core_type: type[SchedulerCore] = SchedulerCore) -> Schedule:
    """Adds all jobs, in their order, and lets each run for its duration."""
    core = core_type(SchedulerState(max_parallel=slots), max_retries=0)
    durations = {job.name: job.duration_s for job in jobs}
    ends: list[tuple[float, str]] = []
    decisions, order = [], []

    def tell(event, now_s: float) -> list:
        begun = time.thread_time()
        actions = core.handle(event, START + timedelta(seconds=now_s))
        decisions.append(time.thread_time() - begun)
        for action in actions:
            if isinstance(action, Launch):
                order.append(action.name)
                heapq.heappush(ends, (now_s + durations[action.name], action.name))
                tell(Launched(action.name, action.attempt, action.name, action.name), now_s)
            elif isinstance(action, Merge):
                tell(Merged(action.name, action.attempt), now_s)
        return actions

    for job in jobs:
        tell(SkillAdded(job.name, {}, job.dependencies), 0.0)
    tell(Resumed(), 0.0)
    now_s = 0.0
    while ends:
        now_s, name = heapq.heappop(ends)
        tell(RunEnded(name, core.entries[name].attempt, "completed", frames=1), now_s)
    assert core.is_complete() and len(order) == len(jobs)
    return Schedule(now_s, tuple(decisions), tuple(order))
