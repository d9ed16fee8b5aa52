"""Every monitoring command of the seeds works as printed, during a run."""

import json
import os
import pty
import subprocess

import pytest

from tests.experiment.fakes import until
from tests.experiment.starts import CLASSIC, Practice, in_training

FOLDER = "exp/parallel_test/"
GROUPED = """cat exp/parallel_test/scheduler_state.json | jq ".skills | group_by(.status) | map({status: .[0].status, count:
length})\""""
WAITING = """cat exp/parallel_test/scheduler_state.json | jq '.skills[] | select(.status=="waiting") | {name: .skill_name,
deps: .dependencies}'"""


def shell(practice: Practice, command: str) -> str:
    """What a command prints that a person types in the folder where the front door was started."""
    done = subprocess.run(["bash", "-c", command], cwd=practice.folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), f"{command}: {done.stderr}"
    return done.stdout


@pytest.fixture
def during_the_first_two(make_practice) -> Practice:
    """Wood and stone are in training, and the pickaxe waits for them."""
    practice = make_practice(FOLDER)
    gates = {name: {"gate": str(practice.folder / gate)} for name, gate in GATES.items()}
    practice.start(*CLASSIC, "--max_nodes", "3", "--max_parallel_skills", "3", wishes=gates)
    until(lambda: in_training(practice, "Collect_Wood", "Collect_Stone") and "Make_Pickaxe" in practice.skills())
    return practice


GATES = {"Collect_Wood": "first", "Collect_Stone": "first", "Make_Pickaxe": "second"}


def test_every_monitoring_command_works_as_printed(during_the_first_two):
    practice = during_the_first_two
    look_at_the_state(practice)
    look_at_the_sessions(practice)
    log = practice.paths.run_folder(0, "Collect_Wood") / "training.log"
    until(lambda: log.exists() and log.read_text())
    tail = "timeout 1 tail -f exp/parallel_test/training_runs/skill_0_Collect_Wood/training.log || [ $? = 124 ]"
    assert "Collect_Wood" in shell(practice, tail)
    (practice.folder / "first").touch()
    until(lambda: in_training(practice, "Make_Pickaxe"))
    look_at_what_is_finished(practice)


def look_at_the_state(practice: Practice) -> None:
    assert '"skill_name": "Make_Pickaxe"' in shell(practice, "cat exp/parallel_test/scheduler_state.json | jq")
    counts = {group["status"]: group["count"] for group in json.loads(shell(practice, GROUPED))}
    assert counts == {"running": 2, "waiting": 1}
    waiting = json.loads(shell(practice, WAITING))
    assert waiting == {"name": "Make_Pickaxe", "deps": ["Collect_Wood", "Collect_Stone"]}
    assert '"running"' in shell(practice, f"TERM=xterm timeout 2 watch -n 5 '{GROUPED}' || [ $? = 124 ]")


def look_at_the_sessions(practice: Practice) -> None:
    listed = shell(practice, "tmux list-sessions | grep flowrl_").splitlines()
    assert [line.split(": 1 windows (created ")[0] for line in listed] == ["flowrl_e0_Collect_Wood", "flowrl_e1_Collect_Stone"]
    assert shell(practice, "tmux has-session -t flowrl_e0_Collect_Wood\necho $?") == "0\n"
    # The pickaxe waits, and has no session yet.
    assert shell(practice, "tmux has-session -t flowrl_e2_Make_Pickaxe 2>/dev/null\necho $?") == "1\n"
    attached = attach(practice, "flowrl_e0_Collect_Wood")
    try:
        until(lambda: shell(practice, "tmux list-clients -F '#{session_name}'") == "flowrl_e0_Collect_Wood\n", "attaching")
        shell(practice, "tmux detach-client -s flowrl_e0_Collect_Wood")
        assert attached.wait(20) == 0
    finally:
        attached.kill()
    assert in_training(practice, "Collect_Wood"), "detaching ended the training"


def attach(practice: Practice, session: str) -> subprocess.Popen:
    """``tmux attach -t`` in a terminal."""
    ours, terminal = pty.openpty()
    attached = subprocess.Popen(
        ["tmux", "attach", "-t", session], cwd=practice.folder, stdin=terminal, stdout=terminal, stderr=terminal,
        env={**os.environ, "TERM": "xterm"}, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    return attached


def look_at_what_is_finished(practice: Practice) -> None:
    module = shell(practice, "cat exp/parallel_test/training_runs/skill_2_Make_Pickaxe/2.py | head -20")
    assert module.splitlines()[:4] == [
        "# Auto-generated training module for: Make_Pickaxe",
        "# Global expert index: 2",
        "GLOBAL_TO_LOCAL = {0: 0, 1: 1, 2: 2}",
        "LOCAL_TO_GLOBAL = {0: 0, 1: 1, 2: 2}",
    ]
    assert "attempt 1" in shell(practice, "cat exp/parallel_test/skills/0_Collect_Wood/training.log")
    assert "0_Collect_Wood" in shell(practice, "ls -la exp/parallel_test/skills/")
    shell(practice, "rm exp/parallel_test/checkpoints/global.lock")
    (practice.folder / "second").touch()
    assert practice.started[0].wait(60) == 0
    assert practice.paths.library() == {0: "Collect_Wood", 1: "Collect_Stone", 2: "Make_Pickaxe"}
