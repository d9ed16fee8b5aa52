"""How long a run takes to start: cold, and for skills with code that is new on this machine.

    python benchmarks/second_start.py                        # both games, 256 x 32
    python benchmarks/second_start.py --env_name Craftax-Symbolic-v1 --repeats 1

The overhead of a run is the time from its launch to its first finished update, less the median of its later updates.
The first run of a game starts with an empty cache, and trains until it has compiled what later runs need; each later
one has new code, and a plan of one task, then of two (with an expert from the library), and so on. Runs are real training
processes, started as the scheduler starts them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from real_runs import prepare
from sizes import size_parser

from flowrl.envs.registry import GAMES
from flowrl.machine import usable_cores
from flowrl.paths import RunPaths
from flowrl.training.run.compile_ahead import COMPILED

UPDATES = 5
LIMIT_S = 900


def overhead_s(run: RunPaths, cache: Path, until_done: bool = False) -> tuple[float, float]:
    """Starts a run, waits for its first updates, ends it; its overhead, and the median of its later updates.

    Args:
        until_done: whether to end it only when it has compiled what later runs need.
    """
    environment = {**os.environ, "FLOWRL_CACHE_DIR": str(cache)}
    process = subprocess.Popen(
        [sys.executable, "-m", "flowrl.training", str(run.folder)], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        seconds = updates_of(run, process)
        if until_done:
            wait_until_compiled(run, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    later = statistics.median(after - before for before, after in itertools.pairwise(seconds))
    return seconds[0] - later, later


def wait_until_compiled(run: RunPaths, process: subprocess.Popen) -> None:
    """Returns when a run has compiled what later runs need."""
    deadline_s = time.monotonic() + LIMIT_S
    while COMPILED not in run.log.read_text():
        if process.poll() is not None:
            raise SystemExit(f"{run.folder} ended with exit code {process.returncode} while it compiled: see {run.log}")
        if time.monotonic() > deadline_s:
            raise SystemExit(f"{run.folder} did not compile what later runs need in {LIMIT_S} s: see {run.log}")
        time.sleep(1)


def updates_of(run: RunPaths, process: subprocess.Popen) -> list[float]:
    """Seconds from the start of the process to the end of each of its first updates."""
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        lines = run.metrics.read_text().splitlines() if run.metrics.exists() else []
        if len(lines) >= UPDATES:
            return [json.loads(line)["seconds"] for line in lines[:UPDATES]]
        if process.poll() is not None:
            raise SystemExit(f"{run.folder} ended with exit code {process.returncode}: see {run.log}")
        time.sleep(0.2)
    raise SystemExit(f"{run.folder} made no {UPDATES} updates in {LIMIT_S} s: see {run.log}")


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    scratch = Path(tempfile.mkdtemp(prefix="flowrl_start_"))
    cache = Path(options.cache) if options.cache else scratch / "cache"
    try:
        for env_name in options.env_name or GAMES:
            report(env_name, options, scratch / env_name, cache)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def report(env_name: str, options: argparse.Namespace, scratch: Path, cache: Path) -> None:
    """Prints a game's table."""
    settings = {
        "env_name": env_name,
        "num_envs": options.num_envs,
        "num_steps": options.num_steps,
        "layer_size": options.layer_size,
        "total_timesteps": 1000 * UPDATES * options.num_envs * options.num_steps,
        "stop_at_goal": False,
    }
    print(f"\n{env_name}, {options.num_envs} x {options.num_steps}, width {options.layer_size}, {len(usable_cores())} cores")
    salt = int(time.time()) % 100_000
    if not options.cache:
        show("first skill, nothing cached", [overhead_s(prepare(scratch / "cold", salt, 1, settings), cache, True)])
    for num_tasks in options.tasks:
        found = []
        for number in range(options.repeats):
            salt += 1
            found.append(overhead_s(prepare(scratch / f"{num_tasks}_{number}", salt, num_tasks, settings), cache))
            if number == 0 and num_tasks > 1:
                show(f"new code, {num_tasks} tasks, the first time", found)
        show(f"new code, {num_tasks} task{'s' * (num_tasks > 1)}", found)


def show(what: str, found: list[tuple[float, float]]) -> None:
    overhead = statistics.median(overhead for overhead, _ in found)
    update = statistics.median(update for _, update in found)
    print(f"  {what:40s} overhead {overhead:6.1f} s ({len(found)} runs), an update {update:.2f} s", flush=True)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = size_parser(__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 2, 4], help="lengths of the plans")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cache", help="a folder with compiled programs to start from; default: an empty one")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
