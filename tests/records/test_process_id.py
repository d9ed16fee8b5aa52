"""Which process is meant."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil
import pytest

from flowrl.records import process_id
from flowrl.records.process_id import ProcessId

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil has the start from another place")


@pytest.fixture
def child():
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()


def add_to_the_clock(monkeypatch, seconds):
    """As psutil sees it: the machine seems to have booted later by that much."""
    boot_s = psutil.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot_s + seconds)


@ON_LINUX
@pytest.mark.parametrize("seconds", [1, -1, 365 * 86400, -86400])
def test_a_step_of_the_clock_makes_no_other_process_of_it(child, monkeypatch, seconds):
    before = ProcessId.of(child.pid)
    recorded = json.loads(json.dumps(before.to_record()))
    add_to_the_clock(monkeypatch, seconds)
    assert before == ProcessId.of(child.pid) == ProcessId.from_record(recorded)
    assert before.is_alive() and ProcessId.from_record(recorded).is_alive()
    assert before.variable("PATH") == os.environ["PATH"]


@ON_LINUX
def test_a_start_time_that_the_kernel_gives_by_the_clock_does_not_change(child, monkeypatch):
    """As on macOS, where the kernel writes it down once; with psutil's figures of Linux, which are as steady."""
    monkeypatch.setattr(process_id, "_start_of", process_id._start_in_kernel)
    before = ProcessId.of(child.pid)
    add_to_the_clock(monkeypatch, 3600)
    assert before == ProcessId.of(child.pid) and before.is_alive()
    assert before != ProcessId.of(os.getpid())


def test_a_process_that_has_its_number_is_another_one(child):
    assert not ProcessId(child.pid, ProcessId.of(os.getpid()).started).is_alive()
    assert not ProcessId(child.pid, "").is_alive()


def test_a_process_of_another_start_of_the_machine_is_another_one(child, monkeypatch):
    monkeypatch.setattr(process_id, "_boot", lambda: "before")
    before = ProcessId.of(child.pid)
    monkeypatch.setattr(process_id, "_boot", lambda: "after")
    assert before.is_alive() is (sys.platform != "linux")


def test_a_process_that_has_ended_is_none(child):
    known = ProcessId.of(child.pid)
    child.kill()
    child.wait()
    assert ProcessId.of(child.pid) is None
    assert not known.is_alive() and known.variable("PATH") == ""


def test_a_record_of_an_earlier_version_names_the_same_process(child):
    created_s = psutil.Process(child.pid).create_time()
    assert ProcessId.from_record({"pid": child.pid, "create_time": created_s, "attempt": 1}).is_alive()
    assert not ProcessId.from_record({"pid": child.pid, "create_time": created_s - 100, "attempt": 1}).is_alive()


NO_RECORDS = [[], None, {}, {"pid": 1}, {"pid": "one", "create_time": 1.0}, {"pid": 1, "create_time": "x"}]


@pytest.mark.parametrize("record", NO_RECORDS)
def test_what_is_no_record_is_refused(record):
    with pytest.raises((KeyError, TypeError, ValueError)):
        ProcessId.from_record(record)


def test_a_process_that_has_just_been_started_shows_its_variables_a_moment_later(child, monkeypatch):
    shown = iter([{}, {}])
    environ = psutil.Process.environ
    monkeypatch.setattr(psutil.Process, "environ", lambda process: next(shown, None) or environ(process))
    assert ProcessId.of(child.pid).variable("PATH") == os.environ["PATH"]


def test_a_process_without_an_environment_has_no_variable():
    process = subprocess.Popen(["sleep", "300"], env={})
    try:
        assert ProcessId.of(process.pid).variable("PATH") == ""
    finally:
        process.kill()
        process.wait()
