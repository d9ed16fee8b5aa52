"""The training process and its environment: cores, device, compile cache, signals, lock, heartbeat.

With `heap` the only place in the training room that reads or changes ``os.environ``. `prepare` runs before JAX is
imported, since JAX reads most of it once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

import psutil
from filelock import FileLock, Timeout

from flowrl import jax_cache, number_types
from flowrl.errors import BadInput, FolderInUse
from flowrl.files import sweep_files, why_no_room
from flowrl.machine import keep_to_cores
from flowrl.paths import RunPaths
from flowrl.records import heartbeat, liveness, run_record
from flowrl.records.fence import Fence
from flowrl.records.heartbeat import Activity, Heartbeat
from flowrl.records.process_id import COOKIE, ProcessId
from flowrl.records.run_record import RunRecord, Slot
from flowrl.training.host import heap

T = TypeVar("T")

COMPILE_AHEAD = "FLOWRL_COMPILE_AHEAD"
"""Environment variable: with ``0``, every run compiles what it needs itself."""

FUSED_ROLLOUT = "FLOWRL_FUSED_ROLLOUT"
"""Environment variable: ``1`` and ``0`` say whether a rollout becomes one program (see `fused_rollout`)."""

BACKGROUND = "background"
"""The name of threads whose work may be dropped when the process ends."""

ROOM_POLL_S = 5.0
"""Seconds between checks whether a full disk has room again."""

LOCK_WAIT_S = 1.0
"""Seconds to wait for the run's lock: the scheduler may be probing it right now."""

KILL_WAIT_S = 30.0
"""Seconds that a killed process may take to give back its memory, and with it the run's lock."""

_OUT_OF_MEMORY = ("resource_exhausted", "out of memory", "cannot allocate memory", "std::bad_alloc")


_OF_A_MACHINE = (
    *("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
    "XDG_RUNTIME_DIR",
)
"""What a job on a cluster has from its node, or not at all: the scheduler's machine is another one."""

_JOB = "SLURM_JOB_ID"


class Superseded(FolderInUse):
    """A newer attempt at the run has begun; this one must not write any more."""


def attempt(paths: RunPaths) -> int:
    """The number of the attempt that was launched.

    Raises:
        BadInput: the folder is not a prepared run.
        Superseded: this process was started for an older attempt, as one that waited in a queue for too long.
    """
    try:
        newest = run_record.attempt(paths.run_json)
    except FileNotFoundError:
        raise _not_prepared(paths) from None
    folder, _, mine = os.environ.get(COOKIE, "").rpartition("#")
    if folder == str(paths.folder) and mine.isdigit() and int(mine) < newest:
        raise _superseded(paths, int(mine), newest)
    return newest


def _superseded(paths: RunPaths, attempt: int, newest: int | None) -> Superseded:
    why = "its run's folder is gone" if newest is None else f"attempt {newest} has taken its place"
    return Superseded(f"attempt {attempt} at {paths.skill_name} ends, and writes nothing more: {why}; you need not do anything")


def prepare(paths: RunPaths) -> None:
    """Applies the run's slot: its environment, cores, device and share of memory, and the compile cache."""
    _take_environment(paths.environment)
    take_slot(_run_record(paths).slot)
    heap.settle()


def take_slot(slot: Slot) -> None:
    """Keeps this process to its share of the machine, and to JAX's default number types."""
    number_types.keep_to_defaults()
    if slot.cores:  # tmux restricts us to its server's cores, if that was started on others
        keep_to_cores(slot.cores)
    if slot.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.gpu
    elif slot.cores:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if slot.memory_fraction:
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = str(slot.memory_fraction)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA's warnings would draw over the pane
    jax_cache.prepare()


def _run_record(paths: RunPaths) -> RunRecord:
    try:
        return run_record.read(paths.run_json)
    except FileNotFoundError:
        raise _not_prepared(paths) from None


def _not_prepared(paths: RunPaths) -> BadInput:
    return BadInput(f"{paths.folder} is not a prepared run: run.json is missing; let the scheduler prepare it")


def _take_environment(path: Path) -> None:
    # What must not appear on a command line comes in a private file, which is removed.
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        return
    # What a node, or --slurm_setup, has set for its jobs counts more than what was set where the scheduler is.
    kept = {*_OF_A_MACHINE, *os.environ} if _JOB in os.environ else set()
    os.environ.update({str(name): str(value) for name, value in values.items() if name not in kept})
    path.unlink(missing_ok=True)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or its cause, says that the machine or the device ran out of memory.

    JAX has no exception type for this: XLA's errors carry a status, and the allocator's message.
    """
    while error is not None:
        words = str(error).lower()
        if isinstance(error, MemoryError) or any(sign in words for sign in _OUT_OF_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def compiles_ahead() -> bool:
    """Whether a run may compile programs that later runs will need."""
    return os.environ.get(COMPILE_AHEAD) != "0"


def fuses_rollouts() -> bool | None:
    """Whether rollouts are to be fused; None if the variable is not set."""
    return {"1": True, "0": False}.get(os.environ.get(FUSED_ROLLOUT, ""))


def leave(code: int) -> NoReturn:
    """Ends this process, and drops the work of background threads."""
    if any(thread.name == BACKGROUND for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # the terminal is gone
                stream.flush()
        os._exit(code)  # a normal exit would tear down what the compiler in such a thread still uses
    sys.exit(code)


def when_there_is_room(write: Callable[[], T], folder: Path, wait: Callable[[str], None]) -> T:
    """Calls ``write``, again and again while the disk has no room.

    Args:
        wait: called each time with what the user should do; returns when it is time to retry, or raises to give up.
    """
    while True:
        try:
            return write()
        except OSError as error:
            if (why := why_no_room(error)) is None:
                raise
            wait(f"paused: {folder} cannot be written ({why}); free disk space or make it writable, and training continues")


class Lifetime:
    """Held while a run trains: the kernel lock that says *alive*, its pid, its heartbeat, and what signals mean.

    A hangup (the terminal died) is ignored. An interrupt raises KeyboardInterrupt in the main thread: the user pressed
    Ctrl-C in the pane. A termination asks the run to stop at the next update.
    """

    def __init__(self, paths: RunPaths, attempt: int):
        self._paths = paths
        self.attempt = attempt
        self._fence = Fence(paths.run_json, attempt)
        self._lock = FileLock(paths.lock, fallback_to_soft=False)  # a lock that is only a file outlives its holder
        self._terminate = threading.Event()
        self._sheltered = self._interrupted = False

    def __enter__(self) -> Lifetime:
        self._take_lock()
        sweep_files(self._paths.folder)  # of an attempt that was killed while it wrote
        liveness.write_holder(self._paths.pid, self.attempt)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # Handled even if our parent ignored it, as a shell does for background jobs.
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, lambda *_: self._terminate.set())
        self.beat(Activity.STARTING)
        return self

    def __exit__(self, *_) -> None:
        self._lock.release()

    def _take_lock(self) -> None:
        """Takes the run's lock.

        A lock means something among the processes of one host. Where the file system has none, or where a process of another
        host seems to hold it, as one on a node that was lost, this process goes on without: the older attempt ends at its
        `Fence`. One on this host may hang, and never get there: it is ended if it does not leave within `LOCK_WAIT_S`.

        Raises:
            FolderInUse: a live process of this host trains in the folder.
        """
        try:
            return self._lock.acquire(timeout=LOCK_WAIT_S)
        except Timeout:
            holder = liveness.find_holder(self._paths.pid)
            is_older = holder is not None and holder.attempt < self.attempt
            is_free = is_older and (not holder.is_local or (self._end(holder.process) and self._try_lock()))
        except (OSError, NotImplementedError) as error:
            if not liveness.has_no_locks(error):
                raise
            holder = liveness.find_holder(self._paths.pid)
            is_free = holder is None or not holder.is_local or not holder.process.is_alive()
            is_free = is_free or (holder.attempt < self.attempt and self._end(holder.process))
        if not is_free:
            raise FolderInUse(
                f"{self._paths.folder} is being trained by another live process (see {self._paths.pid}); "
                "attach to its session, or end it first"
            )

    def _end(self, older: ProcessId) -> bool:
        """Ends the process of an older attempt, if the record says that ours has taken its place.

        Returns:
            whether it has ended.
        """
        try:
            if older.pid == os.getpid() or run_record.attempt(self._paths.run_json) != self.attempt:
                return False
            if process := older.living():
                process.kill()
        except (OSError, BadInput, psutil.Error):
            return False
        until_s = time.monotonic() + KILL_WAIT_S
        while older.is_alive() and time.monotonic() < until_s:
            time.sleep(0.05)
        return not older.is_alive()

    def _try_lock(self) -> bool:
        """Takes the lock, if nobody holds it; returns whether this process has it now."""
        with contextlib.suppress(Timeout):
            self._lock.acquire(timeout=LOCK_WAIT_S)
        return self._lock.is_locked

    @property
    def skill_name(self) -> str:
        return self._paths.skill_name

    @property
    def asked_to_stop(self) -> bool:
        return self._terminate.is_set()

    def check_is_newest(self) -> None:
        """Called before anything is written that counts.

        Raises:
            Superseded: a newer attempt at the run has begun.
        """
        if not self._fence.is_open():
            raise _superseded(self._paths, self.attempt, self._fence.newest())

    @contextlib.contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """A first interrupt waits until the end of the block; a second one does not."""
        self._sheltered = True
        try:
            yield
        finally:
            self._sheltered = False
        if self._interrupted:
            raise KeyboardInterrupt

    def _interrupt(self, *_) -> None:
        if self._sheltered and not self._interrupted:
            self._interrupted = True
        else:
            raise KeyboardInterrupt

    def beat(self, activity: Activity, usual_s: float = 0.0) -> None:
        """Reports progress; called by the loop that does the work, never from another thread.

        Args:
            activity: `TRAINING` if a beat comes with each update; in any other, the next may take long.
            usual_s: the seconds that an update usually takes, 0 while that is not known.

        Raises:
            Superseded: see `check_is_newest`.
        """
        self.check_is_newest()
        with contextlib.suppress(OSError):  # a full disk is reported when a checkpoint or result is written
            heartbeat.write(self._paths.heartbeat, Heartbeat(self.attempt, activity, usual_s))
