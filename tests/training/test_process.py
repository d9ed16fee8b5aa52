"""The training process and its surroundings, without the training."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import psutil
import pytest
from filelock import FileLock

from flowrl.errors import FolderInUse
from flowrl.files import write_json
from flowrl.paths import RunPaths
from flowrl.records import liveness
from flowrl.records.heartbeat import Activity
from flowrl.records.process_id import COOKIE, ProcessId
from flowrl.records.result import NO_PROGRESS, Outcome, RunResult
from flowrl.records.run_record import Slot
from flowrl.training import __main__ as command
from flowrl.training.host import process
from flowrl.training.run import specification
from tests.records.builders import write_record


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "skill_3_Collect_Wood"
    folder.mkdir()
    write_record(RunPaths(folder))
    return RunPaths(folder)


@pytest.fixture(autouse=True)
def signals_as_before():
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def in_a_child(run, code):
    """Runs ``code`` after `prepare`, in its own process; returns its output."""
    imports = (
        "import os\nfrom pathlib import Path\nfrom flowrl.paths import RunPaths\nfrom flowrl.training.host import process\n"
    )
    program = f"{imports}process.prepare(RunPaths(Path({str(run.folder)!r})))\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_secrets_come_in_a_private_file_that_does_not_stay(run):
    write_json(run.environment, {"WANDB_API_KEY": "k", "NUMBER": 3})
    assert in_a_child(run, "print(os.environ['WANDB_API_KEY'], os.environ['NUMBER'])") == "k 3"
    assert not run.environment.exists()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no core affinity")
def test_a_run_keeps_to_the_cores_of_its_slot(run):
    allowed = max(os.sched_getaffinity(0))
    write_record(run, slot=Slot(cores=(allowed,)))
    assert in_a_child(run, "print(os.sched_getaffinity(0))") == f"{{{allowed}}}"


def test_a_gpu_slot_sees_its_own_device_and_share_of_memory(run):
    write_record(run, slot=Slot(gpu="1", memory_fraction=0.45))
    names = "CUDA_VISIBLE_DEVICES XLA_PYTHON_CLIENT_MEM_FRACTION"
    assert in_a_child(run, f"print(*[os.environ[name] for name in {names.split()}])") == "1 0.45"


def test_compiled_programs_are_stored_in_the_folder_asked_for(run, monkeypatch, tmp_path):
    monkeypatch.setenv("FLOWRL_CACHE_DIR", str(tmp_path / "cache"))
    folder = Path(in_a_child(run, "print(os.environ['JAX_COMPILATION_CACHE_DIR'])"))
    assert folder.parent == tmp_path / "cache" / "jax"
    assert folder.name.startswith("1-cores-")  # those of the run's slot


def test_while_a_run_lives_its_lock_is_held_and_its_process_is_on_record(run):
    with process.Lifetime(run, attempt=2):
        record = json.loads(run.pid.read_text())
        me = ProcessId.of(os.getpid())
        mine = {"pid": me.pid, "create_time": psutil.Process().create_time(), "started": me.started}
        assert record == {**mine, "host": socket.gethostname(), "attempt": 2}
        assert run.heartbeat.exists()
        with pytest.raises(FolderInUse, match="trained by another live process"):
            process.Lifetime(run, attempt=3).__enter__()
    with process.Lifetime(run, attempt=3):
        assert json.loads(run.pid.read_text())["attempt"] == 3


def test_a_termination_is_a_wish_and_a_hangup_is_nothing(run):
    with process.Lifetime(run, attempt=2) as lifetime:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not lifetime.asked_to_stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert lifetime.asked_to_stop


def test_ctrl_c_reaches_a_run_that_was_started_with_interrupts_ignored(run):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with process.Lifetime(run, attempt=2), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("arguments", [[], ["nowhere"], ["/tmp/skill_0_Nothing_Here"], ["a", "b"]])
def test_what_is_not_a_prepared_run_is_one_line_and_exit_code_2(arguments, capsys):
    assert command.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1


def raising(error):
    def fail(*args):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "outcome", "code"), [(KeyboardInterrupt(), "cancelled", 130), (ValueError("no\nluck"), "failed", 1)]
)
def test_the_outcome_is_recorded_whatever_happens_in_training(run, monkeypatch, capsys, error, outcome, code):
    monkeypatch.setattr(process, "prepare", lambda paths: None)
    monkeypatch.setattr(specification, "read", lambda folder: Run(run))
    monkeypatch.setattr(command, "TRAINING", dataclasses.replace(command.TRAINING, train=raising(error)))
    assert command.main([str(run.folder)]) == code
    result = json.loads(run.result.read_text())
    assert (result["outcome"], result["attempt"]) == (outcome, 2)
    if outcome == "failed":
        assert result["error"].startswith("ValueError: no luck (test_process.py:")
        assert "Traceback" in run.log.read_text()
        first, *last = result["error"].splitlines()
        assert first.endswith("the whole traceback is at the end of training.log")
        assert any("in fail" in line for line in last) and last[-2:] == ["ValueError: no", "luck"]
        # The last thing that a person sees, in the log and in the pane.
        assert run.log.read_text().splitlines()[-1] == f"failed: {first}" == capsys.readouterr().err.splitlines()[-1]


def chained(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 107374182400 bytes."),
        RuntimeError("INTERNAL: Failed to allocate request for 1.0GiB: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        chained(ValueError("the update failed"), MemoryError()),
    ],
)
def test_want_of_memory_is_recorded_as_the_reason(run, monkeypatch, error):
    monkeypatch.setattr(process, "prepare", lambda paths: None)
    monkeypatch.setattr(specification, "read", lambda folder: Run(run))
    monkeypatch.setattr(command, "TRAINING", dataclasses.replace(command.TRAINING, train=raising(error)))
    assert command.main([str(run.folder)]) == 1
    result = json.loads(run.result.read_text())
    assert (result["outcome"], result["reason"]) == ("failed", "out_of_memory")
    assert result["error"].startswith("out of memory while training Collect_Wood with 64 environments (")
    assert result["error"].endswith("give a smaller --num_envs or --num_steps, or train fewer skills at a time")
    assert "\n" not in result["error"]


def test_a_run_that_was_given_up_has_failed_with_its_figures(run, monkeypatch):
    given_up = RunResult(2, Outcome.FAILED, "Collect_Wood", error="no progress: ...", reason=NO_PROGRESS, frames=640)
    monkeypatch.setattr(process, "prepare", lambda paths: None)
    monkeypatch.setattr(specification, "read", lambda folder: Run(run))
    monkeypatch.setattr(command, "TRAINING", dataclasses.replace(command.TRAINING, train=lambda *args: given_up))
    assert command.main([str(run.folder)]) == 1
    result = json.loads(run.result.read_text())
    assert (result["outcome"], result["reason"], result["frames"]) == ("failed", "no_progress", 640)
    assert run.log.read_text() == "failed: no progress: ...\n"


def test_jax_says_so_itself_when_it_gets_no_memory():
    with pytest.raises(Exception) as caught:
        jax.block_until_ready(jax.numpy.zeros((1 << 20, 1 << 20, 1 << 10), jax.numpy.float32))
    assert process.is_out_of_memory(caught.value)


def test_other_failures_have_no_such_reason(run, monkeypatch):
    assert not process.is_out_of_memory(ValueError("no memory of that"))
    assert not process.is_out_of_memory(jax.errors.JaxRuntimeError("INVALID_ARGUMENT: shapes"))


def test_ctrl_c_waits_for_the_end_of_a_sheltered_block_but_only_once(run):
    done = []
    with process.Lifetime(run, attempt=2) as lifetime, pytest.raises(KeyboardInterrupt):
        with lifetime.uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("the update")
        done.append("never")
    with process.Lifetime(run, attempt=2) as lifetime, pytest.raises(KeyboardInterrupt), lifetime.uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        done.append("never")
    assert done == ["the update"]


def test_ctrl_c_before_training_has_begun_is_a_cancellation_too(run, monkeypatch):
    monkeypatch.setattr(process, "prepare", raising(KeyboardInterrupt()))
    assert command.main([str(run.folder)]) == 130
    assert json.loads(run.result.read_text())["outcome"] == "cancelled"


class Run:
    """As much of a specification as the command needs when the training itself is replaced."""

    attempt = 2

    skill_name = "Collect_Wood"

    class settings:
        use_wandb = tensorboard = False
        num_envs = 64

    def __init__(self, paths):
        self.paths = paths


def test_a_tilde_in_the_run_folder_is_the_home_folder_and_an_empty_one_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command.main(["~/skill_0_X"]) == 2
    assert f"{tmp_path / 'skill_0_X'} is not a prepared run" in capsys.readouterr().err
    assert command.main([""]) == 2
    assert "RUN_FOLDER is empty" in capsys.readouterr().err


# Several hosts: a cluster may start the next attempt while the last one still runs.


def written_elsewhere(run, attempt):
    """As if a process of another host had taken the run's lock last."""
    record = {**ProcessId.of(os.getpid()).to_record(), "host": "another-host", "attempt": attempt}
    write_json(run.pid, record)


def no_locks(*_, number=errno.ENOLCK):
    raise OSError(number, os.strerror(number))


def test_an_attempt_that_was_given_up_ends_at_its_next_heartbeat(run):
    with process.Lifetime(run, attempt=2) as lifetime:
        lifetime.beat(Activity.TRAINING)
        before = run.heartbeat.read_text()
        write_record(run, attempt=3)
        with pytest.raises(process.Superseded, match="attempt 2 at Collect_Wood ends.*attempt 3 has taken its place"):
            lifetime.beat(Activity.TRAINING)
        assert run.heartbeat.read_text() == before


def test_the_result_of_an_attempt_that_was_given_up_is_not_written(run, monkeypatch, capsys):
    def train(*arguments):
        write_record(run, attempt=3)
        return RunResult(2, Outcome.COMPLETED, frames=100)

    monkeypatch.setattr(process, "prepare", lambda paths: None)
    monkeypatch.setattr(specification, "read", lambda folder: Run(run))
    monkeypatch.setattr(command, "TRAINING", dataclasses.replace(command.TRAINING, train=train))
    assert command.main([str(run.folder)]) == 3
    assert not run.result.exists()
    assert capsys.readouterr().err.count("\n") == 1


def test_a_job_that_starts_when_the_next_attempt_has_begun_does_not_train_as_that_one(run, monkeypatch, capsys):
    monkeypatch.setenv(COOKIE, f"{run.folder}#1")
    assert command.main([str(run.folder)]) == 3
    assert "attempt 1 at Collect_Wood ends" in capsys.readouterr().err
    assert not run.pid.exists() and not run.result.exists()


def test_a_lock_that_a_lost_host_seems_to_hold_does_not_keep_the_next_attempt_out(run, monkeypatch):
    monkeypatch.setattr(process, "LOCK_WAIT_S", 0.05)
    with FileLock(run.lock):
        written_elsewhere(run, attempt=1)
        with process.Lifetime(run, attempt=2):
            assert json.loads(run.pid.read_text())["host"] == socket.gethostname()
        written_elsewhere(run, attempt=2)
        with pytest.raises(FolderInUse):  # the same attempt elsewhere is no older one
            process.Lifetime(run, attempt=2).__enter__()


@pytest.mark.parametrize("has_locks", [True, False])
def test_a_process_of_an_older_attempt_that_hangs_on_this_host_is_ended(run, monkeypatch, has_locks):
    """Its keeper was killed, and on a node nobody else can reach it."""
    monkeypatch.setattr(process, "LOCK_WAIT_S", 0.5)
    if not has_locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    write_record(run, attempt=1)
    hold = (
        "import sys, time\nfrom pathlib import Path\nfrom flowrl.paths import RunPaths\n"
        "from flowrl.training.host.process import Lifetime\n"
        f"with Lifetime(RunPaths(Path({str(run.folder)!r})), 1):\n    print(flush=True)\n    time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as older:
        try:
            older.stdout.readline()
            older.send_signal(signal.SIGSTOP)
            hanging = ProcessId.of(older.pid)
            write_record(run, attempt=3)
            with pytest.raises(FolderInUse):  # not the attempt that the record names
                process.Lifetime(run, attempt=2).__enter__()
            with process.Lifetime(run, attempt=3):
                assert not hanging.is_alive()
                assert json.loads(run.pid.read_text())["attempt"] == 3
        finally:
            older.kill()


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_on_a_file_system_without_locks_a_run_trains_unless_its_process_is_known_to_live(run, monkeypatch, error):
    monkeypatch.setattr(fcntl, "flock", lambda *arguments: no_locks(number=error))
    assert liveness.held(run.lock) is False  # there is no file yet
    with process.Lifetime(run, attempt=2):
        assert liveness.held(run.lock) is None and not liveness.is_held(run.lock)
        with pytest.raises(FolderInUse):
            process.Lifetime(run, attempt=2).__enter__()
    written_elsewhere(run, attempt=1)
    with process.Lifetime(run, attempt=2):
        pass


def test_what_a_cluster_says_about_devices_is_not_overwritten_by_the_schedulers_machine(run, monkeypatch):
    write_json(run.environment, {"CUDA_VISIBLE_DEVICES": "0,1,2", "MARK": "x"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert in_a_child(run, "print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['MARK'])") == "7 x"


def test_in_a_job_what_its_node_or_its_set_up_says_counts_and_devices_of_another_machine_do_not(run, monkeypatch):
    write_json(run.environment, {"CUDA_VISIBLE_DEVICES": "3", "OMP_NUM_THREADS": "1", "MARK": "x"})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    shown = "print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ['OMP_NUM_THREADS'], os.environ['MARK'])"
    assert in_a_child(run, shown) == "3 1 x"  # on the scheduler's own machine
    write_json(run.environment, {"CUDA_VISIBLE_DEVICES": "3", "OMP_NUM_THREADS": "1", "MARK": "x"})
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert in_a_child(run, shown) == "None 8 x"
