"""The identity of a process: its pid, and a mark of its start that does not change when the clock is set.

The pid alone is not enough, because pids are reused. Nor is a start time that is derived from the clock, as psutil's
``create_time`` is on Linux: after one second of correction, every process would seem to be another one.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

COOKIE = "FLOWRL_RUN"
"""Environment variable that all processes of an attempt carry: the run's folder, ``#``, the attempt."""

_BY_THE_CLOCK = "by the clock "
"""Prefix of the mark when an earlier version wrote the record, which stored ``create_time`` alone."""
_CLOCK_SLACK_S = 0.5
_STARTING_S = 0.2
"""How long a process may seem to have no environment: between its ``exec`` and the end of the kernel's work for it."""
_START_IN_STAT = 19
"""Index of the start among the fields of ``/proc/PID/stat`` that follow the command's name."""


@dataclass(frozen=True)
class ProcessId:
    """Identifies one process.

    Attributes:
        started: On Linux, the id of the boot and the kernel's clock ticks from it to the start of the process. On macOS, the
            start time that the kernel has recorded and does not change. Empty for a process that has ended.
    """

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process that has this pid now, or None."""
        started = _start_of(pid)
        return None if started is None else cls(pid, started)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ProcessId:
        """The process of a ``run.pid``, which an earlier version may have written with the start time alone.

        Raises:
            KeyError, TypeError, ValueError: it is not such a record.
        """
        pid = int(record["pid"])
        return cls(pid, str(record.get("started") or f"{_BY_THE_CLOCK}{float(record['create_time'])}"))

    def to_record(self) -> dict[str, Any]:
        """The fields of ``run.pid``. ``create_time``, in seconds since the epoch, is for people and for earlier versions."""
        return {"pid": self.pid, "create_time": psutil.Process(self.pid).create_time(), "started": self.started}

    def living(self) -> psutil.Process | None:
        """The process, if it is running; a zombie is not."""
        try:
            process = psutil.Process(self.pid)
            return process if self._is_now(process) and runs(process) else None
        except psutil.Error:
            return None

    def is_alive(self) -> bool:
        """Whether it is running; a zombie is not."""
        return self.living() is not None

    def variable(self, name: str) -> str:
        """A variable of the environment that it was started with; empty if it is not set, or may not be read."""
        try:
            process = self.living()
            return _environment_of(process).get(name, "") if process else ""
        except (psutil.Error, OSError):
            return ""

    def _is_now(self, process: psutil.Process) -> bool:
        if self.started.startswith(_BY_THE_CLOCK):
            return abs(process.create_time() - float(self.started.removeprefix(_BY_THE_CLOCK))) <= _CLOCK_SLACK_S
        return self.started == _start_of(self.pid)


def runs(process: psutil.Process) -> bool:
    """Whether it is still the same process, and not a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _environment_of(process: psutil.Process) -> dict[str, str]:
    """Its variables; of a process that has just been started, the kernel gives none for a moment."""
    until_s = time.monotonic() + _STARTING_S
    while not (variables := process.environ()) and time.monotonic() < until_s:
        time.sleep(0.005)
    return variables


def _start_of(pid: int) -> str | None:
    """The mark of the process that has this pid now, or None."""
    return _ticks_from_boot(pid) if sys.platform == "linux" else _start_in_kernel(pid)


def _ticks_from_boot(pid: int) -> str | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return f"{_boot()} {int(fields[_START_IN_STAT])}"
    except (OSError, IndexError):  # it has ended
        return None


def _start_in_kernel(pid: int) -> str | None:
    # psutil's public ``create_time`` adjusts this when the clock is set after psutil was imported.
    try:
        start = psutil.Process(pid)._ident[1]
    except psutil.Error:
        return None
    return None if start is None else repr(start)


@functools.cache
def _boot() -> str:
    """The id of this boot: clock ticks and pids start again with each boot."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
