"""Which way of stepping is fastest for some environments: one of them is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from flowrl.errors import BadInput
from flowrl.host.block import Block
from flowrl.host.episodes import Episodes, build, close_quietly
from flowrl.host.interface import VecEnv, check_functions
from flowrl.host.processes import ParallelEnv
from flowrl.host.sequential import SequentialVecEnv
from flowrl.host.shares import workers_wanted
from flowrl.host.threads import ThreadVecEnv, num_threads_wanted
from flowrl.machine import usable_cores
from flowrl.suggestions import unknown_choice

METHODS = ("auto", "sequential", "threads", "processes")
MEASURED_S = 0.2
"""Seconds for which an environment is measured."""
_WARM_UP_STEPS = 3
_WAITS_BELOW = 0.5
"""A step waits if its processor time is less than this part of its time."""
_PROCESS_STEP_S = 100e-6
_PER_WORKER_S = 20e-6
_PER_THREAD_S = 50e-6
"""What a step costs beside the environments: waking workers and waiting for them."""
_WORTH = 1.2
"""How much faster than sequential a method must look: a measurement of 0.2 s is rough."""
_FOR_PROCESSES = ("start_method", "respawn")
_FOR_WORKERS = ("num_workers", "timeout_s", "start_timeout_s")


class StepCost(NamedTuple):
    """What one step of one environment takes.

    Attributes:
        wall_s: its time, without that in which other programs had its processor.
        processor_s: the processor time in it; the same as ``wall_s`` unless the step waits for something.
    """

    wall_s: float
    processor_s: float

    @property
    def waits(self) -> bool:
        return self.processor_s < _WAITS_BELOW * self.wall_s


class Choice(NamedTuple):
    """A method, and the reason for it in words."""

    method: str
    reason: str


def make_vec(env_fns: Sequence[Callable[[], Any]], method: str = "auto", **options: Any) -> VecEnv:
    """A batch, stepped by the given method.

    Args:
        method: ``"sequential"``, ``"threads"``, ``"processes"``, or ``"auto"``, which measures the first environment for
            0.2 s, and prints what it chooses and why.
        options: those of the method's class. ``"auto"`` takes those of all three, and drops what its choice has no use for;
            ``num_workers`` is the number of processes then, and a waiting environment always has a thread of its own.

    Raises:
        BadInput: an argument is wrong.
        EnvironmentFault: the environment that is measured failed.
    """
    if method not in METHODS:
        raise BadInput(unknown_choice("method", str(method), METHODS))
    env_fns = check_functions(env_fns)
    if method == "auto":
        asked, cores = options.get("num_workers", "auto"), len(usable_cores())
        processes = min(cores, workers_wanted(asked, len(env_fns), auto=cores))
        method, reason = choose(measure(env_fns[0]), len(env_fns), processes)
        print(f"method auto: {method} ({reason})", flush=True)
        unused = {"sequential": (*_FOR_PROCESSES, *_FOR_WORKERS), "threads": (*_FOR_PROCESSES, "num_workers"), "processes": ()}[
            method
        ]
        options = {name: value for name, value in options.items() if name not in unused}
    return {"sequential": SequentialVecEnv, "threads": ThreadVecEnv, "processes": ParallelEnv}[method](env_fns, **options)


def measure(env_fn: Callable[[], Any], seconds: float = MEASURED_S) -> StepCost:
    """Steps one environment with random actions. A reset at the end of an episode counts as part of the step."""
    env = build(0, env_fn)
    try:
        block = Block(1, env.observation_space, env.action_space)
        episodes = Episodes(0, env, block)
        env.action_space.seed(0)
        episodes.reset(seed=0)
        for _ in range(_WARM_UP_STEPS):
            _random_step(env, episodes, block)
        return _timed(lambda: _random_step(env, episodes, block), seconds)
    finally:
        close_quietly(env)


def choose(cost: StepCost, num_envs: int, num_processes: int) -> Choice:
    """The method that should be fastest.

    Args:
        num_processes: the worker processes that there would be, at most one for each core.
    """
    step = _step_in_words(cost)
    if num_envs == 1:
        return Choice("sequential", f"there is one environment; {step}")
    expected = expected_s(cost, num_envs, num_processes)
    best = min(expected, key=expected.__getitem__)
    if expected["sequential"] < _WORTH * expected[best]:
        best = "sequential"
    other = "sequential" if best != "sequential" else min(("threads", "processes"), key=expected.__getitem__)
    return Choice(
        best,
        f"{step}; a step of {num_envs} environments should take {_milliseconds(expected[best])}, {other} "
        f"{_milliseconds(expected[other])}",
    )


def expected_s(cost: StepCost, num_envs: int, num_processes: int) -> dict[str, float]:
    """Seconds that a step of all environments should take, by method."""
    num_threads = num_threads_wanted("auto", num_envs)
    processor_s = cost.processor_s if cost.waits else cost.wall_s
    return {
        "sequential": num_envs * cost.wall_s,
        # One thread at a time runs Python, but all wait at once.
        "threads": num_envs * (processor_s + _PER_THREAD_S) + -(-num_envs // num_threads) * (cost.wall_s - processor_s),
        "processes": -(-num_envs // num_processes) * cost.wall_s + _PROCESS_STEP_S + num_processes * _PER_WORKER_S,
    }


def _random_step(env: Any, episodes: Episodes, block: Block) -> None:
    forbids = block.action_masks.size and not block.action_masks.all() and isinstance(env.action_space, spaces.Discrete)
    block.actions[0] = env.action_space.sample(block.action_masks[0].astype(np.int8) if forbids else None)
    episodes.step()


def _timed(step: Callable[[], None], seconds: float) -> StepCost:
    started, used, switches, steps = time.perf_counter(), time.thread_time(), _waits(), 0
    while (wall_s := time.perf_counter() - started) < seconds or not steps:
        step()
        steps += 1
    processor_s = time.thread_time() - used
    if _waits() - switches < steps / 2:  # it did not wait for anything: what is beyond its own time, other programs had
        wall_s = processor_s
    return StepCost(wall_s / steps, min(processor_s, wall_s) / steps)


def _waits() -> float:
    """How often this thread has given its processor away by itself; infinite where the system does not say."""
    import resource

    if not hasattr(resource, "RUSAGE_THREAD"):
        return float("inf")
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def _step_in_words(cost: StepCost) -> str:
    step = f"a step takes {_milliseconds(cost.wall_s)}"
    if cost.waits:
        return f"{step} and waits for {1 - cost.processor_s / cost.wall_s:.0%} of it"
    return step


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
