"""What this process may use of its machine: cores and memory.

A container, or a job on a cluster, may have less memory than its machine has: its control group, and each group around
it, can set a limit (Linux, version 1 or 2). Every run's keeper imports this as it starts, so little is imported here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

ROOT = ""
"""Where ``/proc`` and ``/sys`` are found."""

# By the version of the control groups.
_LIMITS = {1: ("memory.limit_in_bytes",), 2: ("memory.max", "memory.high")}
_USED = {1: "memory.usage_in_bytes", 2: "memory.current"}
_RECLAIMABLE = {1: "total_inactive_file", 2: "inactive_file"}
_KILLS = {1: "memory.oom_control", 2: "memory.events"}


def usable_cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def processor() -> str:
    """The processor's model, with its instruction sets: programs compiled for one may crash on another."""
    known = sorted({line for line in _lines(f"{ROOT}/proc/cpuinfo") if line.startswith(("model name", "flags", "Features"))})
    return " ".join(known) or f"{os.uname().sysname} {os.uname().machine}"


def keep_to_cores(cores: Sequence[int]) -> None:
    """Runs this process on these cores, even if its parent was restricted to others.

    Changes nothing if the system has no such call, or allows none of these cores.
    """
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cores)  # the kernel leaves out those that the control group forbids


def total_memory() -> int:
    """The most memory in bytes that this process, together with all that share its limits, can have."""
    import psutil

    return min([psutil.virtual_memory().total, *(limit for _, _, limit in _limited_groups())])


def free_memory() -> int:
    """Bytes of memory that are still free: on the machine, or in the control group that has the least left."""
    import psutil

    left = (limit - _in_use(folder, version) for folder, version, limit in _limited_groups())
    return max(0, min([psutil.virtual_memory().available, *left]))


def oom_kills() -> int:
    """How many processes the kernel has killed because memory ran out, in our control group or else on this machine."""
    counters = [f"{folder}/{_KILLS[version]}" for folder, version in _memory_groups()]
    for path in (*counters, f"{ROOT}/proc/vmstat"):
        if (count := _entry(path, "oom_kill")) is not None:
            return count
    return 0


def _limited_groups() -> list[tuple[str, int, int]]:
    """The control groups with a limit on our memory: folder, version, and the limit in bytes."""
    found = []
    for folder, version in _memory_groups():
        limits = (_number(f"{folder}/{name}") for name in _LIMITS[version])  # "max" is not a number: there is no limit
        found += [(folder, version, limit) for limit in limits if limit is not None]
    return found


def _in_use(folder: str, version: int) -> int:
    """Bytes that a group uses, without cached files that are dropped as soon as memory is short."""
    used = _number(f"{folder}/{_USED[version]}") or 0
    return used - (_entry(f"{folder}/memory.stat", _RECLAIMABLE[version]) or 0)


def _memory_groups() -> list[tuple[str, int]]:
    """The folders of our control group and of all groups around it, the innermost first, each with its version.

    Some of them may not exist: a container sees its own group as the outermost folder, but may still see the path that
    the machine has for it.
    """
    found = []
    for line in _lines(f"{ROOT}/proc/self/cgroup"):
        _, controllers, place = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version, folder = (1, f"{ROOT}/sys/fs/cgroup/memory") if controllers else (2, f"{ROOT}/sys/fs/cgroup")
        parts = [part for part in place.split("/") if part not in ("", "..")]
        found += [("/".join([folder, *parts[:depth]]), version) for depth in range(len(parts), -1, -1)]
    return found


def _number(path: str) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _entry(path: str, name: str) -> int | None:
    """The number beside ``name`` in a file with a name and a number on each line."""
    for line in _lines(path):
        found, _, number = line.partition(" ")
        if found == name and number.strip().isdigit():
            return int(number)
    return None


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().splitlines()
    except OSError:
        return []
