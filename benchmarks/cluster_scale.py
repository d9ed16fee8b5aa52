"""A thousand jobs in a cluster's queue, on paper: ``python benchmarks/cluster_scale.py [--jobs 1000] [--minutes 30]``.

The real launcher asks a queue that is a table. Each simulated five seconds some jobs start and some end, and others take their
places. Prints how often the cluster is asked, what a look costs, and how large the files are.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from flowrl.parallel.launchers import slurm  # noqa: E402
from flowrl.parallel.launchers.base import Handle, LaunchSpec, Phase  # noqa: E402
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


def simulate(experiment: Path, num_jobs: int, looks: int) -> None:
    chance, cluster = random.Random(0), FakeQueue()
    cluster.starts_at_once = False
    now = {"s": NOW_S}
    launcher = SlurmLauncher(SlurmOptions(), cluster, FakeSessions(), now=lambda: now["s"])
    slurm.FRESH_S = ASK_EVERY_S / 2  # the real age of an answer plays no part here
    handles = [launch(launcher, experiment, index) for index in range(num_jobs)]
    cluster.calls.clear()
    costs_s, num_ended, next_index = [], 0, num_jobs
    for _ in range(looks):
        now["s"] += ASK_EVERY_S
        launcher._forget_answer()
        move(cluster, chance, now["s"])
        begun_s = time.process_time()
        statuses = launcher.poll(handles)
        costs_s.append(time.process_time() - begun_s)
        ended = [handle for handle in handles if statuses[handle.engine_id].phase is Phase.EXITED]
        for handle in ended:
            launcher.cancel(handle, 0.0)
            shutil.rmtree(handle.run_folder)  # as its merge does
        handles = [handle for handle in handles if handle not in ended]
        handles += [launch(launcher, experiment, next_index + number) for number in range(len(ended))]
        num_ended, next_index = num_ended + len(ended), next_index + len(ended)
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


def move(cluster: FakeQueue, chance: random.Random, now_s: float) -> None:
    """Some jobs end, the next ones start, and what ended long ago is forgotten."""
    running = [job for job in cluster.table.values() if job.state == "RUNNING"]
    for job in chance.sample(running, round(len(running) * ENDS)):
        cluster.set(job.id, state="COMPLETED", ended_s=now_s)
        folder = Path(job.comment.split(":", 2)[2])
        ending.write(folder / "run.exit", Ending(1, 0))
    waiting = [job for job in cluster.table.values() if job.state == "PENDING"]
    for job in waiting[: RUNNING - len(running)]:
        cluster.set(job.id, state="RUNNING", reason="", node=f"node{chance.randrange(64)}")
    for job in [job for job in cluster.table.values() if job.ended_s and now_s - job.ended_s > 300]:
        cluster.forget(job.id)


if __name__ == "__main__":
    sys.exit(main())
