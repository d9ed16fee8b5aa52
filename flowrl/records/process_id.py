"""Which process is meant: its number, and a mark of its start that no setting of the clock changes.

A number alone names nothing, for numbers are reused. The time of the start does not do either where it is derived from the
clock, as psutil's ``create_time`` is on Linux: one second of correction, and every process seems to be another one.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_BY_THE_CLOCK = "by the clock "
"""How the mark begins of a process whose record an earlier version wrote, with its ``create_time`` alone."""
_CLOCK_SLACK_S = 0.5
_START_IN_STAT = 19
"""Place of the start among the fields of ``/proc/PID/stat``, counted from the one after the command's name."""


@dataclass(frozen=True)
class ProcessId:
    """A process beyond doubt.

    Attributes:
        started: On Linux, the kernel's clock ticks from its boot to the start of the process, and which boot that was. On
            macOS, the time of the start that the kernel has written down, and leaves as it is. Empty for one that has ended.
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
        """The process of a ``run.pid``, also of one that an earlier version wrote, which knew it by the clock alone.

        Raises:
            KeyError, TypeError, ValueError: it is no such record.
        """
        pid = int(record["pid"])
        return cls(pid, str(record.get("started") or f"{_BY_THE_CLOCK}{float(record['create_time'])}"))

    def to_record(self) -> dict[str, Any]:
        """As ``run.pid`` has it. ``create_time``, in seconds since the epoch, is for people and for earlier versions."""
        return {"pid": self.pid, "create_time": psutil.Process(self.pid).create_time(), "started": self.started}

    def living(self) -> psutil.Process | None:
        """The process, if it runs; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            return process if self._is_now(process) and runs(process) else None
        except psutil.Error:
            return None

    def is_alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        return self.living() is not None

    def variable(self, name: str) -> str:
        """A variable of the environment that it was started with; empty where there is none, or we may not look."""
        try:
            process = self.living()
            return process.environ().get(name, "") if process else ""
        except (psutil.Error, OSError):
            return ""

    def _is_now(self, process: psutil.Process) -> bool:
        if self.started.startswith(_BY_THE_CLOCK):
            return abs(process.create_time() - float(self.started.removeprefix(_BY_THE_CLOCK))) <= _CLOCK_SLACK_S
        return self.started == _start_of(self.pid)


def runs(process: psutil.Process) -> bool:
    """Whether it is still the same process, and no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


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
    # psutil's public ``create_time`` corrects this for what the clock was set by since psutil was imported.
    try:
        start = psutil.Process(pid)._ident[1]
    except psutil.Error:
        return None
    return None if start is None else repr(start)


@functools.cache
def _boot() -> str:
    """Which start of the machine this is: ticks and process numbers begin anew with each."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
