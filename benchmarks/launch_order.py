"""Which skill to launch first when more are ready than there are slots: ``python benchmarks/launch_order.py [--graphs
200]``.

Random graphs of two kinds, skills of random durations that nobody knows beforehand. For each size and number of slots:
the median makespan over the lower bound (the larger of the critical path and of all work over the slots), with the
scheduler's rule (longest remaining path first), with first-come, and with an oracle that knows all durations.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flowrl.parallel.core import SchedulerCore
from flowrl.parallel.launch_queue import LaunchQueue
from tests.parallel.simulation.schedules import FirstCome, Job, layered_graph, lower_bound_s, run, tech_tree

CASES = [(40, 3), (40, 8), (100, 3), (100, 8), (400, 16)]
KINDS = {
    "tech tree": tech_tree,
    "layers": lambda num_jobs, rng: layered_graph(num_jobs, max(2, num_jobs // 10), rng),
}


def knowing(jobs: list[Job]) -> type[SchedulerCore]:
    """A core whose heights are the real seconds of work to come."""
    below: dict[str, float] = {job.name: 0.0 for job in jobs}
    for job in reversed(jobs):
        for need in job.dependencies:
            below[need] = max(below[need], below[job.name] + job.duration_s)
    remaining = {job.name: below[job.name] + job.duration_s for job in jobs}

    class KnowingQueue(LaunchQueue):
        def raise_heights(self, name):
            self._heights[name] = remaining[name]

    return type("Knowing", (SchedulerCore,), {"queue_type": KnowingQueue})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=int, default=200)
    asked = parser.parse_args()
    print("graph      skills slots  longest path first  first-come  oracle  shorter than first-come in")
    for kind, make in KINDS.items():
        for num_jobs, slots in CASES:
            print(_line(kind, make, num_jobs, slots, asked.graphs), flush=True)


def _line(kind: str, make, num_jobs: int, slots: int, num_graphs: int) -> str:
    ours, theirs, best, won, lost = [], [], [], 0, 0
    for seed in range(num_graphs):
        jobs = make(num_jobs, random.Random(seed))
        bound_s = lower_bound_s(jobs, slots)
        longest, first, oracle = (run(jobs, slots, core).makespan_s for core in (SchedulerCore, FirstCome, knowing(jobs)))
        ours.append(longest / bound_s)
        theirs.append(first / bound_s)
        best.append(oracle / bound_s)
        won += longest < first - 1e-9
        lost += longest > first + 1e-9
    medians = [statistics.median(ratios) for ratios in (ours, theirs, best)]
    return (
        f"{kind:10} {num_jobs:6} {slots:5} {medians[0]:19.3f} {medians[1]:11.3f} {medians[2]:7.3f}"
        f"  {won / num_graphs:.0%}, longer in {lost / num_graphs:.0%}"
    )


if __name__ == "__main__":
    main()
