"""What a worker process runs. It imports no JAX, and ends when its parent does, however the parent ends."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flowrl.host import messages
from flowrl.host.messages import Channel, Gone

_GRACE_S = 2.0
"""Seconds that environments have for closing after the parent has gone."""


_open: list[Channel] = []
"""Stays open until this process has ended: that is how the parent sees that it has."""


class Order(NamedTuple):
    """Which environments a worker makes.

    Attributes:
        env_fns: their functions, or those as one pickle.
    """

    numbers: Sequence[int]
    env_fns: Sequence[Callable[[], Any]] | bytes
    num_envs: int
    with_infos: bool


def main(descriptor: int) -> None:
    """A process that was started from nothing: its order comes as a message."""
    with contextlib.suppress(Gone):
        serve(*ordered(descriptor))


def ordered(descriptor: int) -> tuple[Channel, Any]:
    """The connection of a process that was started from nothing, and what its parent wants from it.

    Raises:
        Gone: the parent has ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it closes us
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    channel = Channel(socket.socket(fileno=descriptor))
    _, (path, order) = channel.receive()
    sys.path[:] = path  # as in the parent, so that its modules are found
    return channel, order


def serve(channel: Channel, order: Order) -> None:
    """Makes the environments, then does what the parent says until it says `CLOSE` or has gone."""
    end_with_parent(channel)
    try:
        _serve(channel, order)
    except Gone:
        return


def _serve(channel: Channel, order: Order) -> None:
    from flowrl.host.faults import EnvironmentFault

    try:
        group = _group(order)
    except EnvironmentFault as fault:
        channel.send(messages.FAULT, fault)
        return
    try:
        channel.send(messages.SPACES, group.spaces())
        group.attach(_block(channel, order.num_envs, group.spaces()[0]))
        while (message := channel.receive())[0] != messages.CLOSE:
            _answer(channel, order.with_infos, group, *message)
        group.close()
    except EnvironmentFault as fault:  # of close
        channel.send(messages.FAULT, fault)
    finally:
        group.close_quietly()


def _group(order: Order):
    from flowrl.host.faults import raised
    from flowrl.host.group import Group

    env_fns = order.env_fns
    if isinstance(env_fns, bytes):
        try:
            env_fns = pickle.loads(env_fns)
        except Exception as error:  # a module of theirs cannot be imported here
            raise raised(order.numbers[0], "unpickling in its worker", error) from error
    return Group(order.numbers, env_fns)


def _block(channel: Channel, num_envs: int, spaces):
    from flowrl.host.block import Block, attached

    _, _, descriptor = channel.receive_with_descriptor()
    memory = attached(descriptor)
    os.close(descriptor)
    return Block(num_envs, *spaces, memory)


def _answer(channel: Channel, with_infos: bool, group, kind: bytes, value: Any) -> None:
    from flowrl.host.faults import EnvironmentFault

    try:
        infos = group.step() if kind == messages.STEP else group.reset(*value)
    except EnvironmentFault as fault:
        channel.send(messages.FAULT, fault)
        return
    if not with_infos:
        channel.signal(messages.DONE)
        return
    try:
        pickled = pickle.dumps(infos, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        channel.send(messages.FAULT, EnvironmentFault(_unpicklable(group.numbers, infos, error), group.numbers[0]))
        return
    channel.send_pickled(messages.INFOS, pickled)


def _unpicklable(numbers: Sequence[int], infos: Sequence[dict[str, Any]], error: Exception) -> str:
    for number, info in zip(numbers, infos):
        for key, value in info.items():
            try:
                pickle.dumps(value)
            except Exception:
                return (
                    f"environment {number} returns an info {key!r} that cannot be sent to another process "
                    f"({type(value).__name__}: {error}); remove it in a wrapper, or leave out with_infos"
                )
    return f"environment {numbers[0]} returns an info that cannot be sent to another process: {error}"


def end_with_parent(channel: Channel) -> None:
    """From now on this process ends soon after its parent, even while an environment hangs."""
    _open.append(channel)
    threading.Thread(target=_end_after_hangup, args=[channel.fileno()], daemon=True).start()


def _end_after_hangup(descriptor: int) -> None:
    messages.until_hangup(descriptor)
    time.sleep(_GRACE_S)
    os._exit(1)
