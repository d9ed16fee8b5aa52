"""A child process that can only compute, for running untrusted code.

The child is forked, so it starts with everything that its parent has imported. It has its own process group, limits and
kernel filters (`kernel_filters`), and only two pipes to the outside: one line of JSON comes in, one goes out. Whatever
happens, the parent ends it, with its group.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import sysconfig
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flowrl.gate import kernel_filters
from flowrl.gate.kernel_filters import NotOffered

MAX_ANSWER_BYTES = 1_000_000
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Limits:
    """What one child may use."""

    cpu_s: int = 5
    """CPU time over the child's whole life, on all cores."""
    wall_s: float = 60.0
    """From a question to its answer."""
    memory_mb: int = 2048
    """In addition to what it has when it is forked."""
    file_bytes: int = 0
    """Largest size of a file that it writes."""
    open_files: int = 64


@dataclass(frozen=True)
class Protection:
    """What stands between the child and the machine."""

    landlock: int
    """Version of Landlock, 0 where the kernel lacks it."""
    seccomp: bool
    notes: tuple[str, ...] = ()
    """The protections that are missing here, one line each."""


@dataclass(frozen=True)
class Response:
    """The result of a question."""

    kind: str
    """``answered``, ``failed`` (an exception), ``time``, ``memory`` or ``crashed``."""
    answer: Any = None
    """What the child answered; for ``failed``, the exception as one line."""
    seconds: float = 0.0


def readable_paths() -> list[Path]:
    """All that a child may read: the modules of Python and its packages, for late imports; random numbers; and the
    processor's features.

    Kernel libraries look up the processor when they are first used. If XLA's (YNNPACK) cannot, it finds no kernel for a sum,
    and the program fails with ``INTERNAL: YNNPACK operation failed: unsupported parameter``.
    """
    paths = sysconfig.get_paths()
    libraries = sorted({Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    return [*libraries, Path("/dev/urandom"), Path("/proc/cpuinfo")]


def enclose(limits: Limits) -> Protection:
    """Gives up for good everything that computing does not need. Call it before there are other threads."""
    _limit(limits)
    notes = []
    landlock, seccomp = 0, False
    try:
        landlock = kernel_filters.close_files(readable_paths())
    except NotOffered as error:
        notes.append(f"no Landlock: the probe can read files, and seccomp alone keeps it from changing them ({_text(error)})")
    try:
        kernel_filters.close_calls()
        seccomp = True
    except NotOffered as error:
        notes.append(f"no seccomp: the probe can open sockets and send signals ({_text(error)})")
    return Protection(landlock, seccomp, tuple(notes))


class Child:
    """One child, forked at once, that answers one question.

    Args:
        prepare: what it does first, behind the limits; for slow preparation before there is a question.
        answer: turns the question into the answer; both are JSON values.
        limits: what it may use.
    """

    def __init__(self, prepare: Callable[[], None], answer: Callable[[Any], Any], limits: Limits = Limits()):
        self.limits = limits
        question_end, self._questions = os.pipe()
        self._answers, answer_end = os.pipe()
        sys.stdout.flush()
        with warnings.catch_warnings():
            # Importing numpy may have started threads; the child does not need them, since it starts its own.
            warnings.simplefilter("ignore")
            self.pid = os.fork()
        if self.pid == 0:
            _run_child(prepare, answer, limits, question_end, answer_end)
        os.close(question_end)
        os.close(answer_end)
        with contextlib.suppress(OSError):
            os.setpgid(self.pid, self.pid)
        self._buffer = b""
        self._status: int | None = None
        self._gave_up: str | None = None

    def protection(self) -> Protection | None:
        """The child's protection, once it is prepared; None if it died before."""
        line = self._line(time.monotonic() + self.limits.wall_s)
        return None if line is None else Protection(**{**json.loads(line), "notes": tuple(json.loads(line)["notes"])})

    def ask(self, question: Any) -> Response:
        """Asks the question, and ends the child. Call `protection` first."""
        begun_s = time.monotonic()
        try:
            with contextlib.suppress(BrokenPipeError):
                _write(self._questions, question)
            line = self._line(begun_s + self.limits.wall_s)
        finally:
            self.end()
        seconds = time.monotonic() - begun_s
        if line is None:
            return Response(self._cause(), None, seconds)
        try:
            reply = json.loads(line)
            return Response(reply["kind"], reply["answer"], seconds)
        except (ValueError, KeyError, TypeError):
            return Response("crashed", "it did not answer in JSON", seconds)

    def end(self) -> None:
        """Kills the child and its group. May be called more than once."""
        if self._status is not None:
            return
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)
        _, self._status = os.waitpid(self.pid, 0)
        os.close(self._questions)
        os.close(self._answers)

    def _line(self, until_s: float) -> bytes | None:
        """The next line; None if the child ended, ran out of time or wrote too much."""
        while b"\n" not in self._buffer:
            left_s = until_s - time.monotonic()
            if left_s <= 0 or len(self._buffer) > MAX_ANSWER_BYTES:
                self._gave_up = "time" if left_s <= 0 else "crashed"
                return None
            if select.select([self._answers], [], [], left_s)[0]:
                part = os.read(self._answers, 65536)
                if not part:
                    self._reap()
                    return None
                self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _reap(self) -> None:
        """Waits a moment for a child that closed its pipe, to see how it ended before we kill it."""
        for _ in range(50):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = status
                os.close(self._questions)
                os.close(self._answers)
                return
            time.sleep(0.01)

    def _cause(self) -> str:
        """Why there was no answer."""
        ended_by = os.WTERMSIG(self._status) if os.WIFSIGNALED(self._status) else None
        return self._gave_up or ("time" if ended_by == signal.SIGXCPU else "crashed")


def _run_child(prepare, answer, limits: Limits, question_end: int, answer_end: int) -> None:
    """Everything that the child does. It exits here, whatever happens: none of the parent's handlers run."""
    code = 1
    try:
        os.setpgid(0, 0)
        _end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _leave_only(question_end, answer_end)
        protection = enclose(limits)
        prepare()
        _write(answer_end, asdict(protection))
        with os.fdopen(question_end, "rb", closefd=False) as questions:
            line = questions.readline()
        if line:
            _write(answer_end, _reply(answer, json.loads(line)))
        code = 0
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        os._exit(code)


def _reply(answer: Callable[[Any], Any], question: Any) -> dict[str, Any]:
    try:
        return {"kind": "answered", "answer": answer(question)}
    except MemoryError:
        return {"kind": "memory", "answer": None}
    except BaseException as error:
        return {"kind": "failed", "answer": _text(error)}


def _end_with_parent() -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _leave_only(*kept: int) -> None:
    """Closes every file except these and the three standard ones; standard input and output become /dev/null."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    highest = max(*kept, 2)
    for number in range(3, highest + 1):
        if number not in kept:
            with contextlib.suppress(OSError):
                os.close(number)
    os.closerange(highest + 1, 65536)


def _limit(limits: Limits) -> None:
    mebibyte = 1 << 20
    data, address_space = _memory_bytes()
    allowed = {
        resource.RLIMIT_CPU: limits.cpu_s,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_DATA: data + limits.memory_mb * mebibyte,
        # Much address space is only reserved, for thread stacks and the allocator's arenas.
        resource.RLIMIT_AS: address_space + 4 * limits.memory_mb * mebibyte,
    }
    for kind, amount in allowed.items():
        with contextlib.suppress(ValueError, OSError):  # macOS does not enforce some of them
            # The soft limit of CPU time sends SIGXCPU, which tells this end from others; the hard limit sends SIGKILL.
            resource.setrlimit(kind, (amount, amount + (kind == resource.RLIMIT_CPU)))


def _memory_bytes() -> tuple[int, int]:
    """This process's writable private memory and its address space; 0 if the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text().split()
    except OSError:
        return 0, 0
    size = resource.getpagesize()
    return int(pages[5]) * size, int(pages[0]) * size


def _write(end: int, message: Any) -> None:
    data = memoryview(json.dumps(message).encode() + b"\n")
    while data:
        data = data[os.write(end, data) :]


def _text(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
