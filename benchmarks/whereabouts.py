"""Where an update's time goes: ``python benchmarks/whereabouts.py [--env_name Craftax-Symbolic-v1]``.

Waits for each program before it calls the next one, so the parts add up to the whole; the rest belongs to the host and
the judge. The update's matrix products are counted and compared with a plain product in the same run.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["FLOWRL_FUSED_ROLLOUT"] = "0"  # its programs are timed one by one

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
from sizes import as_a_training, each_game, size_parser

from benchmarks.training_speed import product_gflops
from flowrl.envs.registry import make_adapter
from flowrl.training.calibration.workload import MAX_TASK_STEPS, Workload
from flowrl.training.compiled.stored_programs import StoredProgram
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.one_hot import active_columns

PARTS = {
    "network of the rollout": ("act", "values"),
    "resets": ("renew", "generate", "replace worlds"),
    "update": ("find columns", "demands"),
    "what is typical": ("typical",),
}
"""Which programs make up a part, besides batches and updates; the game's step and its features are separated by another
measurement."""

OF_THE_UPDATE = "batch", "update"
"""The prefixes of programs that exist once for each bound of columns."""


@contextlib.contextmanager
def timed_programs() -> Iterator[collections.Counter]:
    """Seconds by the programs' names while this is open."""
    seconds: collections.Counter = collections.Counter()
    plain = StoredProgram.__call__

    def timed(self, *arguments):
        jax.block_until_ready(arguments)  # earlier work, such as the skills' code, must not count for this one
        begun_s = time.perf_counter()
        result = jax.block_until_ready(plain(self, *arguments))
        seconds[self.name] += time.perf_counter() - begun_s
        return result

    StoredProgram.__call__ = timed
    try:
        yield seconds
    finally:
        StoredProgram.__call__ = plain


def game_share(env_name: str, run: Workload, repeats: int) -> float:
    """The game's own share of the step's time, without observations and features: both measured in turn, step by step."""
    adapter = make_adapter(env_name)

    def step_alone(state, action, key, number):
        keys = jax.random.split(jax.random.fold_in(key, number), len(action))
        _, state, game_over = jax.vmap(adapter.step)(keys, state, action)
        return state, game_over

    steps = {"game": jax.jit(step_alone, donate_argnums=(0,)), "step": run.programs.world.step}
    states = {name: jax.tree.map(jax.numpy.copy, run.playing.scene.state) for name in steps}
    num_envs, taken = len(run.playing.expert), collections.defaultdict(list)
    for number in range(1 + repeats * run.num_steps):
        action = jax.random.randint(jax.random.key(number), (num_envs,), 0, adapter.num_actions)
        for name, step in steps.items():
            jax.block_until_ready((states[name], action))
            begun_s = time.perf_counter()
            states[name], *_ = jax.block_until_ready(step(states[name], action, jax.random.key(0), number))
            taken[name].append(time.perf_counter() - begun_s)
    of_game, of_step = (statistics.median(taken[name][1:]) for name in ("game", "step"))  # the first one compiles
    return min(1.0, of_game / of_step)


def update_gflop(run: Workload, env_name: str, layer_size: int, bound: int) -> float:
    """Operations in the matrix products of one update: two networks, forward and backward, every sample in each epoch."""
    layout = make_adapter(env_name).layout
    inputs = (active_columns.num_dense(bound) if bound else layout.num_columns) + layout.num_scalars
    # Forward and the weights' gradient in the first layer; the inputs' gradient too in the second.
    multiplications = 2 * (2 * inputs * layer_size + 3 * layer_size * layer_size)
    return 2 * multiplications * run.frames_per_update * Hyperparameters().update_epochs / 1e9


def main(arguments: list[str] | None = None) -> int:
    return each_game(report, parsed(arguments))


def report(env_name: str, options: argparse.Namespace) -> None:
    """Prints a game's table."""
    sizes = options.num_envs, options.num_steps, options.layer_size
    run = Workload(env_name, *sizes, max_task_steps=options.episode_steps)
    for _ in range(2):
        run.update()
    updates, names = [], set()
    for _ in range(options.repeats):
        with timed_programs() as seconds:
            total = run.update()["total"]
        updates.append({**seconds, "total": total})
        names |= set(seconds)
    known = {"step", *(program for programs in PARTS.values() for program in programs)}
    if strangers := {name for name in names if name not in known and not name.startswith(OF_THE_UPDATE)}:
        raise SystemExit(f"programs that belong to no part: {', '.join(sorted(strangers))}; add them to PARTS")
    median = {name: statistics.median(update.get(name, 0.0) for update in updates) for name in names | {"total"}}
    game = median["step"] * game_share(env_name, run, options.repeats)
    shape = f"{options.num_envs} x {options.num_steps}, width {options.layer_size}, episodes of {options.episode_steps} steps"
    print(f"\n{env_name}, {shape}, medians of {options.repeats} updates")
    rows = {"game": game, "observations and features": median["step"] - game}
    for part, programs in PARTS.items():
        mine = [name for name in names if name in programs or (part == "update" and name.startswith(OF_THE_UPDATE))]
        rows[part] = sum(median[name] for name in mine)
    rows["host, and the skills' code"] = median["total"] - sum(rows.values())
    for part, taken in rows.items():
        print(f"  {part:28s} {taken:7.3f} s  {taken / median['total']:6.1%}")
    print(f"  {'an update in all':28s} {median['total']:7.3f} s  {run.frames_per_update / median['total']:,.0f} frames/s")
    used = max((name for name in names if name.startswith("update")), key=lambda name: median[name])
    bound = int(used.split()[-1]) if used != "update" else 0
    gflop, plain = update_gflop(run, env_name, options.layer_size, bound), product_gflops()
    reached = gflop / rows["update"]
    beside = f"{reached / plain:.0%} of a plain product's {plain:.0f}"
    print(f"  {used}: {gflop:.0f} GFLOP in products, {reached:.0f} GFLOP/s, {beside}", flush=True)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = size_parser(__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--episode_steps", type=int, default=MAX_TASK_STEPS, help="steps after which an episode ends")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    as_a_training(main)
