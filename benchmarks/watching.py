"""The cost of being watched: the share of training time of progress, metrics, heartbeat and checkpoints.

    python benchmarks/watching.py                                   # Classic, 256 x 32, width 512
    python benchmarks/watching.py --rounds 5                        # the short form
    python benchmarks/watching.py --env_name Craftax-Symbolic-v1 --rounds 10
    python benchmarks/watching.py --help

The loop of a real run trains, with its pane on its own terminal. Each round has three updates, in random order: one
that nobody watches, a watched one, and a watched one during which a checkpoint is written (it ends when the checkpoint
is on disk). The whole is the median, over the rounds, of the extra time of the watched ones over the unwatched one; the
checkpoint's part is spread over the updates of the interval at which a run writes them, a minute or more. The parts are
measured one by one: the seconds that the training waits for each, and for drawing and writing, which run in threads,
the processor time, which is their cost when no core is idle.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
from sizes import as_a_training, size_parser

from flowrl.paths import RunPaths, compile_cache
from flowrl.records.run_record import PlannedTask
from flowrl.records.training_settings import RunSettings
from flowrl.skills.module import TaskSource, render_module
from flowrl.tracking.trackers import no_tracker
from flowrl.training.host.process import Lifetime
from flowrl.training.run.clock import Clock as UpdateClock
from flowrl.training.run.loop import to_goal_or_budget
from flowrl.training.run.pane import Pane
from flowrl.training.run.parts import Parts, ordinary, restored
from flowrl.training.run.saving import CHECKPOINT_S, MOST_COST_S
from flowrl.training.run.specification import RunSpecification, StartingExpert
from flowrl.training.run.supervision import Supervision
from flowrl.training.run.view import PlanView

DONE = "def task_is_done(inventory, n):\n    return inventory.wood >= n\n"
PAY = "def task_reward(inventory_diff):\n    return inventory_diff.wood\n"
SKILL, INDEX = "Collect_Wood", 0
PLAIN, WATCHED, SAVING = "nobody watches", "watched", "watched, and a checkpoint written"
WARM_UP = 3
"""Updates before the first round; the first one compiles."""

IN_THE_LOOP = {
    "success rates": "rates",
    "report and pane": "report",
    "a line of metrics.jsonl, tracker": "metrics",
    "heartbeat": "heartbeat",
}
NAME_WIDTH = 50


class Enough(Exception):
    """All rounds are done."""


class Clock:
    """Seconds spent on each part, summed until they are read."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)

    def times(self, part: str, call, now=time.perf_counter):
        def timed(*arguments, **options):
            begun_s = now()
            try:
                return call(*arguments, **options)
            finally:
                self.seconds[part] += now() - begun_s

        return timed

    def taken(self) -> dict[str, float]:
        taken, self.seconds = dict(self.seconds), defaultdict(float)
        return taken


class Interval(NamedTuple):
    """From the end of an update to the end of the next: first the work of being watched, then the training."""

    kind: str
    seconds: float
    processor_s: float
    """Processor time of all threads, so other processes do not affect it."""
    parts: dict[str, float]


class WatchedNowAndThen:
    """Makes some updates of an ordinary run go unwatched, by wrapping the methods of its parts."""

    def __init__(self, rounds: int, parts: Parts):
        chance = random.Random(0)
        self._kinds = [WATCHED] * WARM_UP
        for _ in range(rounds):
            self._kinds += chance.sample([PLAIN, WATCHED, SAVING], 3)
        self.intervals: list[Interval] = []
        self.clock, self._number, self._since, self._latest = Clock(), -1, (0.0, 0.0), None
        self._saver, self._make, self._report = parts.kept._saver, parts.updates.make, parts.reporter.report
        self._saver._write = self.clock.times("written", self.clock.times("writing", self._saver._write, time.thread_time))
        parts.updates.make = self._update
        parts.kept.save_now_and_then = self._save_now_and_then
        self._watch(parts)

    @property
    def kind(self) -> str:
        return self._kinds[min(max(self._number, 0), len(self._kinds) - 1)]

    def _update(self, *arguments):
        found = self._make(*arguments)
        jax.block_until_ready(found[1].bank)
        if self.kind == SAVING:
            self._saver._settle()
        since, self._since = self._since, (time.perf_counter(), time.process_time())
        taken = self.clock.taken()
        if self._number >= WARM_UP:
            self.intervals.append(Interval(self.kind, self._since[0] - since[0], self._since[1] - since[1], taken))
        self._number += 1
        if self._number == len(self._kinds):
            raise Enough
        return found

    def _watch(self, parts: Parts) -> None:
        reporter, live = parts.reporter, parts.supervision.pane._live
        reporter.report = self._reported
        reporter._add = self._if_watched(self.clock.times("rates", reporter._add))
        reporter._standing = self.clock.times("report", reporter._standing)
        parts.supervision.pane.update = self._if_watched(self.clock.times("report", parts.supervision.pane.update))
        reporter.record = self._if_watched(self.clock.times("metrics", reporter.record))
        lifetime = parts.supervision.lifetime
        lifetime.beat = self._if_watched(self.clock.times("heartbeat", lifetime.beat))
        live.refresh = self._if_watched(self.clock.times("drawing", live.refresh, time.thread_time))

    def _if_watched(self, call):
        return lambda *arguments: None if self.kind == PLAIN else call(*arguments)

    def _reported(self, *arguments):
        if self.kind != PLAIN or self._latest is None:
            self._latest = self._report(*arguments)
        return self._latest

    def _save_now_and_then(self, state) -> None:
        if self.kind == SAVING:
            self.clock.times("copying", self._saver.begin)(state)


def measure(env_name: str, options: argparse.Namespace) -> list[Interval]:
    """Trains as long as it takes, in its own folder and on its own terminal."""
    with tempfile.TemporaryDirectory() as folder, Terminal() as terminal:
        run = specification(Path(folder) / "training_runs" / f"skill_{INDEX}_{SKILL}", env_name, options)
        view = PlanView(f"{SKILL} (expert {INDEX})", [f"{SKILL} x3"], 1.0, 10**9)
        with Lifetime(run.paths, 1) as lifetime, Pane(view, run.paths.log, stream=terminal.stream) as pane:
            pace = UpdateClock(time.time(), run.settings.frames_per_update)
            run_parts = ordinary(run, Supervision(SKILL, pane, no_tracker(), lifetime, pace))
            watched = WatchedNowAndThen(options.rounds, run_parts)
            try:
                with run_parts.kept:
                    to_goal_or_budget(run_parts, restored(run_parts))
            except Enough:
                return watched.intervals
    raise AssertionError("the budget of frames ended before the rounds did")


class Terminal:
    """A terminal that reads everything that is drawn, as tmux does, in its own process."""

    def __enter__(self) -> Terminal:
        ours, theirs = os.openpty()
        self._reader = subprocess.Popen(["cat"], stdin=ours, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(ours)
        self.stream = os.fdopen(theirs, "w")
        return self

    def __exit__(self, *error) -> None:
        self.stream.close()
        self._reader.kill()
        self._reader.wait()


def specification(folder: Path, env_name: str, options: argparse.Namespace) -> RunSpecification:
    paths = RunPaths(folder)
    paths.policies.mkdir(parents=True)
    sizes = {"num_envs": options.num_envs, "num_steps": options.num_steps, "layer_size": options.layer_size}
    settings = RunSettings(total_timesteps=10**9, success_rate=1.0, stop_at_goal=False, **sizes)
    names = [*(f"Known_{number}" for number in range(1, options.experts)), SKILL]
    task = [TaskSource(name, 3, local, DONE, PAY) for local, name in enumerate(names)]
    to_global = {local: len(names) - 1 - local for local in range(len(names))}  # the new one, the last, has index 0
    return RunSpecification(
        paths=paths, skill_name=SKILL, global_expert_idx=INDEX, attempt=1, env_name=env_name, settings=settings,
        plan=tuple(PlannedTask(name, 3, to_global[local], local) for local, name in enumerate(names)),
        experts=tuple(StartingExpert(name, to_global[local], local, 0, 0, None) for local, name in enumerate(names)),
        module_text=render_module(SKILL, INDEX, {index: local for local, index in to_global.items()}, task),
        experiment=str(folder.parent.parent),
    )  # fmt: skip


def report(env_name: str, intervals: list[Interval], options: argparse.Namespace) -> None:
    """Prints a game's table."""
    rounds = [{found.kind: found for found in intervals[first : first + 3]} for first in range(0, len(intervals), 3)]
    update_s = statistics.median(found[PLAIN].seconds for found in rounds)
    cost_s = statistics.median(found[SAVING].parts["writing"] for found in rounds)
    updates_a_checkpoint = max(CHECKPOINT_S * max(1.0, cost_s / MOST_COST_S) / update_s, 1.0)
    print(
        f"\n{env_name}, {options.num_envs} x {options.num_steps}, width {options.layer_size}, experts {options.experts}, "
        f"{len(rounds)} rounds; {updates_a_checkpoint:.0f} updates between two checkpoints"
    )
    print(f"  {'part':{NAME_WIDTH}s} {'of an update':>14s} {'of training time':>17s}")
    together = 0.0
    for name, once, updates in parts(rounds, updates_a_checkpoint):
        print(f"  {name:{NAME_WIDTH}s} {once:14.3%} {once / updates:17.3%}")
        together += once / updates
    print(f"  {'all parts':{NAME_WIDTH}s} {'':14s} {together:17.3%}")
    print_whole(rounds, updates_a_checkpoint)
    waited = of_an_update(rounds, "written", SAVING)
    print(f"  {'(a checkpoint, if training waited for it)':{NAME_WIDTH}s} {waited:14.3%} {waited / updates_a_checkpoint:17.3%}")


def parts(rounds: list[dict[str, Interval]], updates_a_checkpoint: float) -> list[tuple[str, float, float]]:
    """Name, share of an update's time each time that it is done, and the updates from one time to the next."""
    found = [(name, of_an_update(rounds, part), 1.0) for name, part in IN_THE_LOOP.items()]
    # The pane is drawn by the clock, in some updates more often than in others.
    watched = [interval for found in rounds for interval in (found[WATCHED], found[SAVING])]
    drawing = sum(interval.parts.get("drawing", 0.0) for interval in watched) / sum(interval.seconds for interval in watched)
    found.append(("drawing the pane, in a thread", drawing, 1.0))
    for name, part in (("the copy that training waits for", "copying"), ("packed and stored in a thread", "writing")):
        found.append((f"checkpoint: {name}", of_an_update(rounds, part, SAVING), updates_a_checkpoint))
    return found


def of_an_update(rounds: list[dict[str, Interval]], part: str, kind: str = WATCHED) -> float:
    # The parts are measured by wrapping methods of the run's parts: one that was never called has been renamed.
    if not any(part in found[kind].parts for found in rounds):
        raise LookupError(
            f"expected the part {part!r} in some updates, found it in none: its name in `watching.py` is out of date"
        )
    return statistics.median(found[kind].parts.get(part, 0.0) / found[PLAIN].seconds for found in rounds)


def print_whole(rounds: list[dict[str, Interval]], updates_a_checkpoint: float) -> None:
    """The same from adjacent updates, with the quartiles, since a busy machine's noise is larger than the effect."""
    for clock, field in (("by the clock", "seconds"), ("in processor time", "processor_s")):
        of = [{kind: getattr(interval, field) for kind, interval in found.items()} for found in rounds]
        watched = [found[WATCHED] / found[PLAIN] - 1 for found in of]
        saving = [(found[SAVING] - found[WATCHED]) / found[PLAIN] / updates_a_checkpoint for found in of]
        for name, shares in (("watched beside unwatched updates", watched), ("a checkpoint, over its interval", saving)):
            low, middle, high = statistics.quantiles(shares, n=4, method="inclusive")
            print(f"  {name:{NAME_WIDTH}s} {'':14s} {middle:17.3%}   (quartiles {low:.2%} to {high:.2%})")
        whole = statistics.median(watched) + statistics.median(saving)
        print(f"  {'the whole, ' + clock:{NAME_WIDTH}s} {'':14s} {whole:17.3%}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    jax.config.update("jax_compilation_cache_dir", str(compile_cache()))
    for env_name in options.env_name or ["Craftax-Classic-Symbolic-v1"]:
        report(env_name, measure(env_name, options), options)
    return 0


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = size_parser(__doc__.splitlines()[0], "Craftax-Classic-Symbolic-v1")
    parser.add_argument("--experts", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20, help="rounds of three updates each, at least 2")
    options = parser.parse_args(arguments)
    if options.rounds < 2:
        parser.error("--rounds: expected 2 or more, for there to be a spread")
    return options


if __name__ == "__main__":
    as_a_training(main)
