"""Environments stepped by worker processes: fastest where a step computes for long."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowrl.errors import BadInput
from flowrl.host import messages
from flowrl.host.block import Block, attached, num_bytes, shared_memory
from flowrl.host.block_env import BlockVecEnv
from flowrl.host.episodes import Info
from flowrl.host.faults import EnvironmentFault, WorkerLost
from flowrl.host.interface import StepResult, check_functions, common_spaces
from flowrl.host.launch import starter
from flowrl.host.messages import Gone, Late
from flowrl.host.shares import check_seconds, more_than_cores, shares, workers_wanted
from flowrl.host.spaces import Tree, flat, leaves
from flowrl.host.worker import Order
from flowrl.host.workers import MOST_IN_A_ROW, TRY_ALONE, Worker, end_now, end_unclosed, say_farewell, what_happened
from flowrl.machine import usable_cores

_log = logging.getLogger(__name__)
_GRACE_S = 5.0
"""Seconds that workers have for closing their environments."""


class Lost(NamedTuple):
    """What was lost with workers that were replaced.

    Attributes:
        workers: how many were replaced.
        episodes: the episodes that were cut off.
        steps: the steps of those episodes.
    """

    workers: int = 0
    episodes: int = 0
    steps: int = 0


class ParallelEnv(BlockVecEnv):
    """A batch that is stepped by worker processes, each with several environments.

    Observations, rewards and flags are in one block of memory that all share. A step wakes each worker once.

    Args:
        env_fns: one function for each environment, which makes it; sent to the worker by cloudpickle.
        start_method: ``"spawn"`` (the default), ``"forkserver"`` or ``"fork"``.
        num_workers: ``"auto"`` is one for each core that this process may use.
        timeout_s: seconds after which a worker that has not answered counts as hanging.
        start_timeout_s: the same while workers start and make their environments.
        respawn: replace a worker that died or hangs. In the step in which that is noticed, its environments are truncated:
            ``final_obs`` is the last observation that was handed out, the reward is 0, and a new episode begins.
        with_infos: hand on what environments say about each step; it is pickled, which takes time.
        copy: see `BlockVecEnv`.

    Attributes:
        lost: what was lost with workers that were replaced.

    Raises:
        BadInput: an argument is wrong, an environment cannot be pickled, or environments have different spaces.
        EnvironmentFault: an environment could not be made.
        WorkerLost: a worker died or hung while it started.
        NoRoom: there is not enough shared memory.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], Any]],
        start_method: str | None = None,
        num_workers: int | str = "auto",
        timeout_s: float = 60.0,
        *,
        start_timeout_s: float = 120.0,
        respawn: bool = False,
        with_infos: bool = False,
        copy: bool = True,
    ):
        env_fns = check_functions(env_fns)
        self._timeout_s = check_seconds("timeout_s", timeout_s)
        self._start_timeout_s = check_seconds("start_timeout_s", start_timeout_s)
        num_envs = len(env_fns)
        parts = shares(num_envs, _num_workers(num_workers, num_envs))
        self._respawn, self._with_infos = respawn, with_infos
        self.lost = Lost()
        self._starter = starter(start_method)
        orders = [Order(part, [env_fns[number] for number in part], num_envs, with_infos) for part in parts]
        self._workers = [Worker(place, order.numbers, self._starter.ordered(order)) for place, order in enumerate(orders)]
        self._end = weakref.finalize(self, end_unclosed, self._workers, self._starter, os.getpid())
        try:
            spaces = self._start_all()
            self._memory = shared_memory(num_bytes(num_envs, *spaces))
            self._free = weakref.finalize(self, os.close, self._memory)
            super().__init__(num_envs, *spaces, Block(num_envs, *spaces, attached(self._memory)), copy)
            for worker in self._workers:
                self._give_memory(worker)
        except BaseException:
            end_now(self._workers, self._starter)
            self._end.detach()
            raise
        self._cut = np.zeros(num_envs, bool)
        self._last: list[np.ndarray] = []
        self._steps = np.zeros(num_envs, np.int64)
        self._seeds: list[int | None] = []

    @property
    def num_workers(self) -> int:
        return len(self._workers)

    @property
    def worker_pids(self) -> list[int]:
        """The process number of each worker."""
        return [worker.process.pid for worker in self._workers]

    def _reset(self, seeds: Sequence[int | None], options: Info | None) -> Tree:
        self._seeds = list(seeds)
        for worker in self._workers:
            worker.tries = 0
        infos = self._reset_workers(self._workers, options)
        self.reset_infos = infos if self._with_infos else ()
        observations = self._observations()
        self._remember(observations, steps=0)
        return observations

    def _begin_step(self, actions: np.ndarray) -> None:
        self._block.actions[...] = actions
        for worker in self._workers:
            worker.signal(messages.STEP)

    def _finish_step(self) -> StepResult:
        infos: list[Info] = [{} for _ in range(self.num_envs)]
        self._cut[:] = False
        for worker, why in self._collect(infos, self._timeout_s):
            self._cut_off(worker, why, infos)
        for worker in self._workers:
            worker.tries = worker.tries if self._cut[worker.numbers[0]] else 0
        result = self._result(infos if self._with_infos else ())
        self._remember(result.observations, np.where(result.terminated | result.truncated, 0, self._steps + 1))
        return result

    def _drop_step(self) -> None:
        with contextlib.suppress(EnvironmentFault):  # of a step that nobody wants
            for worker, why in self._collect([{}] * self.num_envs, self._timeout_s):
                self._replace(worker, why)

    def _ended(self, result: StepResult) -> np.ndarray:
        return super()._ended(result) & ~self._cut

    def _close(self) -> None:
        faults = say_farewell(self._workers, _GRACE_S)
        end_now(self._workers, self._starter)
        self._end.detach()
        self._free()
        if faults:
            raise faults[0]

    def _start_all(self) -> tuple[Any, Any]:
        """Starts the workers, all at once, and returns the spaces that all their environments have."""
        deadline = time.monotonic() + self._start_timeout_s
        try:
            for worker in self._workers:
                worker.start(self._starter, deadline)
            found = [worker.spaces(deadline) for worker in self._workers]
        except (Gone, Late) as why:
            raise self._lost_at_start(worker, why) from None
        return common_spaces([pair for pairs in found for pair in pairs])

    def _lost_at_start(self, worker: Worker, why: Exception) -> WorkerLost:
        hint = "if it may take longer, raise start_timeout_s" if isinstance(why, Late) else TRY_ALONE
        return WorkerLost(f"{self._what_happened(worker, why, self._start_timeout_s)} while it started; {hint}")

    def _give_memory(self, worker: Worker) -> None:
        try:
            worker.process.channel.send_descriptor(messages.MEMORY, self._memory)
        except Gone as why:
            raise self._lost_at_start(worker, why) from None

    def _reset_workers(self, workers: Sequence[Worker], options: Info | None) -> list[Info]:
        """Begins new episodes in the environments of some workers; replaces those that are lost, if it may."""
        infos: list[Info] = [{} for _ in range(self.num_envs)]
        while workers:
            for worker in workers:
                worker.reset([self._seeds[number] for number in worker.numbers], options, self._timeout_s)
            lost = self._collect(infos, self._timeout_s)
            for worker, why in lost:
                self._replace(worker, why)
            workers = [worker for worker, _ in lost]
        return infos

    def _collect(self, infos: list[Info], timeout_s: float) -> list[tuple[Worker, Exception]]:
        """Waits for every worker that was asked something. Fills in what environments say, and returns the workers that are
        lost, each with the reason.

        Raises:
            EnvironmentFault: of the first environment that failed, once all workers have answered.
        """
        deadline = time.monotonic() + timeout_s
        lost, faults = [], []
        for worker in self._workers:
            try:
                said = worker.answer(deadline)
            except (Gone, Late) as why:
                lost.append((worker, why))
            except EnvironmentFault as fault:
                faults.append(fault)
            else:
                for number, info in zip(worker.numbers, said or ()):
                    infos[number] = info
        if faults and not lost:
            raise faults[0]
        if lost and not self._respawn:
            self._give_up(lost, timeout_s)
        if faults:
            for worker, why in lost:
                self._replace(worker, why)
            raise faults[0]
        return lost

    def _give_up(self, lost: Sequence[tuple[Worker, Exception]], timeout_s: float) -> None:
        words = "; ".join(self._what_happened(worker, why, timeout_s) for worker, why in lost)
        self._end_lost(lost)
        raise WorkerLost(f"{words}. The batch is closed; respawn=True would replace the worker")

    def _end_lost(self, lost: Sequence[tuple[Worker, Exception]]) -> None:
        for worker, _ in lost:
            worker.process.kill()
        self._close_quietly()

    def _close_quietly(self) -> None:
        with contextlib.suppress(EnvironmentFault):  # the loss of a worker is the error to show
            self.close()

    def _cut_off(self, worker: Worker, why: Exception, infos: list[Info]) -> None:
        """Replaces a worker that was lost in a step, and makes its rows those of truncated episodes."""
        rows = list(worker.numbers)
        block, steps = self._block, int(self._steps[rows].sum())
        self._replace(worker, why)
        self.lost = self.lost._replace(episodes=self.lost.episodes + len(rows), steps=self.lost.steps + steps)
        for number, info in zip(rows, self._reset_alone(worker)):
            infos[number] = {**info, "respawned": True}
        self._cut[rows] = True
        block.rewards[rows] = 0.0
        block.terminated[rows], block.truncated[rows] = False, True
        for array, last in zip(_arrays(self, block.final_obs), self._last):
            array[rows] = last[rows]

    def _reset_alone(self, worker: Worker) -> list[Info]:
        # Other seeds than before: the same episodes again would teach nothing new.
        for number in worker.numbers:
            if self._seeds[number] is not None:
                self._seeds[number] += self.num_envs
        infos = self._reset_workers([worker], None)
        return [infos[number] for number in worker.numbers]

    def _replace(self, worker: Worker, why: Exception) -> None:
        """Ends a lost worker and starts another in its place.

        Raises:
            WorkerLost: that fails, or has been done too often. The batch is closed.
        """
        words = self._what_happened(worker, why, self._timeout_s)
        worker.process.kill()
        worker.tries += 1
        if worker.tries >= MOST_IN_A_ROW:
            self._close_quietly()
            raise WorkerLost(f"{words}, {worker.tries} times in a row. The batch is closed; {TRY_ALONE}")
        try:
            _log.warning("%s; a new one replaces it", words)
            deadline = time.monotonic() + self._start_timeout_s
            worker.start(self._starter, deadline)
            worker.spaces(deadline)
            self._give_memory(worker)
        except (Gone, Late, WorkerLost, EnvironmentFault, BadInput) as failed:
            self._close_quietly()
            reason = f": its replacement failed too ({failed})" if str(failed) else ": its replacement failed too"
            raise WorkerLost(f"{words}{reason}. The batch is closed; make a new one once the cause is removed") from None
        self.lost = self.lost._replace(workers=self.lost.workers + 1)

    def _remember(self, observations: Tree, steps: int | np.ndarray) -> None:
        """Keeps what shows that a worker is lost.

        Args:
            steps: of the episodes that go on.
        """
        if self._respawn:
            self._steps[:] = steps
            arrays = _arrays(self, observations)
            self._last = arrays if self._copy else [array.copy() for array in arrays]

    def _what_happened(self, worker: Worker, why: Exception, timeout_s: float) -> str:
        return what_happened(worker.name(), worker.process, why, timeout_s)


def _num_workers(num_workers: int | str, num_envs: int) -> int:
    cores = len(usable_cores())
    wanted = workers_wanted(num_workers, num_envs, auto=cores)
    if warning := more_than_cores(wanted, cores):
        _log.warning(warning)
    return wanted


def _arrays(env: ParallelEnv, observations: Tree) -> list[np.ndarray]:
    return flat(leaves(env.single_observation_space), observations)
