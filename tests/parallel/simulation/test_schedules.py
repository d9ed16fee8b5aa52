"""Ten thousand skills in 64 slots: how good the schedule is, and that deciding stays cheap."""

from __future__ import annotations

import random
import statistics

import pytest

from flowrl.parallel.core import SchedulerCore
from flowrl.parallel.launch_queue import LaunchQueue
from tests.parallel.simulation.schedules import FirstCome, layered_graph, lower_bound_s, run, tech_tree

SLOTS = 64


class CountingQueue(LaunchQueue):
    """Counts the skills that it looks at to find those to launch."""

    looks = 0

    def _is_due(self, name, now):
        type(self).looks += 1
        return super()._is_due(name, now)


@pytest.mark.parametrize("num_layers", [50, 100])
def test_ten_thousand_skills_take_hardly_longer_than_they_must_and_each_is_looked_at_once(num_layers):
    jobs = layered_graph(10_000, num_layers, random.Random(num_layers))
    counting = type("Counting", (CountingQueue,), {})
    schedule = run(jobs, SLOTS, type("CountingCore", (SchedulerCore,), {"queue_type": counting}))
    assert schedule.makespan_s <= 1.05 * lower_bound_s(jobs, SLOTS)
    assert counting.looks == len(jobs)


def test_the_longest_path_first_beats_first_come():
    ratios = []
    for seed in range(40):
        jobs = tech_tree(100, random.Random(seed))
        ratios.append(run(jobs, 8).makespan_s / run(jobs, 8, FirstCome).makespan_s)
    assert statistics.median(ratios) < 0.995
    assert statistics.mean(ratios) < 0.995
