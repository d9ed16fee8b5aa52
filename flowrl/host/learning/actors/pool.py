"""The actors as the learner sees them: started, heard, replaced and ended. Nothing here waits for ever."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence

from flowrl.errors import FlowrlError
from flowrl.host import launch, messages
from flowrl.host.block import attached, shared_memory
from flowrl.host.faults import EnvironmentFault, WorkerLost
from flowrl.host.launch import Process
from flowrl.host.learning.actors.actor import ActorOrder
from flowrl.host.learning.actors.exchange import Exchange, Sizes, num_bytes
from flowrl.host.messages import Gone, Late
from flowrl.host.workers import MOST_IN_A_ROW, TRY_ALONE, what_happened

_CODE = "from flowrl.host.learning.actors import actor; actor.main({})"
_POLL_S = 0.2
"""Seconds after which actors are checked, if none says anything."""
_START_S = 120.0
"""Seconds in which an actor must have made its environments."""
_GRACE_S = 5.0
"""Seconds that actors have for closing their environments."""


class ActorPool:
    """Actor processes, and the slots that they fill.

    A slot is *given* to its actor, which fills it; then it is *full* until `take` hands it out. Whoever took it gives it again
    when it is copied. So there are never more trajectories than slots, and an actor without a slot waits.

    Args:
        orders: one for each actor, the same each time it is started, but for its seeds.
        again: the order of an actor that is started again, from its order and how often it was started before.
        timeout_s: seconds without a step after which an actor counts as hanging.
        say: prints a line.

    Attributes:
        exchange: the memory that all share.
        lost: the actors that were replaced.

    Raises:
        NoRoom: there is not enough shared memory.
    """

    def __init__(
        self,
        orders: Sequence[ActorOrder],
        again: Callable[[ActorOrder, int], ActorOrder],
        timeout_s: float,
        say: Callable[[str], None],
    ):
        self._sizes: Sizes = orders[0].sizes
        self._again, self._timeout_s, self._say = again, timeout_s, say
        self._memory = shared_memory(num_bytes(self._sizes), "the trajectories of all actors")
        self.exchange = Exchange(self._sizes, attached(self._memory))
        self.lost = 0
        self._actors = [_Actor(order) for order in orders]
        self._full: deque[int] = deque()
        self._poller = select.poll()
        self._by_descriptor: dict[int, _Actor] = {}
        self._closed = False

    @property
    def num_full(self) -> int:
        """Slots that wait for the learner."""
        return len(self._full)

    @property
    def pids(self) -> list[int]:
        """The process number of each actor."""
        return [actor.process.pid for actor in self._actors if actor.process]

    def start(self) -> None:
        """Starts all actors; returns at once."""
        for actor in self._actors:
            self._start(actor)

    def give(self, slots: Sequence[int]) -> None:
        """Has slots filled, each by the actor that it belongs to."""
        for slot in slots:
            actor = self._actors[self._sizes.owner(slot)]
            if not actor.given:
                actor.seen_s = time.monotonic()  # it waited until now
            actor.given.append(slot)
            self._ask(actor, slot)

    def wait(self, count: int) -> None:
        """Waits until so many slots are full.

        Raises:
            EnvironmentFault: an environment of an actor failed.
            WorkerLost: an actor died or hung, several times in a row.
        """
        self._listen(0.0)
        while len(self._full) < count:
            self._listen(_POLL_S)

    def take(self, count: int) -> list[int]:
        """Full slots, in the order in which they were filled."""
        return [self._full.popleft() for _ in range(count)]

    def close(self) -> None:
        """Ends all actors, and frees the memory. Safe to repeat."""
        if self._closed:
            return
        self._closed = True
        self.exchange.stopping[0] = 1
        started = [actor.process for actor in self._actors if actor.process]
        for process in started:
            with contextlib.suppress(Gone):
                process.channel.signal(messages.CLOSE)
        deadline = time.monotonic() + _GRACE_S
        for process in started:
            with contextlib.suppress(Gone, Late):
                while True:
                    process.channel.receive(deadline)  # nobody wants it
            process.kill()
        os.close(self._memory)

    def _start(self, actor: _Actor) -> None:
        actor.process = launch.spawned(_CODE, variables())
        actor.ready, actor.seen_s = False, time.monotonic()
        descriptor = actor.process.channel.fileno()
        self._by_descriptor[descriptor] = actor
        self._poller.register(descriptor, select.POLLIN)
        with contextlib.suppress(Gone, Late):  # noticed when it should say something
            actor.process.channel.send(messages.MAKE, (sys.path, actor.order), time.monotonic() + _START_S)
            actor.process.channel.send_descriptor(messages.MEMORY, self._memory)
        for slot in actor.given:
            self._ask(actor, slot)

    def _ask(self, actor: _Actor, slot: int) -> None:
        with contextlib.suppress(Gone, Late):
            actor.process.channel.send(messages.FILL, slot, time.monotonic() + self._timeout_s)

    def _listen(self, timeout_s: float) -> None:
        """Hears all that actors have said, waiting for it if there is nothing yet; replaces those that died or hang."""
        for descriptor, _ in self._poller.poll(timeout_s * 1000):
            self._hear(self._by_descriptor[descriptor])
        for actor in self._actors:
            self._check(actor)

    def _hear(self, actor: _Actor) -> None:
        try:
            while True:
                kind, value = actor.process.channel.receive(time.monotonic())
                if kind == messages.FAULT:
                    raise _of_actor(actor.order, value)
                actor.ready, actor.seen_s = True, time.monotonic()
                if kind == messages.FULL:
                    actor.given.remove(value)
                    actor.tries = 0
                    self._full.append(value)
        except Late:
            return
        except Gone as why:
            self._replace(actor, why)

    def _check(self, actor: _Actor) -> None:
        now, steps = time.monotonic(), int(self.exchange.progress[actor.order.number])
        limit_s = self._timeout_s if actor.ready else max(self._timeout_s, _START_S)
        if not actor.given or steps != actor.steps:
            actor.steps, actor.seen_s = steps, now
        elif now - actor.seen_s > limit_s:
            self._replace(actor, Late())

    def _replace(self, actor: _Actor, why: Exception) -> None:
        process = actor.process
        descriptor = process.channel.fileno()
        self._poller.unregister(descriptor)
        del self._by_descriptor[descriptor]
        name = f"actor {actor.order.number} (process {process.pid})"
        limit_s = self._timeout_s if actor.ready else max(self._timeout_s, _START_S)
        words = what_happened(name, process, why, limit_s)
        process.kill()
        actor.tries += 1
        if actor.tries >= MOST_IN_A_ROW:
            raise WorkerLost(f"{words}, {actor.tries} times in a row without a trajectory between; {self._hint(why)}")
        self.lost += 1
        actor.starts += 1
        actor.order = self._again(actor.order, actor.starts)
        self._say(f"{words}; its unfinished steps are lost, and a new one replaces it")
        self._start(actor)

    def _hint(self, why: Exception) -> str:
        return "if a step may take longer, raise --timeout_s" if isinstance(why, Late) else TRY_ALONE


class _Actor:
    """An actor's place, and the process that fills it."""

    def __init__(self, order: ActorOrder):
        self.order = order
        self.process: Process | None = None
        self.given: list[int] = []
        self.ready = False
        self.steps = 0
        self.seen_s = 0.0
        """When it was last known to do something, or to have nothing to do."""
        self.starts = self.tries = 0


def variables() -> dict[str, str]:
    """The environment variables of an actor. JAX gets one thread, on the CPU: with a thread for each core in every actor, they
    would fight for cores."""
    flags = "--xla_cpu_multi_thread_eigen=false"
    return {"JAX_PLATFORMS": "cpu", "PJRT_NPROC": "1", "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()}


def _of_actor(order: ActorOrder, error: FlowrlError) -> FlowrlError:
    if isinstance(error, EnvironmentFault):
        first = order.number * order.sizes.num_envs
        return EnvironmentFault(f"in actor {order.number}, {error}", first + error.environment)
    return error
