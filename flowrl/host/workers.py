"""The workers of a batch, as their parent sees them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from flowrl.host import messages
from flowrl.host.episodes import Info
from flowrl.host.faults import EnvironmentFault
from flowrl.host.launch import Process, Starter
from flowrl.host.messages import Gone, Late
from flowrl.host.shares import named
from flowrl.host.worker import Order

_EXIT_GRACE_S = 2.0
"""Seconds that workers have for closing their environments when the program ends, or forgets the batch, without doing so."""
_REAPED_S = 2.0
"""Seconds in which the system says how a process ended whose connection has ended."""
MOST_IN_A_ROW = 3
"""A worker that is lost this often without having done anything in between is not replaced again."""
TRY_ALONE = "step one environment alone, in your own program, to see what it does"
"""What helps where an environment ends its process, or hangs."""


class Worker:
    """A worker's place in the batch, and the process that fills it."""

    def __init__(self, place: int, numbers: Sequence[int], order: Order):
        self.place = place
        self.numbers = numbers
        self.process: Process | None = None
        self.tries = 0
        self._order = order
        self._busy = False

    def name(self) -> str:
        process = f", process {self.process.pid}" if self.process else ""
        return f"worker {self.place} ({named(self.numbers)}{process})"

    def start(self, method: Starter, deadline: float) -> None:
        self.process = method.start(self._order, deadline)
        self._busy = False

    def spaces(self, deadline: float) -> list[tuple[Any, Any]]:
        return self._value(deadline)

    def signal(self, kind: bytes) -> None:
        """Never fails: a worker that has gone is noticed when it has to answer."""
        self._busy = True
        with contextlib.suppress(Gone):
            self.process.channel.signal(kind)

    def reset(self, seeds: Sequence[int | None], options: Info | None, timeout_s: float) -> None:
        self._busy = True
        with contextlib.suppress(Gone, Late):
            self.process.channel.send(messages.RESET, (seeds, options), time.monotonic() + timeout_s)

    def answer(self, deadline: float) -> list[Info] | None:
        """What the environments say; None if nothing, or if nothing was asked."""
        if not self._busy:
            return None
        return self._value(deadline)

    def close(self) -> None:
        """Asks the process to close its environments and end."""
        if self.process and not self.process.ended:
            with contextlib.suppress(Gone):
                self.process.channel.signal(messages.CLOSE)

    def farewell(self, deadline: float) -> EnvironmentFault | None:
        """Waits until the process has ended; says what failed when it closed its environments."""
        fault = None
        with contextlib.suppress(Gone, Late):
            while self.process and not self.process.ended:
                kind, value = self.process.channel.receive(deadline)
                # What comes first may be the answer to an interrupted step.
                fault = value if kind == messages.FAULT and not self._busy else None
                self._busy = False
        return fault

    def _value(self, deadline: float) -> Any:
        kind, value = self.process.channel.receive(deadline)
        self._busy = False
        if kind == messages.FAULT:
            raise value
        return value


def what_happened(name: str, process: Process | None, why: Exception, timeout_s: float) -> str:
    """How a process was lost, in words.

    Args:
        why: `Late` if it did not answer in time, `Gone` if it has ended.
    """
    if isinstance(why, Late):
        return f"{name} did not answer within {timeout_s:g} s"
    code = process.exit_code(_REAPED_S) if process else None
    if code is None:
        return f"{name} has ended"
    if code < 0:
        hint = "; the system may have been out of memory" if code == -signal.SIGKILL else ""
        return f"{name} was killed by {_signal_name(-code)}{hint}"
    return f"{name} ended with exit code {code}"


def end_unclosed(workers: Sequence[Worker], method: Starter, owner: int) -> None:
    """Ends a batch that nobody closed, or of which only the processes are left."""
    if os.getpid() == owner:  # not in a process that was forked from the owner
        say_farewell(workers, _EXIT_GRACE_S)
        end_now(workers, method)


def end_now(workers: Sequence[Worker], method: Starter) -> None:
    """Ends the processes of a batch, whatever they do."""
    for worker in workers:
        if worker.process:
            worker.process.kill()
    method.close()


def say_farewell(workers: Sequence[Worker], grace_s: float) -> list[EnvironmentFault]:
    """Lets workers close their environments; returns what failed in that."""
    deadline = time.monotonic() + grace_s
    for worker in workers:
        worker.close()
    return [fault for worker in workers if (fault := worker.farewell(deadline)) is not None]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
