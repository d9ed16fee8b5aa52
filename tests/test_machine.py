"""What a process may use of its machine, also in a container."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from flowrl import machine

GIB = 2**30
UNLIMITED = 9223372036854771712  # version 1 has no word for it


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Has the kernel show these files, on a machine of 64 GiB with 48 GiB free."""
    monkeypatch.setattr(machine, "ROOT", str(tmp_path))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * GIB, available=48 * GIB))

    def shows(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return shows


def group_1(place, limit, used, inactive_file=0):
    folder = f"sys/fs/cgroup/memory{place}"
    return {
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": f"{used}\n",
        f"{folder}/memory.stat": f"cache 7\ninactive_file 5\ntotal_inactive_file {inactive_file}\n",
    }


def group_2(place, limit, used, inactive_file=0, high="max"):
    folder = f"sys/fs/cgroup{place}"
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.high": f"{high}\n",
        f"{folder}/memory.current": f"{used}\n",
        f"{folder}/memory.stat": f"anon 7\ninactive_file {inactive_file}\n",
    }


V1 = "5:cpu,cpuacct:/elsewhere\n4:memory:{}\n0::/\n"
V2 = "0::{}\n"

GROUPS = {
    "no groups": ({}, 64, 48),
    "version 1, no limit": ({"proc/self/cgroup": V1.format("/a")} | group_1("/a", UNLIMITED, 9 * GIB), 64, 48),
    "version 1": ({"proc/self/cgroup": V1.format("/a")} | group_1("/a", 8 * GIB, 5 * GIB), 8, 3),
    "version 1, files it has read": ({"proc/self/cgroup": V1.format("/a")} | group_1("/a", 8 * GIB, 5 * GIB, 2 * GIB), 8, 5),
    "version 1, its place as the machine names it": (
        {"proc/self/cgroup": V1.format("/docker/0af3")} | group_1("", 8 * GIB, GIB), 8, 7,
    ),
    "version 2, no limit": ({"proc/self/cgroup": V2.format("/a/b")} | group_2("/a/b", "max", GIB), 64, 48),
    "version 2": ({"proc/self/cgroup": V2.format("/a/b")} | group_2("/a/b", 8 * GIB, 5 * GIB, GIB), 8, 4),
    "version 2, a container's own view": ({"proc/self/cgroup": V2.format("/")} | group_2("", 8 * GIB, 5 * GIB), 8, 3),
    "version 2, throttled before its limit": (
        {"proc/self/cgroup": V2.format("/a")} | group_2("/a", 8 * GIB, GIB, high=2 * GIB), 2, 1,
    ),
    "version 2, seen from outside": ({"proc/self/cgroup": V2.format("/../a")} | group_2("/a", 8 * GIB, GIB), 8, 7),
    "version 2, the group around it": (
        {"proc/self/cgroup": V2.format("/a/b")} | group_2("/a/b", 8 * GIB, GIB) | group_2("/a", 16 * GIB, 14 * GIB),
        8, 2,
    ),
    "a limit above what the machine has free": ({"proc/self/cgroup": V2.format("/a")} | group_2("/a", 60 * GIB, GIB), 60, 48),
    "a group over its limit": ({"proc/self/cgroup": V2.format("/a")} | group_2("/a", 8 * GIB, 9 * GIB), 8, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", GROUPS)
def test_memory_is_the_smaller_of_the_machines_and_every_control_groups(kernel, name):
    files, total, free = GROUPS[name]
    kernel(files)
    assert (machine.total_memory(), machine.free_memory()) == (total * GIB, free * GIB)


def test_this_machine_can_be_asked():
    assert 0 < machine.free_memory() <= machine.total_memory() <= psutil.virtual_memory().total


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no core affinity")
def test_a_process_that_was_started_on_one_core_can_be_kept_to_another():
    first, last = min(machine.usable_cores()), max(machine.usable_cores())
    code = f"from flowrl import machine; machine.keep_to_cores([{last}]); print(machine.usable_cores())"
    command = ["taskset", "-c", str(first), sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"[{last}]\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no core affinity")
def test_cores_that_there_are_none_of_change_nothing():
    before = machine.usable_cores()
    machine.keep_to_cores([max(before) + 1000])
    machine.keep_to_cores([])
    assert machine.usable_cores() == before
