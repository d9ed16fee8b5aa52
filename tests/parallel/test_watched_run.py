"""A run of an engine on other hosts: nothing of it can be seen from here but its files, and what the engine says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from flowrl.files import write_json
from flowrl.parallel import heartbeats, watched_run
from flowrl.parallel.events import RunDied, RunEnded
from flowrl.parallel.launchers.base import EngineStatus, Handle, Phase
from flowrl.parallel.watched_run import WatchedRun
from flowrl.paths import RunPaths
from tests.parallel.fakes.launcher import MemoryLauncher

HOURS_S = 6 * 3600.0


class Clock:
    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    """Of the watching and of the pulse; a pause between two looks counts in full, so that one step is hours."""
    clock = Clock()
    monkeypatch.setattr(watched_run, "time", clock)
    monkeypatch.setattr(heartbeats.Pulse.__init__, "__defaults__", (clock.monotonic,))
    monkeypatch.setattr(heartbeats.Pulse, "LONGEST_STEP_S", HOURS_S)
    return clock


@pytest.fixture
def run(tmp_path) -> RunPaths:
    folder = tmp_path / "training_runs" / "skill_0_A"
    folder.mkdir(parents=True)
    return RunPaths(folder)


@pytest.fixture
def watched(run, clock):
    with ThreadPoolExecutor() as executor:
        yield WatchedRun("A", run, Handle("fake-job", "flowrl_e0_A", run.folder, 1), MemoryLauncher(), executor)


def later(watched, clock, phase: Phase):
    clock.now_s += HOURS_S
    watched.hear(EngineStatus(phase))
    return watched.look()


def test_a_run_that_waits_in_a_queue_for_hours_is_neither_dead_nor_hanging(watched, clock):
    assert [later(watched, clock, Phase.QUEUED) for _ in range(5)] == [None] * 5
    watched.hear(EngineStatus(Phase.RUNNING))
    assert watched.look() is None  # the hours in the queue were no silence
    assert watched._end is None


def test_a_run_that_hangs_once_it_runs_is_ended(watched, clock):
    later(watched, clock, Phase.QUEUED)
    later(watched, clock, Phase.RUNNING)
    assert watched._end.result()
    found = watched.look()
    assert isinstance(found, RunDied)
    assert "its heartbeat has not changed for 21600 s (see --stall_timeout)" in found.error


def test_a_run_is_not_given_up_while_the_engine_does_not_answer(watched, clock):
    assert [later(watched, clock, Phase.UNKNOWN) for _ in range(5)] == [None] * 5
    assert watched._end is None


def test_its_result_counts_and_an_engine_that_knows_nothing_of_it_means_its_death(watched, run, clock):
    assert isinstance(later(watched, clock, Phase.LOST), RunDied)
    write_json(run.result, {"outcome": "completed", "attempt": 1, "frames": 7})
    found = watched.look()
    assert isinstance(found, RunEnded)
    assert found.frames == 7
