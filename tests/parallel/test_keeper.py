"""The keeper: a training's parent, which tells how it ended and leaves nothing of it behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from flowrl import machine
from flowrl.files import write_json
from flowrl.parallel import keeper
from flowrl.parallel.evidence import Evidence, RunState, Sighting, judge, look
from flowrl.parallel.launchers.base import Handle
from flowrl.parallel.launchers.tmux import TmuxLauncher
from flowrl.parallel.processes import COOKIE, with_cookie
from flowrl.paths import RunPaths
from flowrl.records import ending
from flowrl.records.ending import Ending
from flowrl.records.process_id import ProcessId
from tests.parallel.fakes.experiments import PATIENCE_S


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "training_runs" / "skill_0_A"
    folder.mkdir(parents=True)
    return RunPaths(folder)


def command(run, *training, attempt=1):
    return [sys.executable, "-m", "flowrl.parallel.keeper", str(run.folder), str(attempt), "--", *map(str, training)]


def start(run, *training, **kwargs):
    environment = os.environ | {COOKIE: f"{run.folder}#1"}
    return subprocess.Popen(command(run, *training), env=environment, start_new_session=True, **kwargs)


@pytest.mark.parametrize(
    ("script", "shown_code", "expected"),
    [
        ("exit 0", 0, Ending(1, 0, None, False)),
        ("exit 7", 7, Ending(1, 7, None, False)),
        ("kill -9 $$", 137, Ending(1, None, 9, False)),
        ("kill -SEGV $$", 139, Ending(1, None, 11, False)),
    ],
)
def test_it_writes_down_how_the_training_ended_and_ends_alike(run, script, shown_code, expected):
    assert start(run, "sh", "-c", script).wait(PATIENCE_S) == shown_code
    assert ending.find(run.exit, 1) == expected
    assert ending.find(run.exit, 2) is None
    ended_at = datetime.fromisoformat(json.loads(run.exit.read_text())["ended_at"])
    assert timedelta() <= datetime.now(UTC) - ended_at < timedelta(hours=1)


def test_a_command_that_does_not_exist_is_said(run):
    process = start(run, "no-such-command-of-flowrl", stderr=subprocess.PIPE, text=True)
    assert "no-such-command-of-flowrl could not be started: No such file" in process.communicate(timeout=PATIENCE_S)[1]
    assert (process.returncode, ending.find(run.exit, 1)) == (127, Ending(1, 127, None, False))


@pytest.mark.parametrize(
    "arguments", [[], ["folder", "1", "--"], ["folder", "one", "--", "true"], ["folder", "1", "true", "x"]]
)
def test_a_wrong_command_line_is_refused(arguments, capfd):
    assert keeper.main(arguments) == 2
    assert "expected python -m flowrl.parallel.keeper RUN_FOLDER ATTEMPT -- COMMAND" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to another parent than init")
def test_it_ends_what_the_training_leaves_behind_even_without_its_mark(run):
    marks = run.folder / "pids"
    orphan = f"env -u {COOKIE} setsid sleep 300 & echo $! >> {marks}; trap '' TERM; sleep 300 & echo $! >> {marks}"
    assert start(run, "bash", "-c", f"({orphan}); exit 3").wait(PATIENCE_S) == 3
    left = [ProcessId.of(int(pid)) for pid in marks.read_text().split()]
    assert len(left) == 2 and not [process for process in left if process and process.is_alive()]
    assert with_cookie(f"{run.folder}#1") == []


TERMINATED = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(43))
print("ready", flush=True)
time.sleep(300)
"""


def test_a_request_to_stop_reaches_the_training(run):
    process = start(run, sys.executable, "-c", TERMINATED, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert process.wait(PATIENCE_S) == 43
    assert ending.find(run.exit, 1) == Ending(1, 43, None, False)


TERMINAL = """
import os, signal, sys, time
try:
    print("interrupts:", signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)
    print("ready", flush=True)
    time.sleep(300)
except KeyboardInterrupt:
    os._exit(44)
"""


def in_a_terminal(arguments):
    """Starts a process that leads the session of a new terminal; returns it and our end of the terminal."""
    pid, ours = pty.fork()
    if pid == 0:
        os.execvp(arguments[0], arguments)
    return pid, ours


def read_until(descriptor, text):
    shown = b""
    while text not in shown:
        shown += os.read(descriptor, 4096)
    return shown


def test_ctrl_c_in_the_terminal_interrupts_the_training_alone(run):
    pid, ours = in_a_terminal(command(run, sys.executable, "-c", TERMINAL))
    try:
        assert b"interrupts: True" in read_until(ours, b"ready")
        os.write(ours, b"\x03")
        with suppress(OSError):
            while os.read(ours, 4096):
                pass
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 44
        assert ending.find(run.exit, 1) == Ending(1, 44, None, False)
    finally:
        os.close(ours)


OUTLIVES = """
import sys, time, pathlib
go = pathlib.Path(sys.argv[1])
print("ready", flush=True)
while not go.exists():
    time.sleep(0.02)
sys.exit(5)
"""


def test_a_terminal_that_dies_ends_neither_the_keeper_nor_a_training_that_says_nothing_of_it(run, tmp_path):
    pid, ours = in_a_terminal(command(run, sys.executable, "-c", OUTLIVES, tmp_path / "go"))
    read_until(ours, b"ready\r\n")
    os.close(ours)
    (tmp_path / "go").touch()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert ending.find(run.exit, 1) == Ending(1, 5, None, False)


def counters(root, kind, count):
    """What the kernel shows of its killing, in a folder of our own."""
    files = {
        "cgroup 2": {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.events": f"oom 7\noom_kill {count}\n"},
        "cgroup 1": {
            "proc/self/cgroup": "3:cpu:/\n4:memory:/a\n0::/\n",
            "sys/fs/cgroup/memory/a/memory.oom_control": f"under_oom 0\noom_kill {count}\n",
        },
        "machine": {"proc/self/cgroup": "0::/\n", "proc/vmstat": f"pgfault 9\noom_kill {count}\n"},
        "unknown": {},
    }[kind]
    for name, text in ({"proc/vmstat": "oom_kill 99\n"} | files).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root / list(files)[-1]


def keep_with(root, arguments, codes):
    machine.ROOT = str(root)
    codes.put(keeper.main(arguments))


@pytest.mark.parametrize("kind", ["cgroup 2", "cgroup 1", "machine"])
@pytest.mark.parametrize(
    ("blow", "rises", "out_of_memory"), [("KILL", True, True), ("KILL", False, False), ("TERM", True, False)]
)
def test_a_kill_while_the_kernel_was_killing_is_want_of_memory(run, tmp_path, kind, blow, rises, out_of_memory):
    counter = counters(tmp_path, kind, 3)
    script = f"sed -i 's/oom_kill 3/oom_kill {4 if rises else 3}/' {counter}; kill -{blow} $$"
    arguments = [str(run.folder), "1", "--", "sh", "-c", script]
    context = multiprocessing.get_context("fork")
    codes = context.SimpleQueue()
    process = context.Process(target=keep_with, args=(tmp_path, arguments, codes))
    process.start()
    process.join(PATIENCE_S)
    number = signal.Signals[f"SIG{blow}"]
    assert codes.get() == 128 + number
    assert ending.find(run.exit, 1) == Ending(1, None, number, out_of_memory)


def test_where_the_kernel_counts_nothing_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "ROOT", str(tmp_path))
    assert machine.oom_kills() == 0


def test_a_folder_that_cannot_be_written_costs_the_record_and_not_the_code(run):
    run.folder.rmdir()
    run.folder.write_text("")
    process = start(run, "sh", "-c", "exit 6", stderr=subprocess.PIPE, text=True)
    assert "the end of this run could not be recorded" in process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 6


@pytest.mark.parametrize("text", ["", "[]", "null", "{}"])
def test_a_record_that_is_none_is_none(run, text):
    run.exit.write_text(text)
    assert ending.find(run.exit, 1) is None


def test_a_run_whose_keeper_still_clears_up_is_ending(run):
    done = {"outcome": "completed", "attempt": 1}
    for lock_held in (False, None):
        assert judge(Evidence(lock_held=lock_held, process_alive=False, keeper_alive=True)) is RunState.ENDING
        assert judge(Evidence(lock_held=lock_held, process_alive=False, keeper_alive=False)) is RunState.DEAD
    assert judge(Evidence(result=done, lock_held=False, process_alive=False, keeper_alive=True)) is RunState.ENDING
    assert judge(Evidence(result=done, lock_held=False, process_alive=False, keeper_alive=False)) is RunState.FINISHED


def test_the_keeper_is_not_taken_for_the_training(run):
    ended = subprocess.Popen(["true"])
    write_json(run.pid, {**ProcessId.of(ended.pid).to_record(), "attempt": 1})
    ended.wait()
    living = subprocess.Popen(["sleep", "300"])
    try:
        seen = look(Sighting(run, Handle("%1", "", run.folder, 1, ProcessId.of(living.pid))), TmuxLauncher().is_alive)
        assert (seen.process_alive, seen.keeper_alive) == (False, True)
    finally:
        living.kill()
        living.wait()
    other = Sighting(run, Handle("%1", "", run.folder, 1, ProcessId(living.pid, "another")))
    assert look(other, TmuxLauncher().is_alive).keeper_alive is False


def test_a_process_without_a_mark_is_nobodys():
    assert with_cookie("") == []


# A cluster.


def test_an_engine_that_asks_it_to_stop_is_recorded_beside_how_the_training_ended(run):
    obeys = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); "
        "print('ready', flush=True); signal.pause()"
    )
    process = start(run, sys.executable, "-c", obeys, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGUSR1)
    assert process.wait(PATIENCE_S) == 143
    assert ending.find(run.exit, 1) == Ending(1, 143, asked_to_stop=True)


def test_the_keeper_of_an_older_attempt_leaves_the_record_of_the_newer_one_alone(run):
    write_json(run.run_json, {"attempt": 2})
    ending.write(run.exit, Ending(2, 0))
    assert start(run, "sh", "-c", "exit 7").wait(PATIENCE_S) == 7
    assert ending.find(run.exit, 2) == Ending(2, 0)


def test_the_folder_of_a_run_that_was_merged_meanwhile_stays_gone(run):
    assert start(run, "rm", "-r", run.folder).wait(PATIENCE_S) == 0
    assert not run.folder.exists()
