"""An update that multiplies all columns shown, and one that adds the rare ones by name: ``python benchmarks/rare_columns.py``.

Both learn from the same rollout, of experts that have made a few updates, in turn; medians of the processor's seconds.
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

from flowrl.training import active_columns, rollout
from flowrl.training.ppo import Hyperparameters, stack_time
from flowrl.training.workload import LR, Workload
from sizes import each_game, size_parser

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
    network, key = run.programs._network, jax.random.key(0)
    _, steps, _ = rollout.collect(run.programs, run.learner.params, run.playing, key, options.num_steps)
    columns = active_columns.find(steps, network.layout)
    num_shown, num_rare = jax.device_get(active_columns.demands(columns, network.layout))
    bound = active_columns.smallest_bound(num_shown, num_rare, network.layout)
    if bound is None:
        raise SystemExit(f"{env_name} shows {num_shown} columns, more than any bound: nothing is narrow here")
    inputs = stack_time(steps), columns, jnp.zeros(options.num_envs), key, LR
    updates = {share: compiled(share, network, bound, run.learner, inputs) for share in (1.0, active_columns.DENSE_SHARE)}
    seconds: dict[float, list[float]] = {share: [] for share in updates}
    learned = {}
    for _ in range(options.repeats):
        for share, update in updates.items():
            begun_s = time.process_time()
            learned[share], _ = jax.block_until_ready(update(run.learner, *inputs))
            seconds[share].append(time.process_time() - begun_s)
    all_multiplied, rare_added = (statistics.median(taken) for taken in seconds.values())
    pairs = zip(*(jax.tree.leaves(learner.params) for learner in learned.values()))
    differs = max(float(np.abs(np.asarray(one) - np.asarray(other)).max()) for one, other in pairs)
    print(
        f"{env_name}: {num_shown} columns shown, bound {bound}, of these multiplied "
        f"{int(bound * active_columns.DENSE_SHARE)}; all multiplied {all_multiplied:.2f} s, rare ones added {rare_added:.2f} s, "
        f"{all_multiplied / rare_added:.2f} times as fast; largest difference of a parameter {differs:.0e}",
        flush=True,
    )


def compiled(share: float, network, bound: int, learner, inputs: tuple):
    """A narrow update that multiplies this share of the bound's columns."""
    usual, active_columns.DENSE_SHARE = active_columns.DENSE_SHARE, share
    try:
        update = active_columns.make_narrow_update(network, Hyperparameters(), 1, bound)
        return jax.jit(update).lower(learner, *inputs).compile()
    finally:
        active_columns.DENSE_SHARE = usual


if __name__ == "__main__":
    sys.exit(main())
