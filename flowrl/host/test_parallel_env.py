"""Checks that this machine can step environments in every way: ``python -m flowrl.host.test_parallel_env``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable

import gymnasium
import numpy as np

from flowrl.errors import ALL_COMPLETED, SOMETHING_FAILED
from flowrl.host.choice import make_vec
from flowrl.host.faults import EnvironmentFault, WorkerLost
from flowrl.host.interface import VecEnv
from flowrl.host.processes import ParallelEnv
from flowrl.host.sequential import SequentialVecEnv
from flowrl.host.threads import ThreadVecEnv
from flowrl.machine import usable_cores

NUM_ENVS, NUM_STEPS = 4, 200


def cartpole() -> gymnasium.Env:
    return gymnasium.make("CartPole-v1")


class Failing(gymnasium.Wrapper):
    """Fails in its first step."""

    def step(self, action):
        raise RuntimeError("a fault on purpose")


def main(arguments: list[str] | None = None) -> int:
    """Runs all checks, and returns the exit code."""
    argparse.ArgumentParser(prog="python -m flowrl.host.test_parallel_env", description=__doc__).parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without these signs
    logging.getLogger("flowrl.host").setLevel(logging.ERROR)  # no warning about a worker that is killed on purpose
    cores = len(usable_cores())
    print(f"🧪 Testing parallel environments: gymnasium {gymnasium.__version__}, {cores} core{'s' if cores != 1 else ''}")
    checks = _checks()
    failed = [name for name, check in checks.items() if not _passes(name, check)]
    if failed:
        print(f"❌ {len(failed)} OF {len(checks)} TESTS FAILED: {'; '.join(failed)}")
        return SOMETHING_FAILED
    print("✅ ALL TESTS PASSED!")
    print("🎉 All tests completed successfully!")
    return ALL_COMPLETED


def _checks() -> dict[str, Callable[[], None]]:
    ways: dict[str, Callable[[], VecEnv]] = {
        "ThreadVecEnv": lambda: ThreadVecEnv(_functions()),
        **{
            f"ParallelEnv, {method}": lambda method=method: _parallel(start_method=method)
            for method in ("spawn", "forkserver", "fork")
        },
    }
    return {
        "SequentialVecEnv: episodes end and begin": _episodes_end,
        **{f"{name}: the same transitions as SequentialVecEnv": lambda make=make: _agrees(make) for name, make in ways.items()},
        "an environment's error comes with its number": _error_is_named,
        "a killed worker is noticed": _killed_worker_is_noticed,
        "a killed worker is replaced, if asked": _killed_worker_is_replaced,
        "workers end when their environments are closed": _workers_end,
        "method auto": lambda: make_vec(_functions()).close(),
    }


def _passes(name: str, check: Callable[[], None]) -> bool:
    started = time.perf_counter()
    try:
        check()
    except Exception as error:
        print(f"❌ {name}: {type(error).__name__}: {error}")
        return False
    print(f"✅ {name} ({time.perf_counter() - started:.1f} s)")
    return True


def _functions() -> list[Callable[[], gymnasium.Env]]:
    return [cartpole] * NUM_ENVS


def _parallel(**options) -> ParallelEnv:
    workers = max(1, min(NUM_ENVS, len(usable_cores())))
    return ParallelEnv(options.pop("env_fns", _functions()), num_workers=workers, **options)


def _episodes_end() -> None:
    with SequentialVecEnv(_functions()) as env:
        _transitions(env)
        _expect(env.get_episode_stats().num_completed > 0, f"no episode ended in {NUM_STEPS} steps")


def _agrees(make: Callable[[], VecEnv]) -> None:
    with SequentialVecEnv(_functions()) as env:
        expected = _transitions(env)
    with make() as env:
        found = _transitions(env)
    _expect(all(np.array_equal(a, b) for a, b in zip(expected, found)), "the transitions differ")


def _transitions(env: VecEnv) -> list[np.ndarray]:
    choices = np.random.default_rng(0).integers(0, env.single_action_space.n, (NUM_STEPS, env.num_envs))
    found = [env.reset(seed=0)]
    for actions in choices:
        result = env.step(actions)
        ended = result.terminated | result.truncated
        found += [result.observations, result.rewards, result.terminated, result.truncated, result.final_obs[ended]]
    return found


def _error_is_named() -> None:
    functions = _functions()
    functions[-1] = lambda: Failing(cartpole())
    with _parallel(env_fns=functions) as env:
        env.reset(seed=0)
        try:
            env.step(np.zeros(NUM_ENVS, int))
        except EnvironmentFault as fault:
            _expect(fault.environment == NUM_ENVS - 1, f"environment {fault.environment} was named")
            return
    raise AssertionError("no error came")


def _killed_worker_is_noticed() -> None:
    with _parallel(timeout_s=30) as env:
        env.reset(seed=0)
        os.kill(env.worker_pids[0], signal.SIGKILL)
        try:
            env.step(np.zeros(NUM_ENVS, int))
        except WorkerLost as error:
            _expect("SIGKILL" in str(error), f"it was described as: {error}")
            return
    raise AssertionError("nothing was noticed")


def _killed_worker_is_replaced() -> None:
    with _parallel(timeout_s=30, respawn=True) as env:
        env.reset(seed=0)
        os.kill(env.worker_pids[0], signal.SIGKILL)
        result = env.step(np.zeros(NUM_ENVS, int))
        _expect(bool(result.truncated[0]) and env.lost.workers == 1, f"lost: {env.lost}")
        env.step(np.zeros(NUM_ENVS, int))


def _workers_end() -> None:
    import psutil

    with _parallel() as env:
        pids = env.worker_pids
    _expect(not any(psutil.pid_exists(pid) for pid in pids), f"of {pids} some are still there")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
