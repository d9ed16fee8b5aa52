"""A process that imports what workers need, once, and is forked for each of them. It never makes an environment."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys

from flowrl.host import messages, worker
from flowrl.host.messages import Channel, Gone


def main(descriptor: int) -> None:
    """Serves until the parent has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    channel = Channel(socket.socket(fileno=descriptor))
    try:
        _, path = channel.receive()
        sys.path[:] = path
        _import_what_workers_need()
        while True:
            _serve(channel)
    except Gone:
        return


def _import_what_workers_need() -> None:
    import cloudpickle
    import gymnasium

    from flowrl.host import block, faults, group

    assert all((cloudpickle, gymnasium, block, faults, group))


def _serve(channel: Channel) -> None:
    kind, pid, descriptor = channel.receive_with_descriptor()
    if kind == messages.FORK:
        _fork(channel, descriptor)
    elif kind == messages.STATUS:
        channel.send(messages.STATUS, _status(pid))
    elif kind == messages.KILL:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        channel.send(messages.KILL, None)


def _fork(channel: Channel, descriptor: int) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            channel.close()
            worker.main(descriptor)
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    os.close(descriptor)
    channel.send(messages.FORKED, pid)


def _status(pid: int) -> int | None:
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return os.waitstatus_to_exitcode(status) if found else None
