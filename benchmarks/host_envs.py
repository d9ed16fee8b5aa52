"""Steps per second of every way of stepping host environments, beside Gymnasium's AsyncVectorEnv, and a worker's memory.

    python benchmarks/host_envs.py                     # some minutes; wants two free cores
    python benchmarks/host_envs.py --json FILE

All ways of a case are kept open, and measured one after the other, again and again; medians. A rate is in environment steps
per second.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import host_games
import numpy as np
import psutil
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from rows import OtherPrograms, Row, interleaved, median, rate, show, spread

from flowrl.host import ParallelEnv, from_gymnasium, make_vec
from flowrl.host.choice import METHODS

NUM_ENVS = 8
CASES: dict[str, Callable[[], Any]] = {
    "cheap": host_games.cartpole,
    "busy": host_games.Busy,
    "waiting": host_games.Waiting,
    "images": host_games.Images,
}
PEER = "AsyncVectorEnv"
_ACTIONS = 64
"""Different random actions that a measurement repeats."""


def rates_of(case: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """Steps per second by way, of each repeat; ``auto`` among them."""
    with contextlib.ExitStack() as stack:
        measures = {}
        for way in (*METHODS, PEER):
            env = stack.enter_context(_made(way, CASES[case]))
            measures[way] = _measure(env, options.seconds)
        others = OtherPrograms()
        found = interleaved(measures, options.repeats)
        print(f"{case}: {others.in_words()}", flush=True)
    return found


@contextlib.contextmanager
def _made(way: str, env_fn: Callable[[], Any]) -> Iterator[Any]:
    functions = [env_fn] * NUM_ENVS
    if way == PEER:
        # Spawned as ours are: how they were started makes no step faster.
        env = from_gymnasium(AsyncVectorEnv(functions, context="spawn", autoreset_mode=AutoresetMode.SAME_STEP))
    else:
        env = make_vec(functions, way)
    with env:
        yield env


def _measure(env: Any, seconds: float) -> Callable[[], float]:
    env.reset(seed=0)
    random = np.random.default_rng(0)
    actions = random.integers(0, env.single_action_space.n, (_ACTIONS, env.num_envs))
    place = 0

    def step() -> int:
        nonlocal place
        place = (place + 1) % _ACTIONS
        env.step(actions[place])
        return env.num_envs

    return lambda: rate(step, seconds)


def rows_of(rates: dict[str, dict[str, list[float]]]) -> list[Row]:
    """The figures that are wanted, from the rates of all cases."""
    found = {case: {way: median(values) for way, values in ways.items()} for case, ways in rates.items()}
    rows = []
    if "busy" in found:
        busy = found["busy"]
        rows += [
            Row("2 ms of Python: ParallelEnv over sequential", busy["processes"] / busy["sequential"], "x", 1.9),
            Row("2 ms of Python: Gymnasium's AsyncVectorEnv over sequential", busy[PEER] / busy["sequential"], "x"),
        ]
    if "cheap" in found:
        cheap = found["cheap"]
        rows.append(Row("CartPole: ParallelEnv over Gymnasium's AsyncVectorEnv", cheap["processes"] / cheap[PEER], "x", 3.0))
    for case, ways in found.items():
        best = max((way for way in ways if way not in ("auto", PEER)), key=ways.__getitem__)
        rows.append(Row(f"{case}: auto over the best ({best})", ways["auto"] / ways[best], "x", 0.9))
    if "waiting" in found:
        waiting = found["waiting"]
        rows.append(Row("waiting for 2 ms: threads over sequential", waiting["threads"] / waiting["sequential"], "x", 6.0))
    return rows


def worker_memory() -> list[Row]:
    """Megabytes of a worker with CartPole: all that it has in memory, and what it has for itself."""
    with ParallelEnv([host_games.cartpole] * NUM_ENVS, num_workers=2) as env:
        env.reset(seed=0)
        env.step(np.zeros(NUM_ENVS, int))
        memory = [psutil.Process(pid).memory_full_info() for pid in env.worker_pids]
    own, resident = (max(getattr(one, name) for one in memory) / 1e6 for name in ("uss", "rss"))
    return [
        Row("memory of a worker", resident, "MB", 45.0, at_most=True),
        Row("memory of a worker, without what others share", own, "MB"),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns its exit code."""
    options = _parsed(arguments)
    rates = {}
    for case in options.cases:
        rates[case] = rates_of(case, options)
        for way, values in rates[case].items():
            print(f"{case:8} {way:15} {median(values):10,.0f} steps/s   ({spread(values)})", flush=True)
    show([*rows_of(rates), *worker_memory()], options.json)
    return 0


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--json", type=Path, help="write the rows into this file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
