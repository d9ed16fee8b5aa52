"""Actors and a learner beside PPO in one process, on the same environments: frames per second, and time to learn CartPole.

    python benchmarks/actor_learner.py                  # a quarter of an hour; wants two free cores
    python benchmarks/actor_learner.py --json FILE

Frames per second: all trainings are kept open, and measured one after the other, again and again; medians. Actors that nobody
listens to fill their slots and wait. The next measurement begins once they wait, so they take no time from it. Their own next
one begins once these slots are used up, since they were filled outside of it. Time to learn: from the first process that is
started to a mean return of 475 over 100 episodes; programs are compiled before. One seed after the other, all ways for each.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rows import OtherPrograms, Row, interleaved, median, rate, show, spread

from flowrl.host.learning import devices

GAMES = {"2 ms of Python": "host_games:Busy", "CartPole": "CartPole-v1"}
ALGORITHMS = ("impala", "appo")
SEQUENTIAL, PARALLEL, PEER = "PPO, sequential", "PPO, ParallelEnv", "PPO, AsyncVectorEnv"
WAYS = (*ALGORITHMS, SEQUENTIAL, PARALLEL, PEER)
GOAL = 475.0
_EPISODES = 100
_MOST_FRAMES = 2_000_000
"""A training that has not learned by then is reported as one that did not."""
_WARM_UP_UPDATES = 3
_IDLE_S = 0.3
_NUM_PARAMETERS = 1_000_000


def rates_of(env: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """Frames per second by way, of each repeat."""
    with contextlib.ExitStack() as stack:
        measures = {}
        for way in options.ways:
            train_once, trained = stack.enter_context(_training(way, env, options, seed=0))
            for _ in range(_WARM_UP_UPDATES):
                train_once()
            measures[way] = functools.partial(_frames_per_s, train_once, trained, options.seconds)
        others = OtherPrograms()
        found = interleaved(measures, options.repeats)
        print(f"{env}: {others.in_words()}", flush=True)
    return found


def _frames_per_s(train_once: Callable[[], Any], trained: Any, seconds: float) -> float:
    pids = getattr(trained, "pids", [])
    if pids:
        _use_up_full_slots(train_once)
    found = rate(lambda: train_once().frames, seconds)
    _wait_until_idle(pids)
    return found


def _use_up_full_slots(train_once: Callable[[], Any]) -> None:
    """Learns from all that was collected before, so that what is learned from next is collected next."""
    taken, num_slots = 0, 1
    while taken <= num_slots:
        flow = train_once().flow
        taken, num_slots = taken + flow.trajectories, flow.num_slots


def _wait_until_idle(pids: Sequence[int]) -> None:
    """Waits until some processes have used no processor time for a while."""
    used = None
    while pids and used != (now := _used_s(pids)):
        used = now
        time.sleep(_IDLE_S)


@contextlib.contextmanager
def _training(way: str, env: str, options: argparse.Namespace, seed: int) -> Iterator[tuple[Callable[[], Any], Any]]:
    """What makes one update, and what was trained."""
    if way in ALGORITHMS:
        with _actors(way, env, options, seed) as learner:
            yield learner.train_on_trajectories, learner
    else:
        from flowrl.host.learning.settings import PPOSettings
        from flowrl.host.learning.trainer import PPOTrainer

        n_envs = options.workers * options.envs_per_worker
        settings = PPOSettings(env=env, n_envs=n_envs, seed=seed, method="sequential" if way == SEQUENTIAL else "processes")
        with _batch(way, settings) as batch:
            trainer = PPOTrainer(batch, settings)
            yield trainer.train_episode_vectorized, trainer


def _actors(algorithm: str, env: str, options: argparse.Namespace, seed: int):
    from flowrl.host.environments import MakeEnvironment
    from flowrl.host.learning.actors.learner import ActorLearner
    from flowrl.host.learning.actors.settings import ActorLearnerSettings

    settings = ActorLearnerSettings(
        env=env, algorithm=algorithm, num_workers=options.workers, num_envs_per_worker=options.envs_per_worker, seed=seed
    )
    one = MakeEnvironment(env)()
    return ActorLearner(settings, one.observation_space, one.action_space)


def _batch(way: str, settings: Any):
    from gymnasium.vector import AsyncVectorEnv, AutoresetMode

    from flowrl.host import from_gymnasium
    from flowrl.host.environments import MakeEnvironment
    from flowrl.host.learning.batch import make_batch

    if way != PEER:
        return make_batch(settings)
    functions = [MakeEnvironment(settings.env)] * settings.n_envs
    # Forked processes would wait for ever for locks that JAX's threads hold.
    return from_gymnasium(AsyncVectorEnv(functions, context="spawn", autoreset_mode=AutoresetMode.SAME_STEP))


def frame_costs(options: argparse.Namespace) -> list[Row]:
    """Processor time that a frame of CartPole takes: of the actors and of the learner, from which `host_scaling` computes, and
    of sequential PPO."""
    found = []
    for way in ("impala", SEQUENTIAL):
        with _training(way, GAMES["CartPole"], options, seed=0) as (train_once, trained):
            for _ in range(_WARM_UP_UPDATES):
                train_once()
            pids = getattr(trained, "pids", [])
            if pids:
                _use_up_full_slots(train_once)
            actors_s, own_s, frames, end_s = _used_s(pids), time.process_time(), 0, time.perf_counter() + options.seconds
            while not frames or time.perf_counter() < end_s:
                frames += train_once().frames
            costs = {"of actors": (_used_s(pids) - actors_s) / frames, "of the learner": (time.process_time() - own_s) / frames}
        if not pids:
            costs = {"in all": costs["of the learner"]}
        found += [Row(f"CartPole: a frame's processor time, {way}, {which}", 1e6 * cost, "us") for which, cost in costs.items()]
    return found


def _used_s(pids: Sequence[int]) -> float:
    """Seconds of processor time that processes have used."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def seconds_to_learn(way: str, options: argparse.Namespace, seed: int) -> float:
    """Wall-clock seconds until CartPole is learned; infinite if it is not within `_MOST_FRAMES`."""
    began_s, recent = time.perf_counter(), deque(maxlen=_EPISODES)
    with _training(way, GAMES["CartPole"], options, seed) as (train_once, trained):
        while trained.state.frames < options.most_frames:
            recent.extend(train_once().episodes.returns.tolist())
            if len(recent) == _EPISODES and np.mean(recent) >= options.goal:
                return time.perf_counter() - began_s
    return float("inf")


def learning_rows(options: argparse.Namespace) -> list[Row]:
    """Times to learn, by way."""
    ways = [way for way in options.ways if way in (*ALGORITHMS, SEQUENTIAL)]
    for way in ways:  # compiles
        with _training(way, GAMES["CartPole"], options, seed=0) as (train_once, _):
            train_once()
    found: dict[str, list[float]] = {way: [] for way in ways}
    for seed in range(options.seeds):
        for way in ways:
            found[way].append(seconds_to_learn(way, options, seed))
            print(f"CartPole to {options.goal:g}, seed {seed}, {way}: {found[way][-1]:.1f} s", flush=True)
    sequential = median(found[SEQUENTIAL])
    rows = [Row(f"CartPole to {options.goal:g}: {SEQUENTIAL}", sequential, "s", detail=f"({spread(found[SEQUENTIAL], 1)})")]
    for way in ways:
        if way == SEQUENTIAL:
            continue
        detail = f"({spread(found[way], 1)})"
        rows.append(
            Row(f"CartPole to {options.goal:g}: {way}", median(found[way]), "s", sequential, at_most=True, detail=detail)
        )
    return rows


def parameters_row(repeats: int) -> Row:
    """Milliseconds in which a version of the parameters is written into shared memory and read out of it."""
    from flowrl.host.block import attached, placed, shared_memory, size_of
    from flowrl.host.learning.actors.parameters import SharedParameters, parameter_shapes

    shapes = parameter_shapes(_NUM_PARAMETERS)
    descriptor = shared_memory(size_of(shapes))
    shared = SharedParameters(placed(shapes, attached(descriptor)))
    os.close(descriptor)
    values, found = np.ones(_NUM_PARAMETERS, np.float32), []
    for version in range(repeats + _WARM_UP_UPDATES):
        began_s = time.perf_counter()
        shared.publish(version, values)
        shared.newest()
        found.append((time.perf_counter() - began_s) * 1e3)
    measured = found[_WARM_UP_UPDATES:]
    return Row("a million parameters, written and read", median(measured), "ms", detail=f"({spread(measured, 1)})")


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns its exit code."""
    options = _parsed(arguments)
    devices.prepare("cpu")
    rows = []
    for name in options.games:
        rates = rates_of(GAMES[name], options)
        found = {way: median(values) for way, values in rates.items()}
        for way, values in rates.items():
            print(f"{name:15} {way:20} {found[way]:10,.0f} frames/s   ({spread(values)})", flush=True)
        for way in options.ways:
            if way != SEQUENTIAL:
                wanted = 2.0 if way == "impala" else None
                rows.append(Row(f"{name}: {way} over {SEQUENTIAL}", found[way] / found[SEQUENTIAL], "x", wanted))
    if "CartPole" in options.games:
        rows += frame_costs(options)
    rows.append(parameters_row(options.repeats))
    if options.seeds:
        rows += learning_rows(options)
    show(rows, options.json)
    return 0


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--games", nargs="+", choices=list(GAMES), default=list(GAMES))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help=f"{SEQUENTIAL} must be among them")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--envs_per_worker", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each way to the goal; 0: none")
    parser.add_argument("--goal", type=float, default=GOAL, help="mean return of 100 episodes")
    parser.add_argument("--most_frames", type=int, default=_MOST_FRAMES, help="of a training to the goal")
    parser.add_argument("--json", type=Path, help="write the rows into this file")
    options = parser.parse_args(arguments)
    if SEQUENTIAL not in options.ways:
        parser.error(f"--ways: {SEQUENTIAL!r} is missing, with which the others are compared")
    return options


if __name__ == "__main__":
    sys.exit(main())
