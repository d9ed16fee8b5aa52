"""A run of an engine on other hosts: nothing of it can be seen from here but its files, and what the engine says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from flowrl.files import write_json
from flowrl.parallel import heartbeats, watched_run
from flowrl.parallel.events import RunDied, RunEnded, RunStopped
from flowrl.parallel.launchers.base import EngineStatus, Fault, Handle, Phase
from flowrl.parallel.watched_run import WatchedRun
from flowrl.paths import RunPaths
from flowrl.records import ending, run_record
from flowrl.records.ending import Ending
from flowrl.records.run_record import Launch, Slot
from tests.parallel.fakes.launcher import MemoryLauncher
from tests.records.builders import RECORD

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


@pytest.mark.parametrize(("outcome", "shown_s"), [("failed", 99.0), ("completed", 0.0), ("cancelled", 0.0)])
def test_only_the_session_of_a_run_that_failed_stays_to_be_looked_at(run, clock, outcome, shown_s):
    launcher, asked = MemoryLauncher(), []
    launcher.cancel = lambda handle, grace_s, show_s=0.0: asked.append(show_s) or True
    with ThreadPoolExecutor() as executor:
        handle = Handle("fake-job", "flowrl_e0_A", run.folder, 1)
        watched = WatchedRun("A", run, handle, launcher, executor, show_failed_s=99.0)
        write_json(run.result, {"outcome": outcome, "attempt": 1, "frames": 7, "error": "why"})
        watched.hear(EngineStatus(Phase.LOST))
        assert watched.look().outcome == outcome
    assert asked == [shown_s]


# How an engine ends a run.


def launched(run, attempt=1, frames=0):
    run.policies.mkdir(exist_ok=True)
    run_record.write(run.run_json, RECORD.for_attempt(Launch(attempt, frames), Slot(), None))


def ended(watched, launcher, **status):
    """Watches a run that its engine has ended like this."""
    told = EngineStatus(Phase.EXITED, **status)
    launcher.poll = lambda handles: {handle.engine_id: told for handle in handles}
    watched.hear(told)
    return watched.look()


def test_a_run_that_gave_way_to_the_engine_goes_on_and_spends_no_retry(run, watched):
    launched(run)
    run.checkpoint(640).touch()
    assert isinstance(ended(watched, watched._launcher, fault=Fault.ENGINE), RunStopped)


def test_one_that_was_asked_to_stop_because_its_time_was_nearly_over_does_too(run, watched):
    launched(run)
    run.checkpoint(640).touch()
    ending.write(run.exit, Ending(1, 143, asked_to_stop=True))
    assert isinstance(ended(watched, watched._launcher), RunStopped)


def test_a_time_too_short_for_any_progress_is_a_death_and_not_an_endless_loop(run, watched):
    run.policies.mkdir()
    run.checkpoint(640).touch()
    launched(run, frames=640)
    found = ended(watched, watched._launcher, fault=Fault.ENGINE, reason="its time was over (--slurm_time)")
    assert isinstance(found, RunDied)
    assert "its time was over (--slurm_time)" in found.error


def test_memory_that_the_engine_says_ran_out_means_fewer_environments_next_time(run, watched):
    launched(run)
    found = ended(watched, watched._launcher, fault=Fault.MEMORY, reason="it used more memory than it was given")
    assert isinstance(found, RunDied)
    assert found.too_many_envs == RECORD.settings.num_envs


def test_a_run_that_can_never_start_has_failed_for_good(run, watched):
    launched(run)
    answers = iter((False, True))  # the engine is silent when it is first told to forget the job
    watched._launcher.cancel = lambda handle, grace_s, show_s=0.0: next(answers)
    told = {"fault": Fault.HOPELESS, "reason": "job 7 waited for 99 s (QOSMaxJobsPerUserLimit)"}
    found = [ended(watched, watched._launcher, **told)]
    for _ in range(2):
        watched._end.exception()
        found.append(watched.look())
    assert found[:2] == [None, None]  # it might still begin
    assert (type(found[2]), found[2].outcome, found[2].hopeless) == (RunEnded, "failed", True)
    assert "QOSMaxJobsPerUserLimit" in found[2].error


def test_a_result_from_elsewhere_counts_once_the_keeper_has_recorded_the_end(run, watched):
    watched.hear(EngineStatus(Phase.RUNNING))
    write_json(run.result, {"outcome": "completed", "attempt": 1, "frames": 7})
    assert watched.look() is None
    ending.write(run.exit, Ending(1, 0))
    assert isinstance(watched.look(), RunEnded)


def test_a_death_elsewhere_is_known_from_its_keeper_before_the_engine_says_so(run, watched):
    watched.hear(EngineStatus(Phase.RUNNING))
    assert watched.look() is None
    ending.write(run.exit, Ending(1, 3))
    assert "ended with exit code 3" in watched.look().error


def test_a_run_that_was_killed_elsewhere_may_have_given_way_so_the_engine_has_a_moment_to_say_so(run, watched):
    launched(run)
    run.checkpoint(640).touch()
    watched.hear(EngineStatus(Phase.RUNNING))
    ending.write(run.exit, Ending(1, None, 15))
    assert watched.look() is None
    assert isinstance(ended(watched, watched._launcher, fault=Fault.ENGINE), RunStopped)


def test_a_run_that_was_killed_elsewhere_is_dead_if_the_engine_says_nothing(run, watched, clock):
    watched.hear(EngineStatus(Phase.RUNNING))
    ending.write(run.exit, Ending(1, None, 9))
    assert watched.look() is None
    clock.now_s += watched_run.ENDING_GRACE_S + 1
    assert "was ended by SIGKILL" in watched.look().error
