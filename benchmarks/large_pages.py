"""The effect of large pages and kept memory (`flowrl/training/host/heap.py`): the same run with and without them.

    python benchmarks/large_pages.py                                   # both games
    python benchmarks/large_pages.py --num_envs 1024 --num_steps 64
    python benchmarks/large_pages.py --help

How a process gets its memory is decided when it starts, so each mode has its own process. All make their updates in
turn, with one expert; medians. Page faults are those of an update, and memory is the most that the process had during
one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from sizes import each_game, size_parser, use_compile_cache

from flowrl.training.host import heap

MODES: dict[str, list[Callable[[], None]]] = {
    "the C library's default": [],
    "kept": [heap.settle],
    "kept, in large pages": [heap.begin_with_large_pages, heap.settle],
}
ONE = "--one"

CLEAR_REFS = Path("/proc/self/clear_refs")
FORGET_THE_PEAK = "5"


def updates(options: argparse.Namespace, orders: Iterable[str], out: TextIO) -> None:
    """Makes an update for each line of ``orders``, and prints its cost as a line of JSON."""
    from training_speed import OurRun, Size, peak_rss_mb

    use_compile_cache()
    run = OurRun(Size(options.env_name[0], options.num_envs, options.num_steps, options.layer_size))
    for _ in orders:
        CLEAR_REFS.write_text(FORGET_THE_PEAK)  # the peak of compiling, in the process that came first
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        total_s = run.update()["total"]
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        told = {"total": total_s, "faults": faults, "peak_mb": peak_rss_mb()}
        print(json.dumps(told), file=out, flush=True)


def start(mode: str, env_name: str, options: argparse.Namespace) -> subprocess.Popen[str]:
    """A process that makes updates in one of the `MODES`."""
    environment = {name: value for name, value in os.environ.items() if name != heap.TUNABLES}
    sizes = [f"--{name}={getattr(options, name)}" for name in ("num_envs", "num_steps", "layer_size")]
    command = [sys.executable, str(Path(__file__).resolve()), f"--env_name={env_name}", *sizes, ONE, mode]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def in_turn(runs: dict[str, subprocess.Popen[str]], rounds: int) -> dict[str, list[dict[str, float]]]:
    """The cost of each update of each run."""
    taken: dict[str, list[dict[str, float]]] = {mode: [] for mode in runs}
    for _ in range(rounds):
        for mode, run in runs.items():
            with contextlib.suppress(BrokenPipeError):
                print(file=run.stdin, flush=True)
            if not (told := run.stdout.readline()):
                raise SystemExit(f"the run {mode!r} ended with exit code {run.wait()}; its output is above")
            taken[mode].append(json.loads(told))
    return taken


def end(run: subprocess.Popen[str]) -> None:
    """Ends a process, whatever it is doing."""
    run.kill()
    with contextlib.suppress(BrokenPipeError):  # an order that it did not take
        run.stdin.close()


def report(env_name: str, options: argparse.Namespace) -> None:
    """Measures a game, and prints its table."""
    with ExitStack() as stack:
        runs = {mode: stack.enter_context(start(mode, env_name, options)) for mode in MODES}
        for run in runs.values():
            stack.callback(end, run)
        taken = in_turn(runs, options.warm_up + options.repeats)
    print(f"\n{env_name}, {options.num_envs} x {options.num_steps}, width {options.layer_size}")
    first = None
    for mode, parts in taken.items():
        counted = parts[options.warm_up :]
        total_s, faults, peak = (statistics.median(part[name] for part in counted) for name in ("total", "faults", "peak_mb"))
        first = first or total_s
        text = f"{total_s:8.3f} s an update   {first / total_s:5.2f} x as fast   {faults:11,.0f} page faults"
        print(f"  {mode:26s} {text}   {peak:7,.0f} MB at most", flush=True)


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    if options.one is None:
        return each_game(report, options)
    for prepare in MODES[options.one]:
        prepare()
    updates(options, sys.stdin, sys.stdout)
    os._exit(0)  # a compiler may be at work in a thread


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = size_parser(__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warm_up", type=int, default=2)
    parser.add_argument(ONE, choices=list(MODES), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
