"""What training side by side gains: frames per second of two runs beside one, and the demo beside its skills one by one.

    python benchmarks/parallel_speedup.py                    # both games: a run on all cores, two runs on half of them each
    python benchmarks/parallel_speedup.py --demo             # `make demo`, 2 skills at a time and 1 at a time: a quarter of
    an hour python benchmarks/parallel_speedup.py --help

The first uses the processes of `--max_parallel_skills auto`, one number after the other, again and again; medians. The
demo is that of the Makefile, through the front door, each time in a fresh folder, with its own tmux server. Before
its time is taken, all its skills are trained for one update, so that neither has more to compile. Flags that follow
`--demo` go to the front door.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from flowrl.config import Settings
from flowrl.envs.registry import GAMES
from flowrl.parallel.gpus import choose_gpus, visible_gpus
from flowrl.parallel.processes import kill_runs_below
from flowrl.parallel.slots import plan_slots
from flowrl.parallel.throughput import measure

SIZES = {"num_envs": 256, "num_steps": 32, "layer_size": 512}
PATIENCE_S = 10.0
CHECKOUT = Path(__file__).resolve().parents[1]
RECIPE = re.compile(r"-m flowrl\.bottomup_parallel ((?:.*\\\n)*.*)")


def frames_per_s(env_name: str, options: argparse.Namespace) -> dict[int, list[float]]:
    """Frames per second in all, by the number of runs at a time, of each repeat."""
    sizes = {name: getattr(options, name) for name in SIZES}
    settings = Settings(env_name=env_name, **sizes).training()
    found: dict[int, list[float]] = {number: [] for number in options.numbers}
    gpus = choose_gpus(options.gpu_ids, visible_gpus())
    for _ in range(options.repeats):
        for number, rates in found.items():
            on_each = -(-number // len(gpus)) if gpus else 1
            slots = plan_slots(number, gpu_ids=options.gpu_ids, skills_per_gpu=on_each)
            rates.append(measure(slots, env_name, settings).frames_per_s)
    return found


def report(env_name: str, options: argparse.Namespace, found: dict[int, list[float]]) -> None:
    """Prints a game's table."""
    medians = {number: statistics.median(rates) for number, rates in found.items()}
    first = medians[options.numbers[0]]
    print(f"\n{env_name}, {options.num_envs} x {options.num_steps}, width {options.layer_size}")
    for number, median in medians.items():
        rates = ", ".join(f"{rate:,.0f}" for rate in found[number])
        print(
            f"  {number} at a time {median:9,.0f} frames/s in all   {median / first:5.2f} x the first   ({rates})", flush=True
        )


def demo_flags() -> list[str]:
    """The flags of `make demo`, except its folder and number of skills at a time."""
    recipe = (CHECKOUT / "Makefile").read_text()
    flags = shlex.split(RECIPE.search(recipe)[1].replace("\\\n", " "))
    for name in ("--graph_path", "--max_parallel_skills"):
        place = flags.index(name)
        del flags[place : place + 2]
    return flags


def demo_seconds(number: int, extra: Sequence[str]) -> float:
    """How long the demo takes with ``number`` skills at a time."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="flowrl-speedup-"))
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "TMUX"))}
        environment |= {"TMUX_TMPDIR": folder, "PYTHONPATH": str(CHECKOUT), "JAX_PLATFORMS": "cpu"}
        stack.callback(_end, Path(folder), environment)
        where = ["--graph_path", f"{folder}/exp", "--max_parallel_skills", str(number)]
        command = [sys.executable, "-m", "flowrl.bottomup_parallel", *demo_flags(), *extra, *where]
        begun_s = time.monotonic()
        code = subprocess.run(command, env=environment, check=False).returncode
        if code != 0:
            raise SystemExit(f"the demo with {number} skills at a time ended with exit code {code}")
        return time.monotonic() - begun_s


def _end(folder: Path, environment: Mapping[str, str]) -> None:
    """Ends what an interrupted demo may have left."""
    kill_runs_below(folder, PATIENCE_S)
    subprocess.run(["tmux", "kill-server"], env=environment, capture_output=True, check=False)


def compare_demos(numbers: Sequence[int], flags: Sequence[str]) -> None:
    """Prints how long the demo takes with several skills at a time, and one after the other."""
    least = ["--total_timesteps", "1"]  # one update each
    print(f"each skill for one update, to compile: {demo_seconds(max(numbers), [*flags, *least]):.0f} s", flush=True)
    seconds = {}
    for number in sorted(numbers, reverse=True):
        seconds[number] = demo_seconds(number, flags)
        print(f"{number} at a time: {seconds[number]:.0f} s", flush=True)
    last = max(seconds)
    for number in sorted(set(seconds) - {last}):
        ratio = seconds[number] / seconds[last]
        print(f"{last} at a time take {1 / ratio:.2f} of the time of {number} at a time: {ratio:.2f} x as fast")


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    if options.demo is not None:
        compare_demos(options.numbers, options.demo)
        return 0
    for env_name in options.env_name or GAMES:
        report(env_name, options, frames_per_s(env_name, options))
    return 0


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env_name", choices=list(GAMES), action="append", help="default: every game")
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    numbers = "runs at a time; GPUs are shared where these are fewer"
    parser.add_argument("--numbers", type=int, nargs="+", default=[1, 2], help=numbers)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gpu_ids", help="as of the front door; none is the CPU")
    parser.add_argument("--demo", nargs=argparse.REMAINDER, help="compare demos; flags for the front door may follow")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
