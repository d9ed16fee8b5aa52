"""``flowrl status --watch`` in real tmux: the screen, and its keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from flowrl.paths import ExperimentPaths
from flowrl.records import state_file
from flowrl.records.scheduler_state import SchedulerState, SkillEntry, Status
from flowrl.report.status.watching import _Watch
from tests.experiment.conftest import make_practice, practice  # noqa: F401 (fixtures)
from tests.experiment.fakes import until
from tests.experiment.starts import CLASSIC, in_training

CHECKOUT = Path(__file__).parents[2]
SCREEN = "screen"


def tmux(*arguments: str) -> str:
    return subprocess.run(["tmux", *arguments], capture_output=True, text=True, check=True).stdout


class Pane:
    """A terminal of its own size, in which the command runs as a person starts it."""

    def __init__(self, folder: Path, graph_path: Path, width: int = 100, height: int = 30):
        command = f"{sys.executable} -m flowrl status {graph_path} --watch --interval 0.1; echo ended with $?; sleep 300"
        environment = {name: value for name, value in os.environ.items() if name not in ("TMUX", "TMUX_PANE")}
        environment |= {"PYTHONPATH": str(CHECKOUT), "HOME": str(folder)}
        start = ["tmux", "new-session", "-d", "-s", SCREEN, "-x", str(width), "-y", str(height)]
        subprocess.run([*start, f"unset TMUX TMUX_PANE; {command}"], env=environment, cwd=folder, check=True)

    def text(self) -> str:
        return tmux("capture-pane", "-p", "-t", f"{SCREEN}:")

    def press(self, key: str) -> None:
        tmux("send-keys", "-t", f"{SCREEN}:", key)

    def shows(self, *texts: str) -> None:
        until(lambda: all(text in self.text() for text in texts), f"{texts} in\n{self.text()}")


@pytest.fixture
def at_work(practice):  # noqa: F811
    """A front door at work: one skill trains, one has failed."""
    gate = practice.folder / "gate"
    wishes = {"Collect_Wood": {"gate": str(gate)}, "Collect_Stone": {"crash_attempts": [1, 2]}}
    skills = {"MARK_SKILLS": json.dumps(["Collect_Wood", "Collect_Stone"])}
    process = practice.start(*CLASSIC, "--max_nodes", "2", "--max_retries", "1", wishes=wishes, **skills)
    until(lambda: in_training(practice, "Collect_Wood"))
    return practice, process, gate


def test_it_is_refreshed_in_place_and_its_keys_show_attach_and_retry(at_work):
    practice, process, gate = at_work  # noqa: F811
    until(lambda: practice.statuses().get("Collect_Stone") == "failed")
    pane = Pane(practice.folder, practice.paths.root)
    pane.shows("Collect_Wood", "1 running", "1 failed", "a scheduler is at work, 2 slots", "q quit")
    pane.press("l")
    pane.shows("1 Collect_Wood  2 Collect_Stone")
    pane.press("1")
    pane.shows("attempt 1 of Collect_Wood begins")
    pane.press("q")
    pane.shows("q quit", "Collect_Wood")
    pane.press("a")
    until(lambda: len(tmux("list-clients").splitlines()) == 1, "an attached client")
    pane.shows("training Collect_Wood")
    tmux("detach-client", "-s", "=flowrl_e0_Collect_Wood")
    pane.shows("q quit")
    pane.press("r")
    until(lambda: practice.statuses()["Collect_Stone"] == "completed", "the retry")
    pane.shows("1 completed")
    gate.touch()
    process.communicate(timeout=120)
    pane.shows("2 completed", "no scheduler on this machine; all is done")
    pane.press("q")
    pane.shows("ended with 0")


def test_it_says_what_a_key_found_nothing_for_and_ends_with_1_where_something_failed(at_work):
    practice, process, gate = at_work  # noqa: F811
    until(lambda: practice.statuses().get("Collect_Stone") == "failed")
    gate.touch()
    process.communicate(timeout=120)
    pane = Pane(practice.folder, practice.paths.root, width=80)
    pane.shows("1 failed", "no scheduler on this machine")
    pane.press("x")  # no such key
    pane.press("a")
    pane.shows("no training to attach to")
    pane.press("q")
    pane.shows("ended with 1")


def watched(tmp_path, *skills: SkillEntry) -> _Watch:
    paths = ExperimentPaths(tmp_path / "exp")
    paths.root.mkdir()
    state_file.save(paths, SchedulerState(skills=list(skills)))
    return _Watch(paths, 1.0, Console())


def test_r_without_a_scheduler_starts_the_command_that_retries(tmp_path):
    watch = watched(tmp_path, SkillEntry(skill_name="Eat_Cow", status=Status.FAILED, error="it died"))
    assert watch._heed("r") == [
        *(sys.executable, "-m", "flowrl.bottomup_parallel"),
        *("--graph_path", str(tmp_path / "exp"), "--retry_failed"),
    ]


def test_r_is_no_start_where_nothing_has_failed(tmp_path):
    watch = watched(tmp_path, SkillEntry(skill_name="Eat_Cow", status=Status.WAITING))
    assert watch._heed("r") is None and "nothing has failed" in watch._said


def test_a_state_that_is_damaged_meanwhile_is_said_and_the_screen_stays(tmp_path):
    watch = watched(tmp_path, SkillEntry(skill_name="Eat_Cow", status=Status.WAITING))
    (tmp_path / "exp/scheduler_state.json").write_text("{")
    watch._look()
    assert "not valid JSON" in watch._said and watch._snapshot.skills[0].skill_name == "Eat_Cow"
