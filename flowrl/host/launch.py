"""How worker processes are started: `spawn`, `forkserver` and `fork`.

Processes of Python's `multiprocessing` import the module that the user started, and so whatever it imports, such as JAX,
in every worker; a script without a guard would even start itself again. These do not.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

import cloudpickle

import flowrl
from flowrl.errors import BadInput
from flowrl.host import messages, worker
from flowrl.host.messages import Channel, Gone, Late
from flowrl.host.worker import Order
from flowrl.suggestions import unknown_choice

START_METHODS = ("spawn", "forkserver", "fork")
_ANSWER_S = 5.0
"""Seconds in which the fork server answers: it never runs an environment."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

_parents_ends: weakref.WeakSet[socket.socket] = weakref.WeakSet()
"""Our ends of all connections: a process forked from us must not hold them, or the others would never see us end."""


class Process(ABC):
    """A worker process, and the connection to it."""

    def __init__(self, channel: Channel, pid: int):
        self.channel = channel
        self.pid = pid
        self._owner = os.getpid()
        self._status: int | None = None
        self.ended = False

    def exit_code(self, within_s: float = 0.0) -> int | None:
        """What the process ended with, as `subprocess` has it: minus the signal that ended it. None while that is not
        known."""
        deadline = time.monotonic() + within_s
        while self._status is None:
            self._status = self._poll()
            if self._status is not None or time.monotonic() >= deadline:
                break
            time.sleep(0.005)  # the connection has ended, so the process is ending
        return self._status

    def kill(self) -> None:
        """Ends the process at once, if it has not ended, and forgets the connection."""
        if os.getpid() == self._owner:  # not in a process that was forked from ours
            if self.exit_code() is None:
                self._kill()
                self.exit_code(_ANSWER_S)
            self.ended = True
            self.channel.close()

    @abstractmethod
    def _poll(self) -> int | None: ...

    @abstractmethod
    def _kill(self) -> None: ...


class Starter(ABC):
    """Starts workers in one way. `close` comes after all of them have ended."""

    def ordered(self, order: Order) -> Order:
        """The order in the form that `start` takes.

        Raises:
            BadInput: an environment cannot be sent to another process.
        """
        return pickled(order)

    @abstractmethod
    def start(self, order: Order, deadline: float) -> Process:
        """
        Raises:
            Gone, Late: the process ended, or did not read its order in time.
        """

    def close(self) -> None:
        return


def starter(start_method: str | None) -> Starter:
    """
    Raises:
        BadInput: there is no such method, or it cannot be used now.
    """
    method = start_method or "spawn"
    if method not in START_METHODS:
        raise BadInput(unknown_choice("start_method", str(method), START_METHODS))
    if method == "fork":
        _check_no_jax()
    return {"spawn": Spawn, "forkserver": ForkServer, "fork": Fork}[method]()


def pickled(order: Order) -> Order:
    """The order with its functions as one pickle.

    Raises:
        BadInput: a function cannot be pickled; says which one.
    """
    try:
        return order._replace(env_fns=cloudpickle.dumps(order.env_fns))
    except Exception as error:
        for number, env_fn in zip(order.numbers, order.env_fns):
            try:
                cloudpickle.dumps(env_fn)
            except Exception as reason:
                raise BadInput(
                    f"environment {number} cannot be sent to a worker process ({type(reason).__name__}: {reason}); make what "
                    "it uses inside its function, or step it with method='threads' or 'sequential'"
                ) from error
        raise BadInput(f"the environments cannot be sent to worker processes: {error}") from error


def _check_no_jax() -> None:
    if "jax" in sys.modules:
        raise BadInput(
            "start_method='fork' cannot be used after JAX was imported: a forked process would wait forever for locks that "
            "JAX's threads hold; use 'spawn' or 'forkserver', or make the environments before JAX is imported"
        )


class Spawn(Starter):
    """A fresh Python for each worker."""

    def start(self, order: Order, deadline: float) -> Process:
        process = spawned("from flowrl.host import worker; worker.main({})")
        try:
            process.channel.send(messages.MAKE, (sys.path, order), deadline)
        except BaseException:
            process.kill()
            raise
        return process


class _Spawned(Process):
    def __init__(self, channel: Channel, process: subprocess.Popen):
        super().__init__(channel, process.pid)
        self._process = process

    def _poll(self) -> int | None:
        return self._process.poll()

    def _kill(self) -> None:
        self._process.kill()


class ForkServer(Starter):
    """One fresh Python, which imports what every worker needs and is then forked for each of them."""

    def __init__(self):
        self._server: Process | None = None
        self._lock = threading.Lock()

    def start(self, order: Order, deadline: float) -> Process:
        if self._server is None:
            self._server = spawned("from flowrl.host import fork_server; fork_server.main({})")
            self._server.channel.send(messages.MAKE, sys.path, deadline)
        ours, theirs = _connection()
        with theirs:
            self._server.channel.send_descriptor(messages.FORK, theirs.fileno())
            pid = self._server.channel.receive(deadline)[1]
        process = _Served(Channel(ours), pid, self)
        process.channel.send(messages.MAKE, (sys.path, order), deadline)
        return process

    def ask(self, kind: bytes, value: int | None, deadline: float) -> int | None:
        with self._lock:
            self._server.channel.send(kind, value, deadline)
            return self._server.channel.receive(deadline)[1]

    def close(self) -> None:
        if self._server is not None:
            self._server.kill()


class _Served(Process):
    def __init__(self, channel: Channel, pid: int, server: ForkServer):
        super().__init__(channel, pid)
        self._server = server

    def _poll(self) -> int | None:
        try:
            return self._server.ask(messages.STATUS, self.pid, time.monotonic() + _ANSWER_S)
        except (Gone, Late):  # it has ended, and nobody else knows
            return None

    def _kill(self) -> None:
        try:
            self._server.ask(messages.KILL, self.pid, time.monotonic() + _ANSWER_S)
        except (Gone, Late):  # a process whose parent has ended may have given its number to another: it sees our end
            self._status = -signal.SIGKILL


class Fork(Starter):
    """A copy of this process for each worker, which shares its memory until one of them writes."""

    def ordered(self, order: Order) -> Order:
        return order

    def start(self, order: Order, deadline: float) -> Process:
        _check_no_jax()  # it may have been imported since
        ours, theirs = _connection()
        sys.stdout.flush()
        sys.stderr.flush()
        with _interrupts_blocked():
            pid = os.fork()
            if pid == 0:
                _run_forked(theirs, order)
        theirs.close()
        return _Forked(Channel(ours), pid)


class _Forked(Process):
    def _poll(self) -> int | None:
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else has waited for it
            return 0
        return os.waitstatus_to_exitcode(status) if pid else None

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def _run_forked(end: socket.socket, order: Order) -> None:
    """The life of a forked worker. Never returns: what lies above on the stack is the parent's."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        for other in list(_parents_ends):
            other.close()
        worker.serve(Channel(end), order)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def spawned(code: str, variables: Mapping[str, str] | None = None) -> Process:
    """A fresh Python that runs ``code``, in which ``{}`` is the descriptor of its end of the connection.

    Args:
        variables: set in its environment, whatever ours has.
    """
    ours, theirs = _connection()
    root = str(Path(flowrl.__file__).resolve().parents[1])
    start = f"import sys; sys.path.insert(0, {root!r}); {code.format(theirs.fileno())}"
    with theirs, _interrupts_blocked():
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", start],  # -P: a file of the current folder must not stand in for a library
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            # As many workers as cores: one thread for each.
            env={**dict.fromkeys(_THREADS, "1"), **os.environ, **(variables or {})},
        )
    return _Spawned(Channel(ours), process)


def _connection() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    _parents_ends.add(ours)
    return ours, theirs


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process that starts here does not hear Ctrl-C before it can ignore it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
