"""``flowrl rehearse``: once as a user types it, in real tmux; and what it refuses."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from flowrl.__main__ import main
from flowrl.config import RehearsalArguments, Settings
from flowrl.envs.registry import GAMES
from flowrl.errors import BadInput
from flowrl.evaluation import library
from flowrl.experiment import preflight
from flowrl.files import read_json, write_json
from flowrl.paths import ExperimentPaths
from flowrl.records.rehearsal_settings import RehearsalSettings

KEPT = Path(__file__).parents[1] / "experiment" / "begun_before" / "version_0_1_0.tar.gz"
SMALL = ["--num_envs", "8", "--num_steps", "8", "--num_minibatches", "2", "--update_epochs", "1"]
PATIENCE_S = 300


@pytest.fixture
def paths(tmp_path):
    """An experiment with one skill, Collect_Wood, with a tiny network."""
    with tarfile.open(KEPT) as archive:
        archive.extractall(tmp_path / "exp", filter="data")
    paths = ExperimentPaths(tmp_path / "exp")
    shutil.rmtree(paths.training_runs, ignore_errors=True)  # it had more skills; the command would train them as well
    for state in (paths.state, paths.previous_state):
        state.unlink(missing_ok=True)
    return paths


def test_a_library_rehearses_in_a_session_and_is_merged(paths):
    command = [sys.executable, "-m", "flowrl", "rehearse", str(paths.root), "--frames", "128", *SMALL]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "watch: tmux attach -t flowrl_rehearsal_1" in done.stdout and "completed  rehearsal_1" in done.stdout
    assert next(line for line in done.stdout.splitlines() if line.split()[:3] == ["rehearsal_1", "completed", "128"])
    state = read_json(paths.state)
    assert [(entry["skill_name"], entry["frames"]) for entry in state["rehearsals"]] == [("rehearsal_1", 128)]
    assert [skill["status"] for skill in state["skills"]] == ["completed"]
    stored = read_json(paths.config)
    assert (paths.rehearsal_records("rehearsal_1") / "metrics.jsonl").exists() and stored["num_envs"] != 8


def refused(arguments, capsys) -> str:
    assert main(["rehearse", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_folder_without_an_experiment_is_refused(tmp_path, capsys):
    assert "holds no experiment" in refused([str(tmp_path)], capsys)


def test_an_empty_library_is_refused(paths, capsys):
    shutil.rmtree(paths.skills)
    assert "has no completed skill to rehearse; train some first" in refused([str(paths.root)], capsys)


@pytest.mark.parametrize("name", ["run.json", "skill.json", "0.py", "expert_0_policy/params.pkl"])
def test_a_missing_file_is_named_and_no_rehearsal_is_begun(name, paths, capsys):
    (paths.skill_folder(0, "Collect_Wood") / name).unlink()
    assert f"{name} is missing" in refused([str(paths.root)], capsys)
    assert not paths.rehearsals()


def test_a_damaged_expert_is_named_and_no_rehearsal_is_begun(paths, capsys):
    params = paths.expert_params(0, "Collect_Wood")
    params.write_bytes(params.read_bytes()[:200])
    assert f"{params} is not a flowrl file" in refused([str(paths.root)], capsys)
    assert not paths.rehearsals()


def test_a_skill_of_another_game_is_refused(paths, capsys):
    record = paths.skill_folder(0, "Collect_Wood") / "run.json"
    write_json(record, read_json(record) | {"env_name": "Craftax-Symbolic-v1"})
    words = "was trained on Craftax-Symbolic-v1, and the experiment's game is Craftax-Classic-Symbolic-v1"
    assert words in refused([str(paths.root)], capsys)
    assert not paths.rehearsals()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--num_minibatches", "7", "--num_envs", "8", "--num_steps", "8"], "--num_minibatches 7 does not divide"),
        (["--frames", "63", *SMALL], "--frames must be at least the frames of an update"),
        (["--own_reward", "-1"], "--own_reward must be 0 or more"),
        (["--restore_below", "5", "--restore_until", "3"], "--restore_until 3 is below --restore_below 5"),
        (["--gamma", "1.5"], "--gamma must be from 0 to 1"),
        (["--framse", "10"], "--frames"),
    ],
)
def test_bad_flags_are_refused_in_one_line(flags, words, paths, capsys):
    assert words in refused([str(paths.root), *flags], capsys)
    assert not paths.rehearsals()


def test_flags_are_checked_together_with_the_experiments_own_settings(paths):
    given = RehearsalArguments(graph_path=paths.root, num_envs=64, frames=10**6)
    given.check(Settings(num_envs=128, num_steps=8, num_minibatches=4))
    with pytest.raises(BadInput, match="--num_minibatches 3 does not divide"):
        given.check(Settings(num_envs=96, num_steps=8, num_minibatches=3))


def test_a_vital_may_never_be_restored():
    assert RehearsalSettings(restore_below=0, restore_until=0).own()["restore_below"] == 0


@pytest.mark.parametrize("lacking", ["goals", "own_reward"])
def test_a_game_without_goals_or_its_own_reward_is_refused(lacking, monkeypatch):
    entry = GAMES["Craftax-Classic-Symbolic-v1"]
    facts = dataclasses.replace(entry.facts, goal_values={}, vitals=(), **{lacking: ""})
    monkeypatch.setattr(preflight, "game", lambda name: type("Entry", (), {"facts": facts}))
    with pytest.raises(BadInput, match="a rehearsal needs a game that declares goals and its own reward"):
        preflight.check_rehearsal(Settings())


def test_frames_of_a_failed_run_are_those_of_its_checkpoint(paths):
    before = library.frames_trained(paths)
    run = paths.training_runs / "rehearsal_1"
    (run / "policies").mkdir(parents=True)
    (run / "policies" / "checkpoint_4096.pkl").touch()
    write_json(run / "result.json", {"attempt": 1, "outcome": "failed", "error": "planted"})
    assert library.frames_trained(paths) == before + 4096
