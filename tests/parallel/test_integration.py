"""End to end: real tmux, real processes, real files, real kills. A library is really trained in
`tests/proposers/llm/test_front_door.py`."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from flowrl import pickles
from flowrl.files import read_json, write_json
from flowrl.parallel import watched_run
from flowrl.parallel.processes import of_runs_below, retry_until
from flowrl.parallel.scheduler import SkillScheduler
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.records.liveness import find_process, is_held
from flowrl.report.announcements import Announcer
from tests.experiment.starts import SIZE
from tests.parallel.fakes.experiments import FAKE_TRAINING, PATIENCE_S, skill

NEVER_S = 3600  # a poll interval that no test lives to see
LONG_S = 300  # a training that ends only if it is ended
ROOT = Path(__file__).parents[2]


def sh(line: str) -> str:
    """Runs what a user types in a shell, to the letter. Returns its output; fails if it fails."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, f"`{line}` failed: {done.stderr}"
    return done.stdout


def sessions() -> list[str]:
    listing = subprocess.run(["tmux", "list-sessions", "-F", "#{session_name}"], capture_output=True, text=True, check=False)
    return [name for name in listing.stdout.split() if name.startswith("flowrl_")]


def entry_of(scheduler, name):
    return next(entry for entry in scheduler.state["skills"] if entry["skill_name"] == name)


def statuses(scheduler):
    return {entry["skill_name"]: entry["status"] for entry in scheduler.state["skills"]}


def processes_of(experiment: ExperimentPaths) -> list[psutil.Process]:
    """All that carries the mark of one of this experiment's runs."""
    return of_runs_below(experiment.root)


def wait_until(condition):
    assert retry_until(condition, PATIENCE_S), "this never came to hold"


class Thread:
    """A scheduler in its thread, ended with the test."""

    def __init__(self, scheduler):
        self.scheduler = scheduler
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            self.scheduler.run({})
        except BaseException:
            pass  # kept in scheduler.error

    def join(self):
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), "the scheduler does not end"
        if self.scheduler.error:
            raise self.scheduler.error


@pytest.fixture
def start():
    """Starts schedulers in threads; their trainings are always ended with the test."""
    threads = []

    def starter(scheduler):
        threads.append(Thread(scheduler))
        return threads[-1]

    yield starter
    for thread in threads:
        thread.scheduler.stop(kill=True)
        thread.thread.join(PATIENCE_S)


@pytest.fixture(autouse=True)
def nothing_is_left_running(tmp_path):
    yield
    for process in processes_of(ExperimentPaths(tmp_path)):
        process.kill()


def training_of(scheduler, name) -> RunPaths:
    """The run folder of a skill, once its training has begun and saved its first checkpoint."""

    def begun():
        entry = entry_of(scheduler, name)
        if entry["status"] != "running" or not entry["run_folder"]:
            return False
        run = RunPaths(scheduler.paths.root / entry["run_folder"])
        return find_process(run.pid, entry["attempt"]) is not None and bool(run.checkpoints())

    wait_until(begun)
    return RunPaths(scheduler.paths.root / entry_of(scheduler, name)["run_folder"])


# The main path.


def test_three_skills_are_trained_in_tmux_and_merged(make_scheduler, experiment):
    scheduler = make_scheduler(max_parallel=2, poll_interval=NEVER_S)
    scheduler.add_skill("Collect_Wood", skill("Collect_Wood", frames=50), [])
    scheduler.add_skill("Collect_Stone", skill("Collect_Stone", frames=40), [])
    scheduler.add_skill("Make_Pickaxe", skill("Make_Pickaxe", frames=100), ["Collect_Wood", "Collect_Stone"])
    scheduler.run(completed_skills={})
    assert set(statuses(scheduler).values()) == {"completed"}
    indices = {entry["skill_name"]: entry["expert_idx"] for entry in scheduler.state["skills"]}
    assert sorted(indices.values()) == [0, 1, 2]
    for name, frames in (("Collect_Wood", 150), ("Collect_Stone", 140), ("Make_Pickaxe", 100)):
        expert = pickles.load(experiment.expert_params(indices[name], name))
        assert expert["metadata"]["total_frames"] == frames
        # The fake training adds its frames to each weight: what is in the library went through both runs.
        np.testing.assert_array_equal(expert["params"]["actor"]["w"], np.full(3, frames, np.float32))
        assert experiment.skill_module(indices[name], name).exists()
        assert "ends at" in (experiment.skill_folder(indices[name], name) / "training.log").read_text()
    assert list(experiment.training_runs.iterdir()) == []
    assert sessions() == []
    assert processes_of(experiment) == []


def test_a_training_gets_its_surroundings_and_no_key_that_is_not_its_own(make_scheduler, start, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proposer")
    monkeypatch.setenv("WANDB_API_KEY", "wandb-secret")
    monkeypatch.setenv("XLA_FLAGS", "--xla_mark=1")
    scheduler = make_scheduler(max_parallel=1, poll_interval=NEVER_S)
    scheduler.add_skill("A", skill("A", seconds=LONG_S), [])
    start(scheduler)
    run = training_of(scheduler, "A")
    seen = read_json(run.folder / "seen.json")
    assert seen["environment"]["WANDB_API_KEY"] == "wandb-secret"
    assert seen["environment"]["XLA_FLAGS"] == "--xla_mark=1"
    assert not [name for name in seen["environment"] if name.startswith("OPENAI")]
    assert seen["cwd"] == os.getcwd()
    assert seen["slot"]["cores"]
    assert not run.environment.exists()
    for process in processes_of(scheduler.paths):
        assert "wandb-secret" not in " ".join(process.cmdline())


def test_every_monitoring_command_of_the_seeds_works_as_printed(tmp_path, monkeypatch, start):
    monkeypatch.chdir(tmp_path)
    scheduler = SkillScheduler(base_dir="exp/parallel_test/", max_parallel=3, command=FAKE_TRAINING)
    done = threading.Event()
    scheduler.set_callbacks(on_skill_complete=lambda skill_name: done.set())
    scheduler.add_skill("Collect_Wood", skill("Collect_Wood", seconds=LONG_S), [])
    scheduler.add_skill("Collect_Stone", skill("Collect_Stone"), [])
    scheduler.add_skill("Make_Pickaxe", skill("Make_Pickaxe", seconds=LONG_S), ["Collect_Stone"])
    scheduler.add_skill("Mine_Diamond", skill("Mine_Diamond"), ["Collect_Wood"])
    start(scheduler)
    assert done.wait(PATIENCE_S)
    training_of(scheduler, "Collect_Wood"), training_of(scheduler, "Make_Pickaxe")

    assert json.loads(sh("cat exp/parallel_test/scheduler_state.json | jq"))["version"] == 1
    summary = sh(
        "cat exp/parallel_test/scheduler_state.json | "
        'jq ".skills | group_by(.status) | map({status: .[0].status, count: length})"'
    )
    assert json.loads(summary) == [
        {"status": "completed", "count": 1}, {"status": "running", "count": 2}, {"status": "waiting", "count": 1},
    ]  # fmt: skip
    waiting = sh(
        'cat exp/parallel_test/scheduler_state.json | jq \'.skills[] | select(.status=="waiting") | '
        "{name: .skill_name, deps: .dependencies}'"
    )
    assert json.loads(waiting) == {"name": "Mine_Diamond", "deps": ["Collect_Wood"]}
    listing = sh("tmux list-sessions | grep flowrl_").splitlines()
    assert [line.split(" (created")[0] for line in listing] == [
        "flowrl_e0_Collect_Wood: 1 windows",
        "flowrl_e2_Make_Pickaxe: 1 windows",
    ]
    assert sh("tmux has-session -t flowrl_e0_Collect_Wood\necho $?  # 0 = exists, 1 = doesn't exist") == "0\n"
    log = "exp/parallel_test/training_runs/skill_0_Collect_Wood/training.log"
    assert "attempt 1 of Collect_Wood begins" in sh(f"timeout 1 tail -f {log} || true")
    assert "attempt 1 ends" in sh("cat exp/parallel_test/skills/1_Collect_Stone/training.log")
    assert sh("cat exp/parallel_test/training_runs/skill_2_Make_Pickaxe/2.py | head -20").splitlines()[:4] == [
        "# Auto-generated training module for: Make_Pickaxe",
        "# Global expert index: 2",
        "GLOBAL_TO_LOCAL = {1: 0, 2: 1}",
        "LOCAL_TO_GLOBAL = {0: 1, 1: 2}",
    ]
    assert "1_Collect_Stone" in sh("ls -la exp/parallel_test/skills/")
    assert_attaching_shows("flowrl_e0_Collect_Wood", "training Collect_Wood")


def detached(client: subprocess.Popen, terminal: int) -> bool:
    """Asks the client to detach and reads what it prints: it cannot leave a terminal that nobody reads."""
    with suppress(OSError):  # EIO: the client is gone
        os.write(terminal, b"\x02d")  # Ctrl-B, then D
        for _ in range(100):
            if not select.select([terminal], [], [], 0.2)[0]:
                break
            os.read(terminal, 4096)
    return client.poll() is not None


def assert_attaching_shows(session: str, text: str):
    """``tmux attach -t`` in its own terminal; ending the terminal detaches, and the training goes on."""
    ours, theirs = pty.openpty()
    client = subprocess.Popen(
        ["tmux", "attach", "-t", session], stdin=theirs, stdout=theirs, stderr=theirs,
        env=os.environ | {"TERM": "xterm"}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while text.encode() not in shown:
            shown += os.read(ours, 4096)
        assert retry_until(lambda: detached(client, ours), PATIENCE_S)
        assert client.returncode == 0
    finally:
        client.kill()
        client.wait()
        os.close(ours)
    assert session in sessions()


# Kills.


def test_a_training_killed_is_retried_from_its_checkpoint(make_scheduler, start, experiment):
    scheduler = make_scheduler(max_parallel=1, poll_interval=NEVER_S)
    scheduler.add_skill("A", skill("A", seconds=1), [])
    thread = start(scheduler)
    run = training_of(scheduler, "A")
    os.kill(find_process(run.pid, 1).pid, signal.SIGKILL)
    thread.join()
    assert (statuses(scheduler), entry_of(scheduler, "A")["attempt"]) == ({"A": "completed"}, 2)
    log = (experiment.skill_folder(0, "A") / "training.log").read_text()
    assert "attempt 2 of A begins at 500 frames" in log
    assert pickles.load(experiment.expert_params(0, "A"))["metadata"]["total_frames"] == 1000  # counted once
    assert sessions() == []


def test_a_training_that_crashes_each_time_fails_with_its_last_words(make_scheduler):
    scheduler = make_scheduler(SimpleArgs(max_retries=1, max_nodes=2), poll_interval=NEVER_S)
    scheduler.add_skill("A", skill("A", crash_attempts=[1, 2]), [])
    scheduler.add_skill("B", skill("B"), ["A"])
    scheduler.run({})
    assert statuses(scheduler) == {"A": "failed", "B": "blocked"}
    error = entry_of(scheduler, "A")["error"]
    assert "attempt 2 ended with exit code 3 without a result" in error
    assert "ValueError: planted crash" in error and "training.log" in error
    # It stays to be looked at; the one of the first attempt has made way for it.
    assert sessions() == ["flowrl_e0_A"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil takes the start of a process from another place")
def test_a_step_of_the_clock_ends_no_run(make_scheduler, start, tmp_path, monkeypatch):
    monkeypatch.setattr(watched_run, "ENDING_GRACE_S", 0.0)
    looks, look = [], watched_run.look
    monkeypatch.setattr(watched_run, "look", lambda *where: looks.append(look(*where)) or looks[-1])
    scheduler = make_scheduler(max_parallel=1, poll_interval=NEVER_S)
    scheduler.add_skill("A", skill("A", gate=str(tmp_path / "gate")), [])
    thread = start(scheduler)
    training_of(scheduler, "A")
    boot_s = psutil.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot_s + 3600)  # an hour was added to the clock
    seen = len(looks)
    wait_until(lambda: len(looks) > seen + 10)
    (tmp_path / "gate").touch()
    thread.join()
    assert (statuses(scheduler), entry_of(scheduler, "A")["attempt"]) == ({"A": "completed"}, 1)
    assert all(sight.process_alive for sight in looks[seen : seen + 10])


class SimpleArgs:
    """The front door's flags, as attributes."""

    def __init__(self, **flags):
        self.__dict__.update(flags)


def test_a_training_that_cannot_start_reports_its_panes_output(make_scheduler):
    command = (sys.executable, "-c", "import no_such_module")
    scheduler = make_scheduler(SimpleArgs(max_retries=0, max_nodes=1), poll_interval=NEVER_S, command=command)
    scheduler.add_skill("A", skill("A"), [])
    scheduler.run({})
    assert "No module named 'no_such_module'" in entry_of(scheduler, "A")["error"]


def test_ctrl_c_in_the_pane_cancels_the_run_and_it_is_not_retried(make_scheduler, start):
    scheduler = make_scheduler(max_parallel=1, poll_interval=NEVER_S)
    scheduler.add_skill("A", skill("A", seconds=LONG_S), [])
    scheduler.add_skill("B", skill("B"), ["A"])
    thread = start(scheduler)
    training_of(scheduler, "A")
    sh("tmux send-keys -t =flowrl_e0_A: C-c")
    thread.join()
    assert statuses(scheduler) == {"A": "cancelled", "B": "blocked"}
    assert entry_of(scheduler, "A")["attempt"] == 1


@pytest.mark.parametrize("blow", ["tmux kill-session -t flowrl_e0_A", "tmux kill-server"])
def test_a_training_whose_session_is_ended_goes_on_in_a_new_one(make_scheduler, start, experiment, blow, tmp_path):
    gate = tmp_path / "gate"
    scheduler = make_scheduler(max_parallel=1, poll_interval=NEVER_S)  # noticed without the poll
    scheduler.add_skill("A", skill("A", gate=str(gate)), [])
    scheduler.add_skill("B", skill("B"), ["A"])
    thread = start(scheduler)
    first = find_process(training_of(scheduler, "A").pid, 1)
    sh(blow)
    wait_until(lambda: entry_of(scheduler, "A")["attempt"] == 2)
    assert "its session flowrl_e0_A was ended" in entry_of(scheduler, "A")["error"]
    assert not first.is_alive()
    wait_until(lambda: sessions() == ["flowrl_e0_A"])
    gate.touch()
    thread.join()
    assert statuses(scheduler) == {"A": "completed", "B": "completed"}
    assert "attempt 2 of A begins at 500 frames" in (experiment.skill_folder(0, "A") / "training.log").read_text()
    assert pickles.load(experiment.expert_params(0, "A"))["metadata"]["total_frames"] == 2000  # A's and B's runs, once each
    assert processes_of(experiment) == []


def test_a_training_that_hangs_is_ended_and_tried_again_also_one_that_was_adopted(
    make_scheduler, start, experiment, monkeypatch
):
    monkeypatch.setattr(watched_run, "STOP_GRACE_S", 0.2)  # it is deaf
    flags = {"max_nodes": 1, "max_parallel_skills": 1, "scheduler_poll_interval": NEVER_S}
    first = make_scheduler(SimpleArgs(**flags))  # would wait for five minutes
    first.add_skill("A", skill("A", hang_attempts=[1, 2]), [])
    thread = start(first)
    hanging = find_process(training_of(first, "A").pid, 1)
    first.stop()
    thread.join()
    second, errors = make_scheduler(SimpleArgs(**flags, stall_timeout=0.5)), set()
    thread = start(second)
    wait_until(lambda: second.state["skills"])
    wait_until(lambda: errors.add(entry_of(second, "A")["error"]) or entry_of(second, "A")["attempt"] == 3)
    thread.join()
    assert not hanging.is_alive()
    assert (statuses(second), entry_of(second, "A")["retry_count"]) == ({"A": "completed"}, 2)
    assert [error for error in errors if error and "its heartbeat has not changed" in error]
    assert "attempt 3 of A begins at 500 frames" in (experiment.skill_folder(0, "A") / "training.log").read_text()
    assert processes_of(experiment) == []


def test_leftover_processes_of_a_training_are_ended_before_its_slot_is_free(make_scheduler, experiment):
    scheduler = make_scheduler(max_parallel=1, poll_interval=NEVER_S)
    scheduler.set_callbacks(on_skill_complete=lambda name: left.append(len(processes_of(experiment))))
    left: list[int] = []
    scheduler.add_skill("A", skill("A", stray=True), [])
    scheduler.run({})
    assert left == [0]


def test_ending_the_trainings_leaves_nothing_behind(make_scheduler, start, experiment):
    scheduler = make_scheduler(max_parallel=2, poll_interval=NEVER_S)
    scheduler.add_skill("A", skill("A", seconds=LONG_S, stray=True), [])
    scheduler.add_skill("B", skill("B", seconds=LONG_S), [])
    thread = start(scheduler)
    training_of(scheduler, "A"), training_of(scheduler, "B")
    scheduler.stop(kill=True)
    thread.join()
    assert processes_of(experiment) == []
    assert sessions() == []
    assert statuses(scheduler) == {"A": "waiting", "B": "waiting"}
    assert [path for path in experiment.root.rglob("*") if path.suffix == ".tmp"] == []


SCHEDULE = """
import sys
sys.path.insert(0, sys.argv[2])
from flowrl.parallel.scheduler import SkillScheduler
from tests.parallel.fakes.experiments import FAKE_TRAINING, skill
scheduler = SkillScheduler(base_dir=sys.argv[1], max_parallel=2, poll_interval=3600, command=FAKE_TRAINING)
if not scheduler.paths.state.exists():
    scheduler.add_skill("Lives", skill("Lives", seconds=4), [])
    scheduler.add_skill("Ends", skill("Ends", seconds=1), [])
    scheduler.add_skill("Dependent", skill("Dependent"), ["Lives", "Ends"])
scheduler.run({})
"""


def test_a_scheduler_killed_finds_all_again_and_trains_nothing_twice(experiment, make_scheduler):
    process = subprocess.Popen([sys.executable, "-c", SCHEDULE, str(experiment.root), str(ROOT)])
    try:
        runs = [RunPaths(experiment.run_folder(0, "Lives")), RunPaths(experiment.run_folder(1, "Ends"))]
        wait_until(lambda: all(find_process(run.pid, 1) and run.checkpoints() for run in runs))
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not is_held(runs[1].lock))  # one ends while nobody watches
    scheduler = make_scheduler(max_parallel=2, poll_interval=NEVER_S)
    scheduler.run({})
    assert statuses(scheduler) == {"Lives": "completed", "Ends": "completed", "Dependent": "completed"}
    assert [entry["attempt"] for entry in scheduler.state["skills"]] == [1, 1, 1]
    assert pickles.load(experiment.expert_params(0, "Lives"))["metadata"]["total_frames"] == 2000
    assert sessions() == []


def test_two_experiments_with_equal_skills_do_not_touch_each_other(tmp_path, start):
    experiments = [ExperimentPaths(tmp_path / name) for name in ("one", "two")]
    schedulers = [
        SkillScheduler(base_dir=paths.root, max_parallel=1, poll_interval=NEVER_S, command=FAKE_TRAINING)
        for paths in experiments
    ]
    threads = []
    for scheduler, seconds in zip(schedulers, (LONG_S, LONG_S)):
        scheduler.add_skill("A", skill("A", seconds=seconds), [])
        threads.append(start(scheduler))
        training_of(scheduler, "A")
    assert sorted(sessions()) == ["flowrl_e0_A", "flowrl_e0_A_2"]
    schedulers[0].stop(kill=True)
    threads[0].join()
    assert sessions() == ["flowrl_e0_A_2"]
    assert processes_of(experiments[0]) == [] and processes_of(experiments[1]) != []


TINY = SIZE | {
    "env_name": "Craftax-Classic-Symbolic-v1", "total_timesteps": 1024, "success_rate": 1.0, "max_task_steps": 20,
}  # fmt: skip


def test_a_reward_that_raises_fails_with_the_tracebacks_last_lines_in_the_state_file(experiment):
    """In a real training."""
    write_json(experiment.config, TINY)
    bad = {
        "skill_name": "Collect_Wood", "description": "", "requires": {}, "consumes": {},
        "gains": {"wood": {"per": 1, "fixed": 0}},
        "task_is_done": "def task_is_done(inventory, n):\n    return inventory.wood >= n",
        "task_reward": "def task_reward(inventory_diff):\n    return 1.0 * inventory_diff.wood + jnp.where(True)",
        "execution_plan": [{"skill_name": "Collect_Wood", "n": 1}],
    }  # fmt: skip
    scheduler = SkillScheduler(SimpleArgs(max_retries=0, max_nodes=1), base_dir=experiment.root)
    scheduler.add_skill("Collect_Wood", bad, [])
    scheduler.run({})
    entry = read_json(experiment.state)["skills"][0]
    assert entry["status"] == "failed"
    said: list[str] = []
    Announcer(said.append, scheduler.attach_line).look([entry])
    first, *last = entry["error"].splitlines()
    log = (experiment.run_folder(0, "Collect_Wood") / "training.log").read_text()
    assert said == [f"failed     Collect_Wood: {first}"] and first.startswith("ValueError: Calling nonzero")
    assert len(last) >= 4 and last[-1].startswith("ValueError: Calling nonzero") and all(line in log for line in last)
