"""What the evidence of a run means."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from filelock import FileLock

from flowrl.files import write_json
from flowrl.parallel.evidence import (
    LAUNCH_GRACE_S,
    Evidence,
    RunState,
    Sighting,
    judge,
    look,
)  # fmt: skip
from flowrl.parallel.launchers.base import Handle, Phase
from flowrl.parallel.launchers.tmux import TmuxLauncher
from flowrl.parallel.processes import COOKIE, end_tree, retry_until, with_cookie
from flowrl.paths import RunPaths
from flowrl.records import ending
from flowrl.records.ending import Ending
from flowrl.records.process_id import ProcessId
from flowrl.records.result import Outcome, RunResult
from tests.parallel.fakes.experiments import PATIENCE_S

DONE = RunResult(1, Outcome.COMPLETED)
LONG_S = 24 * 3600.0


@pytest.mark.parametrize(
    ("evidence", "state"),
    [
        # A result is the last word, once nothing of the run lives.
        (Evidence(result=DONE, lock_held=False, process_alive=False), RunState.FINISHED),
        (Evidence(result=DONE), RunState.FINISHED),
        (Evidence(result=DONE, lock_held=True, process_alive=True), RunState.ENDING),
        (Evidence(result=DONE, lock_held=False, process_alive=True), RunState.ENDING),
        (Evidence(result=DONE, engine=Phase.RUNNING), RunState.FINISHED),
        # Then the lock: held means alive, even if tmux disagrees.
        (Evidence(lock_held=True, process_alive=True, engine=Phase.RUNNING), RunState.RUNNING),
        (Evidence(lock_held=True, process_alive=True, engine=Phase.UNKNOWN), RunState.RUNNING),
        (Evidence(lock_held=True, process_alive=False), RunState.ENDING),  # a child of it holds the lock
        (Evidence(lock_held=False, process_alive=False, engine=Phase.RUNNING), RunState.DEAD),
        (Evidence(lock_held=False, process_alive=True), RunState.ENDING),
        (Evidence(lock_held=False, process_alive=False, keeper_alive=True), RunState.ENDING),  # it has still to say how
        (Evidence(lock_held=False, process_alive=False, keeper_alive=False), RunState.DEAD),
        # What lives may have lost its session, or hang; what tmux does not say is no reason to end anything.
        (Evidence(lock_held=True, process_alive=True, engine=Phase.LOST), RunState.ORPHANED),
        (Evidence(process_alive=True, engine=Phase.LOST), RunState.ORPHANED),
        (Evidence(lock_held=True, process_alive=True, engine=Phase.EXITED), RunState.ORPHANED),
        (Evidence(lock_held=True, process_alive=True, engine=Phase.LOST, result=DONE), RunState.ENDING),
        (Evidence(lock_held=True, process_alive=True, stalled=True), RunState.STALLED),
        (Evidence(lock_held=True, process_alive=True, stalled=True, result=DONE), RunState.ENDING),
        (Evidence(process_alive=True, stalled=True, engine=Phase.RUNNING), RunState.STALLED),
        (Evidence(lock_held=False, process_alive=False, stalled=True), RunState.DEAD),
        # Before it has its lock, the process.
        (Evidence(process_alive=True, engine=Phase.UNKNOWN), RunState.STARTING),
        (Evidence(process_alive=False, engine=Phase.RUNNING), RunState.DEAD),
        # Without a process, the engine; and what nobody can look at, as on another host, is never dead while the engine
        # is silent.
        (Evidence(engine=Phase.QUEUED, since_launch_s=LONG_S), RunState.STARTING),
        (Evidence(engine=Phase.QUEUED, since_launch_s=LONG_S, stalled=True), RunState.STARTING),  # it has nothing to tell
        (Evidence(engine=Phase.RUNNING, since_launch_s=LONG_S, stalled=True), RunState.STALLED),
        (Evidence(engine=Phase.RUNNING, since_launch_s=LONG_S), RunState.STARTING),
        (Evidence(engine=Phase.LOST), RunState.DEAD),
        (Evidence(engine=Phase.LOST, cookie_alive=True), RunState.ORPHANED),
        (Evidence(engine=Phase.EXITED), RunState.DEAD),
        (Evidence(cookie_alive=True, since_launch_s=LONG_S), RunState.STARTING),
        (Evidence(cookie_alive=False), RunState.UNKNOWN),
        (Evidence(cookie_alive=False, since_launch_s=LAUNCH_GRACE_S + 1), RunState.DEAD),
        (Evidence(), RunState.UNKNOWN),
        (Evidence(since_launch_s=LONG_S), RunState.UNKNOWN),
    ],
)
def test_the_order_of_truth(evidence, state):
    assert judge(evidence) is state


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "training_runs" / "skill_0_A"
    folder.mkdir(parents=True)
    return RunPaths(folder)


def own_process():
    return ProcessId.of(os.getpid())


def write_pid(run, attempt, process):
    write_json(run.pid, {**process.to_record(), "attempt": attempt})


def looked(run, attempt=1, engine=Phase.UNKNOWN, process=None):
    """The evidence of an attempt whose processes are on this host, as the tmux launcher sees them."""
    handle = Handle("%1", "flowrl_e0_A", run.folder, attempt, process)
    return look(Sighting(run, handle, engine), TmuxLauncher().is_alive)


def test_a_result_of_another_attempt_does_not_count(run):
    write_json(run.result, {"outcome": "completed", "attempt": 1})
    assert looked(run, 1).result is not None
    assert looked(run, 2).result is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"attempt": 1}', '{"attempt": 1, "outcome": "?"}'])
def test_a_result_that_is_none_is_none(run, text):
    run.result.write_text(text)
    assert looked(run, 1).result is None


def test_the_lock_of_a_live_run_is_seen_held_and_then_free(run):
    write_pid(run, 1, own_process())
    with FileLock(run.lock):
        seen = looked(run, 1)
        assert (seen.lock_held, seen.process_alive, judge(seen)) == (True, True, RunState.RUNNING)
    assert looked(run, 1).lock_held is False


def test_the_lock_of_an_attempt_that_has_not_taken_it_is_not_touched(run):
    write_pid(run, 1, own_process())
    with FileLock(run.lock):
        assert looked(run, 2).lock_held is None


def test_a_pid_that_was_given_to_another_process_is_not_the_run(run):
    ours = own_process()
    write_pid(run, 1, ProcessId(ours.pid, "another"))
    assert looked(run, 1).process_alive is False


def test_how_a_training_ended_is_what_its_keeper_wrote_about_this_attempt(run):
    assert ending.find(run.exit, 2) is None
    write_json(run.exit, {"attempt": 2, "code": None, "signal": 9, "out_of_memory": True, "ended_at": "2026-01-01T00:00:00Z"})
    assert ending.find(run.exit, 1) is None
    assert str(ending.find(run.exit, 2)) == "was ended by the kernel: memory ran out (SIGKILL)"
    assert str(Ending(1, signal=15)) == "was ended by SIGTERM"
    assert str(Ending(1, code=3)) == "ended with exit code 3"
    run.exit.write_text("[")
    assert ending.find(run.exit, 2) is None


def test_neither_the_pid_nor_the_lock_of_another_host_is_looked_at(run):
    """A run on another host: its pid belongs to another process here, and a shared folder may not pass on its lock."""
    ours = own_process()
    write_json(run.pid, {**ours.to_record(), "host": "node17", "attempt": 1})
    with FileLock(run.lock):
        seen = look(Sighting(run, Handle("job-1", "flowrl_e0_A", run.folder, 1), Phase.RUNNING), lambda handle: None)
    assert (seen.lock_held, seen.process_alive, judge(seen)) == (None, None, RunState.STARTING)
    silent = look(Sighting(run, Handle("job-1", "flowrl_e0_A", run.folder, 1), Phase.UNKNOWN, LONG_S), lambda handle: None)
    assert judge(silent) is RunState.UNKNOWN
    write_json(run.pid, {**ours.to_record(), "host": socket.gethostname(), "attempt": 1})
    assert looked(run).process_alive is True


def test_a_zombie_is_dead():
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = ProcessId.of(child.pid)
    assert retry_until(lambda: not process.is_alive(), PATIENCE_S)
    child.wait()


def test_where_only_the_cookie_can_tell_it_is_asked(run):
    child = subprocess.Popen(["sleep", "300"], env={COOKIE: f"{run.folder}#1", "PATH": os.environ["PATH"]})
    try:
        assert retry_until(lambda: looked(run, 1).cookie_alive, PATIENCE_S)
        assert looked(run, 2).cookie_alive is False
        assert looked(run, 1, Phase.RUNNING).cookie_alive is None
    finally:
        child.kill()
        child.wait()


LEAVES_THE_TREE = """
import os, signal, subprocess, sys, time
subprocess.Popen(["sleep", "300"], start_new_session=True)
subprocess.Popen(["nohup", "sleep", "300"])
subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"])
orphan = "import subprocess; subprocess.Popen(['sleep', '300'], start_new_session=True)"
subprocess.run([sys.executable, "-c", orphan])
print("ready", flush=True)
time.sleep(300)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the environment of other processes is only readable on Linux")
def test_a_whole_tree_is_ended_with_what_has_left_it(run):
    cookie = f"{run.folder}#1"
    child = subprocess.Popen([sys.executable, "-c", LEAVES_THE_TREE], env=os.environ | {COOKIE: cookie}, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    assert retry_until(lambda: len(with_cookie(cookie)) == 5, PATIENCE_S)
    assert end_tree([ProcessId.of(child.pid)], cookie, grace_s=0.2)
    assert with_cookie(cookie) == []
    assert end_tree([ProcessId(child.pid, "another")], cookie, grace_s=0.2)  # safe to repeat
    child.wait()
