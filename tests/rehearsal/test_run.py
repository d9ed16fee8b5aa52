"""A rehearsal from its preparation to its merge, with the real training of a tiny library."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from flowrl import pickles
from flowrl.envs.registry import game
from flowrl.errors import BadInput
from flowrl.evaluation import library
from flowrl.files import read_json, write_json
from flowrl.parallel.rehearsal_setup import prepare_rehearsal
from flowrl.parallel.training_processor import process_completed_rehearsal
from flowrl.parallel.training_setup import write_launch
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.records import result as run_result
from flowrl.records import run_record
from flowrl.records.rehearsal_settings import RehearsalRequest, RehearsalSettings
from flowrl.records.result import Outcome
from flowrl.records.run_record import Slot
from flowrl.rehearsal import experience, specification
from flowrl.rehearsal.reporting import Reporter
from tests.test_docs import documented

KEPT = Path(__file__).parents[1] / "experiment" / "begun_before" / "version_0_1_0.tar.gz"
SMALL = {"num_envs": 8, "num_steps": 8, "num_minibatches": 2, "update_epochs": 1}
FRAMES_A_UPDATE = 64
PATIENCE_S = 240


@pytest.fixture
def paths(tmp_path):
    """An experiment with one skill, Collect_Wood, with a tiny network."""
    with tarfile.open(KEPT) as archive:
        archive.extractall(tmp_path / "exp", filter="data")
    return ExperimentPaths(tmp_path / "exp")


def prepared(paths, frames=4 * FRAMES_A_UPDATE, name="rehearsal_1", **settings) -> RunPaths:
    request = RehearsalRequest(frames, RehearsalSettings(**settings), SMALL)
    return prepare_rehearsal(name, RehearsalRequest.of(json.loads(json.dumps(request.to_data()))), paths.root)


def begun(run: RunPaths, attempt: int = 1) -> subprocess.Popen:
    write_launch(run.folder, attempt, Slot())
    command = [sys.executable, "-m", "flowrl.rehearsal", str(run.folder)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def rehearsed(run: RunPaths, attempt: int = 1) -> run_result.RunResult:
    process = begun(run, attempt)
    words, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, words
    return run_result.read(run.result)


def expert_in_library(paths) -> dict:
    return pickles.load(paths.expert_params(0, "Collect_Wood"))


def test_experts_learn_and_are_merged_with_the_frames_that_they_were_trained(paths):
    before = expert_in_library(paths)
    trained_before = library.frames_trained(paths)
    run = prepared(paths)
    result = rehearsed(run)
    frames = 4 * FRAMES_A_UPDATE
    assert (result.outcome, result.frames, result.acted_frames) == (Outcome.COMPLETED, frames, {"0": frames})
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [line["frames"] for line in lines] == [FRAMES_A_UPDATE * number for number in range(1, 5)]
    assert documented("rehearsals/<n>/metrics.jsonl") == lines[0].keys()
    assert lines[0]["skills"]["Collect_Wood"]["share"] == 1.0 and lines[0]["num_goals"] == 22
    assert "achievements" in run.log.read_text()
    assert library.frames_trained(paths) == trained_before + frames

    merged = process_completed_rehearsal(run.folder, paths.root, frames)
    total = before["metadata"]["total_frames"] + frames
    assert merged == {"expert_updates": {0: {"action": "updated", "frames": total}}}
    after = expert_in_library(paths)
    assert after["metadata"]["total_frames"] == total
    assert after["metadata"]["acted_frames"] == before["metadata"]["acted_frames"] + frames
    assert not np.array_equal(bias_of(before), bias_of(after))
    assert not run.folder.exists()
    kept = paths.rehearsal_records("rehearsal_1")
    assert {"run.json", "result.json", "metrics.jsonl", "training.log", "merge.json"} <= {path.name for path in kept.iterdir()}
    assert library.frames_trained(paths) == trained_before + frames
    assert process_completed_rehearsal(run.folder, paths.root, frames) == merged  # once more changes nothing
    assert expert_in_library(paths)["metadata"]["total_frames"] == total


def bias_of(expert) -> np.ndarray:
    return np.asarray(expert["params"]["actor"]["torso"]["Dense_1"]["bias"])


def test_one_that_was_asked_to_stop_goes_on_from_its_checkpoint(paths):
    run = prepared(paths, frames=400 * FRAMES_A_UPDATE)
    process = begun(run)
    end_s = time.monotonic() + PATIENCE_S
    while not run.metrics.exists() and time.monotonic() < end_s and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    words, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143, words
    frames = run.checkpointed_frames
    assert 0 < frames < 400 * FRAMES_A_UPDATE and not run.result.exists()
    assert set(read_json(run.experience)) == {"Collect_Wood"}

    again = prepared(paths, frames=frames + 2 * FRAMES_A_UPDATE)
    result = rehearsed(again, attempt=2)
    assert result.frames == frames + 2 * FRAMES_A_UPDATE
    assert f"continuing from frame {frames:,} (attempt 2)" in run.log.read_text()


def test_it_plays_the_library_as_it_was_when_it_was_prepared(paths):
    run = prepared(paths)
    expected = bias_of(expert_in_library(paths))
    paths.expert_params(0, "Collect_Wood").unlink()
    read = specification.read(run.folder)
    assert [skill.name for skill in read.library.skills] == ["Collect_Wood"]
    assert np.array_equal(bias_of({"params": read.experts[0].params}), expected)
    assert read.settings.total_timesteps == 4 * FRAMES_A_UPDATE and read.settings.layer_size == 4
    assert read.rehearsal == RehearsalSettings()


def test_its_settings_are_the_experiments_unless_others_are_asked_for(paths):
    run = prepared(paths, own_reward=0.25, restore_below=0.0)
    record = run_record.read(run.run_json)
    stored = read_json(paths.config)
    assert record.settings.num_envs == 8 and record.settings.lr == stored["lr"]
    assert (record.rehearsal.own_reward, record.rehearsal.restore_below) == (0.25, 0.0)
    assert not record.settings.stop_at_goal


def test_a_library_without_a_skill_cannot_rehearse(tmp_path):
    with pytest.raises(BadInput, match="has no completed skill to rehearse; train some first"):
        prepared(ExperimentPaths(tmp_path))


def test_a_missing_file_is_named_and_nothing_is_prepared(paths):
    paths.skill_module(0, "Collect_Wood").unlink()
    with pytest.raises(BadInput, match=r"0\.py is missing; restore it"):
        prepared(paths)
    assert not RunPaths(paths.run_folder(None, "rehearsal_1")).run_json.exists()


def test_a_skills_run_is_no_rehearsal(paths):
    run = prepared(paths)
    record = read_json(run.run_json)
    del record["rehearsal"]
    write_json(run.run_json, record)
    with pytest.raises(BadInput, match="is the run of a skill, not a rehearsal"):
        specification.read(run.folder)


def test_skills_count_as_good_as_their_training_measured_and_then_as_was_seen(paths, tmp_path):
    found = library.load(paths, game("Craftax-Classic-Symbolic-v1").facts)
    rate = found.skills[0].result.tasks[-1].success_rate
    known = experience.found(tmp_path / "none.json", found)
    assert known.success.tolist() == [pytest.approx(rate)] and known.steps.tolist() == [experience.GUESSED_STEPS]
    kept = tmp_path / "experience.json"
    write_json(kept, {"Collect_Wood": {"success": 0.25, "steps": 12.0}})
    known = experience.found(kept, found)
    assert known.to_data(["Collect_Wood"]) == {"Collect_Wood": {"success": 0.25, "steps": 12.0}}
    write_json(kept, {"Eat_Cow": {}})
    with pytest.raises(BadInput, match="lacks the success rates of some skills; remove it"):
        experience.found(kept, found)


def test_figures_are_about_the_latest_episodes_of_all_attempts(paths):
    run = specification.read(prepared(paths).folder)
    run.paths.metrics.write_text(json.dumps({"achievements": 10.0, "episode_steps": 200.0, "episodes": 700}) + "\n")
    reporter = Reporter(run, 22, None)
    assert (reporter.achievements, reporter.episode_steps, reporter.episodes) == (10.0, 200.0, 700)
    reporter._unlocked.extend([12] * 200)
    reporter._lengths.extend([300] * 200)
    # 600 of the earlier ones are still among the latest 800.
    assert (reporter.achievements, reporter.episode_steps, reporter.episodes) == (10.5, 225.0, 800)
    run.paths.metrics.write_text('{"achie')
    assert Reporter(run, 22, None).achievements is None
