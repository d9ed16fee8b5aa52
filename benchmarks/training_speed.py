"""Frames per second of an ordinary run, of one with many experts, and of a peer.

    python benchmarks/training_speed.py --peer               # both games, one expert, the peer beside it
    python benchmarks/training_speed.py --experts 1 8 16     # how flat it is in experts
    python benchmarks/training_speed.py --help

All measurements of one table are made in one process, interleaved, and printed as medians, with ratios for comparison.
The peer is rejax's PPO (``pip install rejax==0.1.3`` into this environment, or ``make bench``): the same networks,
environments, steps, epochs and minibatches, on the same game with one world generated for 16 environments at every
step, as is usual; nothing is evaluated in the timed part.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import jax.numpy as jnp
import numpy as np
from sizes import as_a_training, size_parser, use_compile_cache

from flowrl.envs.registry import GAMES
from flowrl.training.calibration.workload import Workload


class Size(NamedTuple):
    """The size of the training."""

    env_name: str
    num_envs: int
    num_steps: int
    layer_size: int
    num_experts: int = 1
    mix: str = "balanced"
    """``balanced``: every expert acts in equally many environments; ``skewed``: half of them belong to the first;
    ``single``: all of them do."""
    num_tasks: int = 0
    """Tasks of the plan; 0 for one per expert."""
    mixed_precision: bool = False

    @property
    def frames(self) -> int:
        return self.num_envs * self.num_steps


class OurRun(Workload):
    """The updates of an ordinary run."""

    def __init__(self, size: Size):
        share = np.arange(size.num_envs)
        acting = {
            "balanced": share % size.num_experts,
            "skewed": np.where(share % 2 == 0, 0, share // 2 % size.num_experts),
            "single": np.zeros_like(share),
        }[size.mix]
        super().__init__(
            *size[:4],
            num_experts=size.num_experts,
            num_tasks=size.num_tasks or None,
            acting=acting,
            mixed_precision=size.mixed_precision,
        )
        self.size = size


class Peer:
    """rejax's PPO on the same game, with optimistic resets."""

    def __init__(self, size: Size):
        from peer import make

        self.size = size
        self._algorithm, self._state = make(size.env_name, size.num_envs, size.num_steps, size.layer_size)
        self._iterate = jax.jit(lambda state: self._algorithm.train_iteration(state), donate_argnums=(0,))

    def update(self) -> dict[str, float]:
        begun_s = time.perf_counter()
        self._state = jax.block_until_ready(self._iterate(self._state))
        return {"total": time.perf_counter() - begun_s}


def measure(runs: dict[str, Any], repeats: int, warm_up: int = 2) -> dict[str, list[dict[str, float]]]:
    """Updates the runs in turn; the first rounds, which compile, are not counted."""
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for number in range(warm_up + repeats):
        for name, run in runs.items():
            parts = run.update()
            if number >= warm_up:
                taken[name].append(parts)
    return taken


def median_of(taken: list[dict[str, float]], part: str = "total") -> float:
    return statistics.median(parts[part] for parts in taken)


def product_gflops(repeats: int = 5, rows: int = 1024, inner: int = 2048, columns: int = 512) -> float:
    """What a plain matrix product reaches on this machine, in GFLOP/s."""
    left, right = jnp.ones((rows, inner)), jnp.ones((inner, columns))
    multiply = jax.jit(jnp.matmul)
    jax.block_until_ready(multiply(left, right))
    seconds = []
    for _ in range(repeats):
        begun_s = time.perf_counter()
        for _ in range(5):
            product = multiply(left, right)
        jax.block_until_ready(product)
        seconds.append((time.perf_counter() - begun_s) / 5)
    return 2 * rows * inner * columns / statistics.median(seconds) / 1e9


def peak_rss_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    use_compile_cache()
    records = []
    for env_name in options.env_name or GAMES:
        runs: dict[str, Any] = {}
        for count in options.experts:
            for mix in options.mix if count > 1 else ["balanced"]:
                size = Size(env_name, options.num_envs, options.num_steps, options.layer_size, count, mix)
                name = f"{count} experts, {mix}" if count > 1 else "1 expert"
                runs[name] = OurRun(size)
                if options.mixed_precision:
                    runs[f"{name}, mixed precision"] = OurRun(size._replace(mixed_precision=True))
        if options.peer:
            runs["peer"] = Peer(Size(env_name, options.num_envs, options.num_steps, options.layer_size))
        records += report(env_name, runs, measure(runs, options.repeats, options.warm_up))
    print(f"a plain matrix product: {product_gflops():.0f} GFLOP/s; peak memory of this process: {peak_rss_mb():,.0f} MB")
    if options.json:
        Path(options.json).write_text(json.dumps(records, indent=1) + "\n")
    return 0


def report(env_name: str, runs: dict[str, Any], taken: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Prints a game's table; returns its rows."""
    first = next(iter(runs))
    base = runs[first].size.frames / median_of(taken[first])
    print(f"\n{env_name}, {runs[first].size.num_envs} x {runs[first].size.num_steps}, width {runs[first].size.layer_size}")
    rows = []
    for name, run in runs.items():
        rate = run.size.frames / median_of(taken[name])
        parts = {part: round(median_of(taken[name], part), 3) for part in taken[name][0]}
        rows.append({"env_name": env_name, "run": name, "frames_per_s": round(rate), "ratio": round(rate / base, 3), **parts})
        print(f"  {name:24s} {rate:8,.0f} frames/s   {rate / base:6.2f} x the first   {parts}", flush=True)
    return rows


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = size_parser(__doc__.splitlines()[0])
    parser.add_argument("--experts", type=int, nargs="+", default=[1])
    parser.add_argument("--mix", nargs="+", choices=["balanced", "skewed", "single"], default=["balanced"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warm_up", type=int, default=2)
    parser.add_argument("--peer", action="store_true", help="measure rejax's PPO beside it")
    parser.add_argument("--mixed_precision", action="store_true", help="measure each run in mixed precision too")
    parser.add_argument("--json", help="also write the rows into this file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    as_a_training(main)
