"""The scheduler at scale: ``python benchmarks/scheduling.py [--skills 10000] [--slots 64]``.

Prints, for layered graphs in simulated time, the makespan over its lower bound and the time of a decision; how
long the state takes to save; and, with the real scheduler and an engine without processes, the time from a completion
to the launch of what it made ready.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flowrl.parallel.scheduler import SkillScheduler
from flowrl.paths import ExperimentPaths
from flowrl.records import state_file
from flowrl.records.scheduler_state import SchedulerState, SkillEntry, Status
from tests.parallel.fakes.experiments import skill
from tests.parallel.fakes.launcher import FakeLauncher, finish
from tests.parallel.simulation.schedules import critical_path_s, layered_graph, lower_bound_s, run

LAYERS = (20, 50, 100, 150)
SAVES = 9
CHAIN = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skills", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=64)
    asked = parser.parse_args()
    for num_layers in LAYERS:
        print(schedule_line(asked.skills, num_layers, asked.slots), flush=True)
    for num_finished in (asked.skills // 100, asked.skills // 10, asked.skills):
        print(save_line(num_finished, asked.slots), flush=True)
    for num_finished in (0, asked.skills):
        print(readying_line(num_finished), flush=True)


def schedule_line(num_skills: int, num_layers: int, slots: int) -> str:
    jobs = layered_graph(num_skills, num_layers, random.Random(num_layers))
    gc.collect()
    gc.disable()  # its pauses come from the 10,000 jobs here, not from a decision
    schedule = run(jobs, slots)
    gc.enable()
    adding, deciding = sorted(schedule.decisions_s[:num_skills]), sorted(schedule.decisions_s[num_skills + 1 :])
    return (
        f"{num_skills} skills in {num_layers} layers, {slots} slots: "
        f"makespan {schedule.makespan_s / lower_bound_s(jobs, slots):.4f} "
        f"of the lower bound (critical path {critical_path_s(jobs):.0f} s, work over slots "
        f"{sum(job.duration_s for job in jobs) / slots:.0f} s); "
        f"a decision takes {_spread(deciding)}; adding a skill {_spread(adding)}"
    )


def save_line(num_finished: int, slots: int) -> str:
    now = datetime.now(UTC)
    done = [
        SkillEntry(
            skill_name=f"S{index}", status=Status.COMPLETED, expert_idx=index, attempt=1, started_at=now, completed_at=now,
            dependencies=[f"S{index - 1}"] if index else [], frames=100_000_000, success_rate=0.9, minutes=31.5,
        )
        for index in range(num_finished)
    ]  # fmt: skip
    running = [SkillEntry(skill_name=f"R{i}", status=Status.RUNNING, skill_data=skill(f"R{i}")) for i in range(slots)]
    with tempfile.TemporaryDirectory() as folder:
        paths, took_s = ExperimentPaths(Path(folder)), []
        state = SchedulerState(max_parallel=slots, skills=done + running)
        state_file.save(paths, state)
        for _ in range(SAVES):
            begun = time.perf_counter()
            state_file.save(paths, state)
            took_s.append(time.perf_counter() - begun)
        size_mb = paths.state.stat().st_size / 1e6
    return (
        f"saving a state with {num_finished} finished and {slots} running skills ({size_mb:.1f} MB): {_spread(sorted(took_s))}"
    )


def readying_line(num_finished: int) -> str:
    """A chain of skills that each end as soon as they are started, on top of ``num_finished`` finished ones."""
    with tempfile.TemporaryDirectory() as folder:
        took_s, written = [], []

        def end(spec):
            if written:
                took_s.append(time.perf_counter() - written.pop())
            finish(spec)
            written.append(time.perf_counter())

        paths = ExperimentPaths(Path(folder) / "exp")
        state = SchedulerState(
            skills=[SkillEntry(skill_name=f"S{i}", status=Status.COMPLETED, expert_idx=i) for i in range(num_finished)]
        )
        state_file.save(paths, state)
        scheduler = SkillScheduler(base_dir=paths.root, max_parallel=1, poll_interval=3600, launcher=FakeLauncher(end))
        for number in range(CHAIN):
            scheduler.add_skill(f"C{number}", skill(f"C{number}"), [f"C{number - 1}"] if number else [])
        thread = threading.Thread(target=scheduler.run, daemon=True)
        thread.start()
        thread.join()
    return (
        f"from a result to the next launch, {num_finished} skills finished before: {_spread(sorted(took_s))} (merge included)"
    )


def _spread(sorted_s: list[float]) -> str:
    almost_all_s = sorted_s[int(0.99 * len(sorted_s))]
    return f"{_ms(statistics.median(sorted_s))} (99 in 100 under {_ms(almost_all_s)}, at most {_ms(sorted_s[-1])})"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


if __name__ == "__main__":
    main()
