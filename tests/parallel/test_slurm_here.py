"""A real Slurm of two nodes, each with a host name of its own: real jobs, real kills of jobs and daemons.

Skipped, loudly, where Slurm is not installed and cannot be.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from flowrl.errors import BadInput
from flowrl.files import read_json
from flowrl.parallel.launchers import first_job, slurm
from flowrl.parallel.launchers.base import EngineUnreachable
from flowrl.parallel.launchers.slurm import SlurmLauncher
from flowrl.parallel.launchers.slurm_options import SlurmOptions
from flowrl.parallel.launchers.slurm_queue import SlurmQueue
from flowrl.parallel.processes import of_runs_below, retry_until
from flowrl.parallel.scheduler import SkillScheduler
from flowrl.paths import RunPaths
from flowrl.records import picture
from flowrl.records.picture import Picture
from tests.parallel.fakes.experiments import FAKE_TRAINING, PATIENCE_S, skill

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm_here.sh"
LONG_S = 300


@pytest.fixture(scope="module")
def here():
    """The folder of a running Slurm; down again after the last test of this file."""
    folder = Path(tempfile.gettempdir()) / f"flowrl_slurm_test_{os.getpid()}"
    environment = os.environ | {"FLOWRL_SLURM_DIR": str(folder), "FLOWRL_SLURM_NODE_TIMEOUT_S": "10"}
    up = subprocess.run([str(SCRIPT), "up"], env=environment, capture_output=True, text=True, check=False)
    if up.returncode != 0:
        warnings.warn(f"NO TEST WITH A REAL SLURM: {up.stderr.strip()}", stacklevel=1)
        pytest.skip(f"Slurm cannot be started here: {up.stderr.strip()}")
    yield folder
    subprocess.run([str(SCRIPT), "down"], env=environment, capture_output=True, check=True)
    assert retry_until(lambda: not daemons(folder), PATIENCE_S), daemons(folder)


def daemons(folder: Path) -> list[psutil.Process]:
    """What of this Slurm still runs."""
    found = []
    for process in psutil.process_iter():
        try:
            is_ours = process.environ().get("SLURM_CONF") == str(folder / "slurm.conf")
            if is_ours and process.name() in ("slurmctld", "slurmd", "slurmstepd", "munged"):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def cluster(here, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", str(here / "slurm.conf"))
    monkeypatch.setattr(slurm.SlurmLauncher, "poll_every_s", 0.5)
    monkeypatch.setattr(slurm, "FRESH_S", 0.2)
    monkeypatch.setattr(slurm, "FILES_GRACE_S", 5.0)  # its nodes have the file system of this machine
    yield here

    def is_empty() -> bool:
        subprocess.run(["scancel", f"--user={os.getuid()}"], check=False)
        return not squeue("%i")

    assert retry_until(is_empty, PATIENCE_S, 0.2)


def squeue(fields: str, *arguments: str) -> list[str]:
    done = subprocess.run(["squeue", "-h", "-o", fields, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else ["no answer"]


def part(cluster, *arguments) -> None:
    environment = os.environ | {"FLOWRL_SLURM_DIR": str(cluster)}
    subprocess.run([str(SCRIPT), *arguments], env=environment, capture_output=True, check=True)


def pid_of(cluster, daemon: str) -> int:
    return int((cluster / f"{daemon}.pid").read_text())


@pytest.fixture
def make(cluster, experiment):
    """A scheduler; stopped with the test, so that one that fails leaves none that goes on submitting jobs."""
    made = []

    def make(settings=None, **options) -> SkillScheduler:
        launcher = SlurmLauncher(SlurmOptions(**options))
        made.append(
            SkillScheduler(settings, base_dir=experiment.root, max_parallel=2, command=FAKE_TRAINING, launcher=launcher)
        )
        return made[-1]

    yield make
    for scheduler in made:
        scheduler.stop()


def started(scheduler) -> threading.Thread:
    thread = threading.Thread(target=scheduler.run, daemon=True)
    thread.start()
    return thread


def entry(scheduler, name="Wood"):
    return next(entry for entry in scheduler.state["skills"] if entry["skill_name"] == name)


def statuses(scheduler):
    return {entry["skill_name"]: entry["status"] for entry in scheduler.state["skills"]}


def run_of(experiment, index=0, name="Wood") -> RunPaths:
    return RunPaths(experiment.run_folder(index, name))


def awaited_pid(experiment, attempt=1, index=0, name="Wood") -> int:
    """The pid of a run's training, once this attempt has begun."""
    run = run_of(experiment, index, name)

    def has_begun() -> bool:
        return run.pid.exists() and read_json(run.pid)["attempt"] == attempt and bool(run.checkpoints())

    assert retry_until(has_begun, PATIENCE_S), squeue("%i %T %r %j", "-t", "all")
    return read_json(run.pid)["pid"]


def sessions() -> str:
    return subprocess.run(["tmux", "list-sessions"], capture_output=True, text=True, check=False).stdout


def test_skills_are_trained_as_jobs_on_both_nodes_and_nothing_is_left(make, experiment, cluster, tmp_path):
    gate = tmp_path / "gate"
    scheduler = make(cpus=4)
    for name in ("Wood", "Drink"):
        scheduler.add_skill(name, skill(name, gate=str(gate)))
    scheduler.add_skill("Table", skill("Table"), ["Wood"])
    thread = started(scheduler)
    awaited_pid(experiment)
    awaited_pid(experiment, index=1, name="Drink")
    hosts = {read_json(run_of(experiment, index, name).pid)["host"] for index, name in ((0, "Wood"), (1, "Drink"))}
    if os.geteuid() == 0:
        assert hosts == {"node1", "node2"}
    assert "flowrl_e0_Wood" in sessions()
    attach = scheduler.attach_line(entry(scheduler))
    assert attach == "tmux attach -t flowrl_e0_Wood"
    gate.touch()
    thread.join(PATIENCE_S)
    assert statuses(scheduler) == dict.fromkeys(("Wood", "Drink", "Table"), "completed")
    assert "flowrl_" not in sessions()
    assert not of_runs_below(experiment.root)
    if os.geteuid() == 0:  # on this host itself, what is left of a job is cancelled, even where nothing is
        assert squeue("%T", "-t", "all", "-n", "flowrl_e0_Wood") == ["COMPLETED"]


def test_a_job_shows_its_training_and_ctrl_c_in_its_session_cancels_it(make, experiment, cluster):
    scheduler = make()
    scheduler.add_skill("Wood", skill("Wood", seconds=LONG_S))
    thread = started(scheduler)
    awaited_pid(experiment)

    def shown() -> str:
        return subprocess.run(["tmux", "capture-pane", "-p", "-t", "flowrl_e0_Wood"], capture_output=True, text=True).stdout

    assert retry_until(lambda: "training Wood" in shown(), PATIENCE_S), shown()
    picture.write(run_of(experiment).pane, 1, Picture("Wood (expert 0)", "training", None, 500, 1000))  # as a real one does
    assert retry_until(lambda: "500 / 1,000 frames (50%)" in shown() and "training Wood" in shown(), PATIENCE_S), shown()
    subprocess.run(["tmux", "send-keys", "-t", "flowrl_e0_Wood", "C-c"], check=True)
    thread.join(PATIENCE_S)
    assert statuses(scheduler) == {"Wood": "cancelled"}


def test_a_job_that_waits_shows_why_and_ctrl_c_cancels_it_before_it_begins(make, experiment, cluster):
    scheduler = make(args="--begin=now+1hour")
    scheduler.add_skill("Wood", skill("Wood"))
    thread = started(scheduler)

    def shown() -> str:
        return subprocess.run(["tmux", "capture-pane", "-p", "-t", "flowrl_e0_Wood"], capture_output=True, text=True).stdout

    assert retry_until(lambda: "BeginTime" in shown(), PATIENCE_S), shown()
    assert "place 1 of your 1 waiting jobs" in shown()
    subprocess.run(["tmux", "send-keys", "-t", "flowrl_e0_Wood", "C-c"], check=True)
    thread.join(PATIENCE_S)
    assert statuses(scheduler) == {"Wood": "cancelled"}, shown()
    assert "before it began" in entry(scheduler)["error"]


def test_closing_a_session_ends_nothing(make, experiment, cluster, tmp_path):
    gate = tmp_path / "gate"
    scheduler = make()
    scheduler.add_skill("Wood", skill("Wood", gate=str(gate)))
    thread = started(scheduler)
    awaited_pid(experiment)
    subprocess.run(["tmux", "kill-server"], check=True)
    gate.touch()
    thread.join(PATIENCE_S)
    assert statuses(scheduler) == {"Wood": "completed"} and entry(scheduler)["attempt"] == 1


def test_a_scheduler_that_is_started_again_finds_its_jobs(make, experiment, cluster, tmp_path):
    gate = tmp_path / "gate"
    first = make()
    first.add_skill("Wood", skill("Wood", gate=str(gate)))
    thread = started(first)
    awaited_pid(experiment)
    first.stop()
    thread.join(PATIENCE_S)
    gate.touch()
    second = make()
    second.run()
    assert statuses(second) == {"Wood": "completed"} and entry(second)["attempt"] == 1
    comments = squeue("%k", "-t", "all", "-n", "flowrl_e0_Wood")
    assert len([comment for comment in comments if str(tmp_path) in comment]) == 1  # it was submitted once


def test_a_training_that_is_killed_on_its_node_is_tried_again(make, experiment, cluster, tmp_path):
    gate = tmp_path / "gate"
    scheduler = make()
    scheduler.add_skill("Wood", skill("Wood", gate=str(gate)))
    thread = started(scheduler)
    os.kill(awaited_pid(experiment), signal.SIGKILL)
    gate.touch()
    thread.join(PATIENCE_S)
    found = entry(scheduler)
    assert (found["status"], found["attempt"], found["retry_count"]) == ("completed", 2, 1)


def test_a_training_that_hangs_on_its_node_is_ended_and_tried_again(make, experiment, cluster):
    """Its heartbeat, a file, says so; the job itself runs all the while."""
    scheduler = make(SimpleNamespace(max_nodes=1, stall_timeout=1.0))
    scheduler.add_skill("Wood", skill("Wood", hang_attempts=[1]))
    thread = started(scheduler)
    thread.join(PATIENCE_S)
    found = entry(scheduler)
    assert (found["status"], found["attempt"], found["retry_count"]) == ("completed", 2, 1)
    assert not of_runs_below(experiment.root)


def test_a_job_whose_time_is_nearly_over_goes_on_in_another_and_spends_no_retry(make, experiment, cluster, tmp_path):
    gate = tmp_path / "gate"
    scheduler = make()
    scheduler.add_skill("Wood", skill("Wood", gate=str(gate)))
    thread = started(scheduler)
    awaited_pid(experiment)
    job = read_json(experiment.run_folder(0, "Wood") / "run.job")["job"]
    # As --signal=B:TERM@90 does: the batch shell alone gets it. (Slurm itself sends it up to a minute early.)
    subprocess.run(["scancel", "--batch", "--signal=TERM", job], check=True)
    awaited_pid(experiment, attempt=2)
    gate.touch()
    thread.join(PATIENCE_S)
    found = entry(scheduler)
    assert (found["status"], found["attempt"], found["retry_count"]) == ("completed", 2, 0)


def test_a_job_that_gives_way_to_another_goes_on_and_spends_no_retry(make, experiment, cluster, tmp_path):
    gate = tmp_path / "gate"
    scheduler = make(cpus=4)
    scheduler.add_skill("Wood", skill("Wood", gate=str(gate)))
    thread = started(scheduler)
    awaited_pid(experiment)
    node = squeue("%N", "-n", "flowrl_e0_Wood")[0]
    urgent = ["sbatch", "-p", "urgent", "-w", node, "-c", "4", "-o", "/dev/null", "--wrap", "sleep 2"]
    subprocess.run(urgent, check=True, capture_output=True)
    awaited_pid(experiment, attempt=2)
    gate.touch()
    thread.join(PATIENCE_S)
    found = entry(scheduler)
    assert (found["status"], found["attempt"], found["retry_count"]) == ("completed", 2, 0)


def await_saved_numbers(cluster) -> None:
    """Waits until the controller has saved which numbers jobs have got, which it does every few seconds.

    One that is killed earlier gives them again, and a node that has seen such a number refuses the job and is drained.
    """
    begun_s = time.time()
    hold = ["sbatch", "--parsable", "--hold", "-o", "/dev/null", "--wrap", "true"]
    subprocess.run(["scancel", subprocess.run(hold, check=True, capture_output=True, text=True).stdout.strip()], check=True)
    saved = cluster / "state" / "job_state"
    assert retry_until(lambda: saved.exists() and saved.stat().st_mtime > begun_s, PATIENCE_S), "its state was not saved"


def test_the_controller_may_be_killed_and_started_again(make, experiment, cluster, tmp_path):
    gate = tmp_path / "gate"
    scheduler = make()
    scheduler.add_skill("Wood", skill("Wood", gate=str(gate)))
    thread = started(scheduler)
    pid = awaited_pid(experiment)
    await_saved_numbers(cluster)
    os.kill(pid_of(cluster, "slurmctld"), signal.SIGKILL)
    queue_file = experiment.root / "queue.json"
    assert retry_until(lambda: bool(json.loads(queue_file.read_text())["silence"]), PATIENCE_S)
    assert psutil.pid_exists(pid)
    assert statuses(scheduler) == {"Wood": "running"}
    gate.touch()  # it ends while nobody answers
    scheduler.add_skill("Drink", skill("Drink"))  # and another one cannot be submitted
    part(cluster, "start-controller")
    thread.join(PATIENCE_S)
    assert statuses(scheduler) == {"Wood": "completed", "Drink": "completed"}
    tries = [entry(scheduler, name)["retry_count"] for name in ("Wood", "Drink")]
    assert tries == [0, 0], experiment.history.read_text() + "\n".join(squeue("%i %T %r %j %S %e", "-t", "all"))


def test_a_node_that_is_lost_while_its_process_lives_on_does_no_harm(make, experiment, cluster, tmp_path):
    """The next attempt begins elsewhere; what the first one writes from then on does not count."""
    gate = tmp_path / "gate"
    scheduler = make(cpus=4)
    scheduler.add_skill("Wood", skill("Wood", gate=str(gate)))
    thread = started(scheduler)
    lost = awaited_pid(experiment)
    node = squeue("%N", "-n", "flowrl_e0_Wood")[0]
    os.kill(pid_of(cluster, f"slurmd.{node}"), signal.SIGKILL)
    try:
        awaited_pid(experiment, attempt=2)
        found = entry(scheduler)
        assert (found["attempt"], found["retry_count"]) == (2, 0)
        gate.touch()
        thread.join(PATIENCE_S)
        assert statuses(scheduler) == {"Wood": "completed"}
        result = read_json(experiment.skill_folder(0, "Wood") / "result.json")
        assert result["attempt"] == 2
        assert retry_until(lambda: not psutil.pid_exists(lost), PATIENCE_S)
        assert not experiment.run_folder(0, "Wood").exists()
    finally:
        part(cluster, "start-node", node)
        assert retry_until(lambda: set(squeue_nodes()) == {"idle"}, PATIENCE_S, 0.2)


def squeue_nodes() -> list[str]:
    return subprocess.run(["sinfo", "-h", "-N", "-p", "debug", "-o", "%T"], capture_output=True, text=True).stdout.split()


def test_a_first_tiny_job_sees_the_folder_or_says_what_the_nodes_lack(cluster, tmp_path, monkeypatch):
    (cluster / "unseen" / "mine").mkdir(exist_ok=True)
    said = []
    first_job.try_out(tmp_path / "new" / "experiment", SlurmOptions(), said.append)
    assert "it sees" in said[-1] and not (tmp_path / "new").exists()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadInput, match="could not run .* with flowrl: module: not found"):
        first_job.try_out(tmp_path, SlurmOptions(setup="echo module: not found; exit 9"), said.append)
    if os.geteuid() == 0:
        with pytest.raises(BadInput, match="do not see .*unseen"):
            first_job.try_out(cluster / "unseen", SlurmOptions(), said.append, files_grace_s=0.5)
        monkeypatch.chdir(cluster / "unseen" / "mine")
        with pytest.raises(BadInput, match="does not see .*mine, where this command was given"):
            first_job.try_out(tmp_path, SlurmOptions(), said.append)


def test_a_job_that_has_begun_is_not_withdrawn_and_a_cluster_may_keep_no_books(cluster):
    def submitted(*options: str) -> str:
        sbatch = ["sbatch", "--parsable", "-o", "/dev/null", *options, "--wrap", "sleep 60"]
        return subprocess.run(sbatch, check=True, capture_output=True, text=True).stdout.strip()

    running, waiting = submitted(), submitted("--begin=now+1hour")
    assert retry_until(lambda: squeue("%T", "-j", running) == ["RUNNING"], PATIENCE_S)
    SlurmQueue().withdraw([running, waiting])
    assert [squeue("%T", "-t", "all", "-j", job) for job in (running, waiting)] == [["RUNNING"], ["CANCELLED"]]
    with pytest.raises(EngineUnreachable, match="accounting storage is disabled"):
        SlurmQueue().past([running])


def test_what_this_cluster_does_not_have_is_said_by_the_cluster_itself(cluster):
    for options, words in (
        (SlurmOptions(partition="brief"), "a job gets 2 minutes in the partition brief"),
        (SlurmOptions(partition="gpu"), "gpu is unknown; this cluster has: brief, closed, debug, short, urgent"),
        (SlurmOptions(partition="short", time="20:00"), "allows"),
        (SlurmOptions(cpus=1000), "would not take a job"),
        (SlurmOptions(args="--no-such-option=1"), "would not take a job"),
    ):
        with pytest.raises(BadInput, match=words):
            SlurmLauncher(options).check()
    SlurmLauncher(SlurmOptions()).check()
    assert SlurmQueue().jobs() is not None
