"""Environments stepped by threads: fastest where a step waits for something else, such as a server or a simulator."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flowrl.host.block import Block
from flowrl.host.block_env import BlockVecEnv
from flowrl.host.episodes import Info
from flowrl.host.faults import EnvironmentFault, WorkerLost
from flowrl.host.group import Group
from flowrl.host.interface import StepResult, check_functions, common_spaces
from flowrl.host.shares import check_seconds, named, shares, workers_wanted
from flowrl.host.spaces import Tree

_MOST_THREADS = 64
_GRACE_S = 5.0
"""Seconds that environments have for closing."""


class ThreadVecEnv(BlockVecEnv):
    """A batch that is stepped by threads of this process. Each environment is made, stepped and closed by one thread.

    Only one thread runs Python at a time, so environments that compute in Python gain nothing.

    Args:
        num_workers: ``"auto"`` is one thread for each environment, but at most 64.
        timeout_s: seconds after which an environment that has not answered counts as hanging. Python cannot end a thread:
            one that hangs stays until the process ends.
        start_timeout_s: the same while the environments are made.

    The other arguments and the errors are those of `SequentialVecEnv`.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], Any]],
        *,
        num_workers: int | str = "auto",
        timeout_s: float = 60.0,
        start_timeout_s: float = 120.0,
        with_infos: bool = False,
        copy: bool = True,
    ):
        env_fns = check_functions(env_fns)
        self._timeout_s = check_seconds("timeout_s", timeout_s)
        start_timeout_s = check_seconds("start_timeout_s", start_timeout_s)
        num_envs = len(env_fns)
        self._workers = [_Thread(numbers) for numbers in shares(num_envs, num_threads_wanted(num_workers, num_envs))]
        self._with_infos = with_infos
        try:
            for worker in self._workers:
                worker.ask(lambda worker=worker: worker.make([env_fns[number] for number in worker.numbers]))
            spaces = common_spaces([pair for found in self._answers(start_timeout_s) for pair in found])
            block = Block(num_envs, *spaces)
            super().__init__(num_envs, *spaces, block, copy)
        except BaseException:
            with contextlib.suppress(EnvironmentFault):
                self._close()
            raise
        for worker in self._workers:
            worker.group.attach(block)

    def _reset(self, seeds: Sequence[int | None], options: Info | None) -> Tree:
        for worker in self._workers:
            own = [seeds[number] for number in worker.numbers]
            worker.ask(lambda worker=worker, own=own: worker.group.reset(own, options))
        infos = [info for found in self._answers(self._timeout_s) for info in found]
        self.reset_infos = infos if self._with_infos else ()
        return self._observations()

    def _begin_step(self, actions: np.ndarray) -> None:
        self._block.actions[...] = actions
        for worker in self._workers:
            worker.ask(worker.group.step)

    def _finish_step(self) -> StepResult:
        infos = [info for found in self._answers(self._timeout_s) for info in found]
        return self._result(infos if self._with_infos else ())

    def _drop_step(self) -> None:
        self._collect(self._timeout_s)

    def _answers(self, timeout_s: float) -> list[Any]:
        """One answer of each thread.

        Raises:
            Exception: the first that a thread raised, once all have answered.
        """
        answers = self._collect(timeout_s)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    def _collect(self, timeout_s: float) -> list[Any]:
        deadline = time.monotonic() + timeout_s
        try:
            return [worker.answer(deadline) for worker in self._workers]
        except queue.Empty:
            late = [worker for worker in self._workers if worker.is_late()]
            with contextlib.suppress(EnvironmentFault):
                self.close()
            raise WorkerLost(
                f"{' and '.join(named(worker.numbers) for worker in late)} did not answer within {timeout_s:g} s; the "
                "batch is closed. If a step may take longer, raise timeout_s"
            ) from None

    def _close(self) -> None:
        deadline = time.monotonic() + _GRACE_S
        ready = [worker for worker in self._workers if not worker.busy or worker.has_answered()]
        for worker in self._workers:
            worker.ask(worker.end)  # a thread that hangs does it if it ever goes on
            worker.leave()
        for worker in ready:
            worker.thread.join(max(0.0, deadline - time.monotonic()))
        for worker in ready:
            if worker.fault is not None:
                raise worker.fault


def num_threads_wanted(num_workers: int | str, num_envs: int) -> int:
    """The threads of a batch.

    Raises:
        BadInput: neither ``"auto"`` nor a number that is at least 1.
    """
    return workers_wanted(num_workers, num_envs, auto=_MOST_THREADS)


class _Thread:
    """A thread with its environments. Calls are made in its thread, one after the other."""

    def __init__(self, numbers: Sequence[int]):
        self.numbers = numbers
        self.group: Any = None
        self.fault: BaseException | None = None
        self.busy = False
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        self._answers: queue.SimpleQueue = queue.SimpleQueue()
        # A daemon: one that hangs must not keep the process alive.
        self.thread = threading.Thread(target=self._run, name=f"flowrl-{named(numbers)}", daemon=True)
        self.thread.start()

    def ask(self, call: Callable[[], Any]) -> None:
        self.busy = True
        self._calls.put(call)

    def leave(self) -> None:
        """Ends the thread when it has made all calls."""
        self._calls.put(None)

    def answer(self, deadline: float) -> Any:
        """What the call returned, or the exception that it raised; None if there is no call.

        Raises:
            queue.Empty: it is still at work.
        """
        if not self.busy:
            return None  # collected before an interrupt
        found = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
        self.busy = False
        return found

    def has_answered(self) -> bool:
        return not self._answers.empty()

    def is_late(self) -> bool:
        return self.busy and not self.has_answered()

    def make(self, env_fns: Sequence[Callable[[], Any]]) -> list[tuple[Any, Any]]:
        self.group = Group(self.numbers, env_fns)
        return self.group.spaces()

    def end(self) -> None:
        if self.group is not None:
            try:
                self.group.close()
            except Exception as error:
                self.fault = error

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                answer = call()
            except BaseException as error:
                answer = error
            self._answers.put(answer)
