"""A thousand jobs in a cluster's queue, on paper: ``python benchmarks/cluster_scale.py [--jobs 1000] [--minutes 30]``.

The real launcher asks a queue that is a table, by a clock that the simulation moves. Each five seconds some jobs start, and
some end at random moments; others take their places. Prints how often the cluster is asked, what a look costs, and how large
the files are.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from flowrl.parallel.launchers import slurm  # noqa: E402
from flowrl.parallel.launchers.base import Handle, LaunchSpec  # noqa: E402
from flowrl.parallel.launchers.slurm import ASK_EVERY_S, SlurmLauncher  # noqa: E402
from flowrl.parallel.launchers.slurm_options import SlurmOptions  # noqa: E402
from flowrl.records import ending  # noqa: E402
from flowrl.records.ending import Ending  # noqa: E402
from tests.parallel.fakes.cluster_queue import NOW_S, FakeQueue, FakeSessions  # noqa: E402

RUNNING = 200
"""Jobs that the cluster runs at a time."""
ENDS = 0.02
"""Share of them that end between two looks."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=30.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder).resolve(), asked.jobs, round(asked.minutes * 60 / ASK_EVERY_S))
    return 0


class Clock:
    """In place of the module ``time``, for the launcher."""

    def __init__(self):
        self.now_s = NOW_S

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def simulate(experiment: Path, num_jobs: int, looks: int) -> None:
    chance, cluster, clock = random.Random(0), FakeQueue(), Clock()
    cluster.starts_at_once = False
    slurm.time = clock
    launcher = SlurmLauncher(SlurmOptions(), cluster, FakeSessions(), now=clock.monotonic)
    handles = [launch(launcher, experiment, index) for index in range(num_jobs)]
    cluster.calls.clear()
    costs_s, num_ended, next_index = [], 0, num_jobs
    for look in range(looks):
        clock.now_s = look_s = NOW_S + look * ASK_EVERY_S
        start(cluster, chance, clock.now_s)
        begun_s = time.process_time()
        launcher.poll(handles)
        costs_s.append(time.process_time() - begun_s)
        for at_s in sorted(chance.uniform(look_s, look_s + ASK_EVERY_S) for _ in range(round(RUNNING * ENDS))):
            clock.now_s = max(at_s, clock.now_s)
            ended = end_one(cluster, chance, clock.now_s, handles)
            if ended is None:
                continue
            launcher.cancel(ended, 0.0)
            shutil.rmtree(ended.run_folder)  # as its merge does
            handles.remove(ended)
            handles.append(launch(launcher, experiment, next_index))
            num_ended, next_index = num_ended + 1, next_index + 1
    minutes = looks * ASK_EVERY_S / 60
    print(f"{num_jobs} jobs in the queue, {minutes:g} minutes, {num_ended} of them ended and were replaced")
    for command, count in Counter(cluster.calls).items():
        print(f"{command}: {count / minutes:.1f} calls a minute")
    print(f"one look: median {sorted(costs_s)[len(costs_s) // 2] * 1000:.0f} ms, most {max(costs_s) * 1000:.0f} ms of CPU time")
    print(f"queue.json: {(experiment / 'queue.json').stat().st_size / 1024:.0f} KiB")
    print(f"kept in memory: {len(launcher._seen):,} names of jobs seen")


def launch(launcher: SlurmLauncher, experiment: Path, index: int) -> Handle:
    folder = experiment / "training_runs" / f"skill_{index}_S{index}"
    folder.mkdir(parents=True)
    return launcher.launch(
        LaunchSpec(experiment, folder, f"S{index}", index, 1, ("true",), experiment, {"PATH": "/usr/bin:/bin"})
    )


def end_one(cluster: FakeQueue, chance: random.Random, now_s: float, handles: Sequence[Handle]) -> Handle | None:
    """A job that runs ends, and its keeper writes that down; None if none runs."""
    running = [job for job in cluster.table.values() if job.state == "RUNNING"]
    if not running:
        return None
    job = chance.choice(running)
    cluster.set(job.id, state="COMPLETED", ended_s=now_s)
    folder = Path(job.comment.split(":", 2)[2])
    ending.write(folder / "run.exit", Ending(1, 0))
    return next(handle for handle in handles if handle.run_folder == folder)


def start(cluster: FakeQueue, chance: random.Random, now_s: float) -> None:
    """The next jobs start, and what ended long ago is forgotten."""
    num_running = sum(job.state == "RUNNING" for job in cluster.table.values())
    waiting = [job for job in cluster.table.values() if job.state == "PENDING"]
    for job in waiting[: RUNNING - num_running]:
        cluster.set(job.id, state="RUNNING", reason="", node=f"node{chance.randrange(64)}")
    for job in [job for job in cluster.table.values() if job.ended_s and now_s - job.ended_s > 300]:
        cluster.forget(job.id)


if __name__ == "__main__":
    sys.exit(main())
