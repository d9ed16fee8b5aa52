"""Three updates of the same expert from the same rollout: ``python benchmarks/rare_columns.py``.

The plain one multiplies all columns, the second one only those that the rollout shows, and the third one adds the rare
ones of these row by row. Measured in turn, after a few updates; medians of processor seconds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from sizes import as_a_training, each_game, size_parser

from flowrl.training.calibration.workload import LR, Workload
from flowrl.training.learning.ppo import Hyperparameters, make_update, stack_time
from flowrl.training.one_hot import active_columns
from flowrl.training.playing import rollout

UPDATES_BEFORE = 3


def main(arguments: list[str] | None = None) -> int:
    parser = size_parser(__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    return each_game(report, parser.parse_args(arguments))


def report(env_name: str, options: argparse.Namespace) -> None:
    """Prints a game's line."""
    run = Workload(env_name, options.num_envs, options.num_steps, options.layer_size)
    for _ in range(UPDATES_BEFORE):
        run.update()
    network, key = run.programs.source.network, jax.random.key(0)
    _, steps, _ = rollout.collect(run.stage, run.learner.params, run.playing, key, options.num_steps)
    columns = active_columns.find(steps, network.layout)
    num_shown, num_rare = jax.device_get(active_columns.demands(columns, network.layout))
    bound = active_columns.smallest_bound(num_shown, num_rare, network.layout)
    if bound is None:
        raise SystemExit(f"{env_name} shows {num_shown} columns, more than the largest bound, so no narrow update applies")
    inputs = stack_time(steps), columns, jnp.zeros(options.num_envs), key, LR
    updates = {
        f"all {network.layout.num_columns} multiplied": plain(network, run.learner, inputs),
        f"{bound} multiplied": compiled(1.0, network, bound, run.learner, inputs),
        f"{active_columns.num_dense(bound)} multiplied, the rest added": compiled(
            active_columns.DENSE_SHARE, network, bound, run.learner, inputs
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in updates}
    learned = {}
    for _ in range(options.repeats):
        for name, update in updates.items():
            begun_s = time.process_time()
            learned[name], _ = jax.block_until_ready(update(run.learner, *inputs))
            seconds[name].append(time.process_time() - begun_s)
    print(f"\n{env_name}, {options.num_envs} x {options.num_steps}, width {options.layer_size}: {num_shown} columns shown")
    first, reference = next(iter(seconds.items()))[1], next(iter(learned.values()))
    for name, taken in seconds.items():
        usual_s = statistics.median(taken)
        print(
            f"  {name:36s} {usual_s:6.2f} s, {statistics.median(first) / usual_s:5.2f} times as "
            f"fast; largest difference of a parameter {largest_difference(learned[name], reference):.0e}",
            flush=True,
        )


def largest_difference(learner, other) -> float:
    pairs = zip(jax.tree.leaves(learner.params), jax.tree.leaves(other.params))
    return max(float(np.abs(np.asarray(one) - np.asarray(another)).max()) for one, another in pairs)


def plain(network, learner, inputs: tuple):
    """The update of the whole network."""
    update = make_update(network, Hyperparameters(), 1)

    def function(learner, rollout, columns, *rest):
        return update(learner, rollout, *rest)

    return jax.jit(function).lower(learner, *inputs).compile()


def compiled(share: float, network, bound: int, learner, inputs: tuple):
    """A narrow update that multiplies this share of the bound's columns."""
    usual, active_columns.DENSE_SHARE = active_columns.DENSE_SHARE, share
    try:
        update = active_columns.make_narrow_update(network, Hyperparameters(), 1, bound)
        return jax.jit(update).lower(learner, *inputs).compile()
    finally:
        active_columns.DENSE_SHARE = usual


if __name__ == "__main__":
    as_a_training(main)
