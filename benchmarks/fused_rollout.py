"""A rollout as one program compared with the same one step by step: ``python benchmarks/fused_rollout.py [--repeats 5]``.

The same expert plays on from the same states in both modes, in turn. Prints the median seconds, their ratio, the time
to compile the program, and how many numbers of the rollouts differ: floats by more than one part in ten thousand,
anything else (actions, tasks, observations) by any amount.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["FLOWRL_FUSED_ROLLOUT"] = "0"  # the workload's own updates go step by step

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from sizes import as_a_training, each_game, size_parser

from flowrl.training.calibration.workload import Workload
from flowrl.training.playing.fused_rollout import Rollouts


def main(arguments: list[str] | None = None) -> int:
    parser = size_parser(__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    return each_game(compare, parser.parse_args(arguments))


def compare(env_name: str, options: argparse.Namespace) -> None:
    """Prints a game's figures."""
    run = Workload(env_name, options.num_envs, options.num_steps, options.layer_size)
    update_s = [run.update()["total"] for _ in range(3)][-1]
    modes = {mode: Rollouts(run.programs, run.stage.judge, options.num_steps) for mode in ("step by step", "one program")}
    begun_s = time.perf_counter()
    modes["one program"].fuse(run.learner.params, run.playing)
    compiled_s = time.perf_counter() - begun_s
    seconds: dict[str, list[float]] = {name: [] for name in modes}
    different, numbers = 0, 0
    for number in range(options.repeats):
        found = [timed(mode, run, jax.random.key(number), seconds[name]) for name, mode in modes.items()]
        different += count_different(*found)
        numbers += sum(np.size(leaf) for leaf in jax.tree.leaves(found[0]))
    taken = {name: statistics.median(values[1:] or values) for name, values in seconds.items()}
    print(
        f"\n{env_name}, {options.num_envs} x {options.num_steps}, width {options.layer_size}: an update takes {update_s:.2f} s"
    )
    for name, median_s in taken.items():
        print(f"  {name:14s} {median_s:7.3f} s a rollout, {taken['step by step'] / median_s:5.3f} x the steps")
    print(f"  compiled in {compiled_s:.0f} s; {different:,} of {numbers:,} numbers differ", flush=True)


def timed(mode: Rollouts, run: Workload, key: jax.Array, seconds: list[float]) -> list[Any]:
    """One rollout from the run's current state, which stays; returns observations, actions and rewards."""
    playing = jax.block_until_ready(jax.tree.map(jnp.copy, run.playing))
    begun_s = time.perf_counter()
    found = jax.block_until_ready(mode.collect(run.learner.params, playing, key))
    seconds.append(time.perf_counter() - begun_s)
    _, transitions, outcomes = found
    return jax.device_get([[t.observation, t.action, t.log_prob, t.value, t.reward] for t in transitions]) + outcomes


def count_different(one: Any, other: Any) -> int:
    """The number of floats that differ by more than rounding, and of other values that differ."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other))
    return sum(int(np.sum(~np.isclose(a.astype(np.float64), b.astype(np.float64), rtol=1e-4, atol=1e-6))) for a, b in pairs)


if __name__ == "__main__":
    as_a_training(main)
