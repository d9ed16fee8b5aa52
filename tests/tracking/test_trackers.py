"""Reports are written with the real wandb, offline, and read back from what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from flowrl.parallel.training_setup import prepare_training_run
from flowrl.tracking import trackers
from tests.training.test_loop import DONE, PAY, SETTINGS

ROOT = Path(__file__).parents[2]
SOME_KEY = "0123456789" * 4
NO_SERVER = "http://127.0.0.1:9"  # the discard port: nothing listens there


@pytest.fixture(autouse=True)
def nobody_is_logged_in(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB_") or name == "NETRC"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def report(tmp_path):
    """Runs lines of Python with a tracker in a process of their own (wandb keeps state in its process)."""

    def run(lines, **environ):
        start = f"""
            import pathlib
            from PIL import Image
            from flowrl.tracking import trackers
            trackers.START_LIMIT_S = trackers.FINISH_LIMIT_S = 2
            folder = pathlib.Path({str(tmp_path)!r})
            said = []
            def track(name="3_Collect_Wood", project="flow_rl_parallel"):
                return trackers.wandb_tracker(project, "my_experiment", name, {{"lr": 2e-4, "plan": ["a"]}}, folder,
                said.append)
        """
        code = textwrap.dedent(start) + textwrap.dedent(lines)
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def offline_runs(folder):
    return sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))


def records(path):
    """The records of wandb's own file: a log in LevelDB's format, of protocol buffers."""
    from wandb.proto import wandb_internal_pb2

    data, position, partial = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        block_left = 32768 - position % 32768
        if block_left < 7:
            position += block_left
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        partial += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(partial)
            partial = b""


def values(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


class Written:
    """What one offline run says."""

    def __init__(self, path):
        everything = list(records(path))
        run = next(record.run for record in everything if record.WhichOneof("record_type") == "run")
        self.project, self.group, self.name, self.run_id = run.project, run.run_group, run.display_name, run.run_id
        self.config = values(run.config.update)
        self.history = [values(record.history.item) for record in everything if record.HasField("history")]
        self.summary = {}
        for record in everything:
            self.summary |= values(record.summary.update)
        self.exit_code = next((record.exit.exit_code for record in everything if record.HasField("exit")), None)
        self.printed = [record for record in everything if record.HasField("output_raw") or record.HasField("output")]
        self.step_metrics = {record.metric.step_metric for record in everything if record.HasField("metric")}


def test_a_run_is_written_offline_with_config_metrics_and_summary(report, tmp_path):
    done = report(
        """
        tracker = track()
        print("printed by the run")
        tracker.log(8192, {"success_rate": None, "reward": 0.5})
        tracker.log(16384, {"success_rate": 0.25, "reward": 0.75})
        tracker.finish({"success_rate": 0.875, "goal_reached": True}, failed=False)
        assert said == []
        """,
        WANDB_MODE="offline",
    )
    # Nothing is printed but what the run itself prints.
    assert (done.returncode, done.stdout, done.stderr) == (0, "printed by the run\n", "")
    [path] = offline_runs(tmp_path)
    written = Written(path)
    assert (written.project, written.group, written.name) == ("flow_rl_parallel", "my_experiment", "3_Collect_Wood")
    assert written.config["lr"] == 2e-4 and written.config["plan"] == ["a"]
    seen = [{name: value for name, value in row.items() if not name.startswith("_")} for row in written.history]
    assert seen == [{"frames": 8192, "reward": 0.5}, {"frames": 16384, "reward": 0.75, "success_rate": 0.25}]
    assert written.summary["success_rate"] == 0.875 and written.summary["goal_reached"] is True
    assert written.exit_code == 0
    assert "frames" in written.step_metrics
    assert written.printed == []


TRAIN = """
import dataclasses
import sys
from flowrl.records.result import Outcome, RunResult
from flowrl.training import __main__ as command
def one_update(run, tracker, lifetime):
    tracker.log(128, {"reward": 0.5})
    return RunResult(run.attempt, Outcome.COMPLETED, run.skill_name, frames=128)
command.TRAINING = dataclasses.replace(command.TRAINING, train=one_update)
sys.exit(max(command.main([folder]) for folder in sys.argv[1:]))
"""


def trained(base_dir, use_wandb):
    """Skills of one experiment, trained with the real command except for the updates; returns their run folders."""
    folders = []
    for index, (name, is_reported) in enumerate(use_wandb.items()):
        data = {"skill_name": name, "task_is_done": DONE, "task_reward": PAY}
        settings = SETTINGS | {"use_wandb": is_reported, "wandb_project": "my_project"}
        folders.append(prepare_training_run(name, data, index, [], {}, base_dir, settings=settings)[0])
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    command = [sys.executable, "-c", TRAIN, *map(str, folders)]
    done = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and all((folder / "result.json").exists() for folder in folders), done.stderr
    return folders


def test_each_skill_of_an_experiment_is_one_run_of_its_group_if_asked_for(tmp_path):
    names = {"Find_Gold": True, "Find_More": True, "Keep_Quiet": False}
    *reported, quiet = trained(tmp_path / "my_experiment", use_wandb=names)
    assert not (quiet / "wandb").exists()
    first, second = (Written(path) for folder in reported for path in offline_runs(folder))
    assert (first.project, first.group, first.name) == ("my_project", "my_experiment", "0_Find_Gold")
    assert (second.project, second.group, second.name) == ("my_project", "my_experiment", "1_Find_More")
    assert first.run_id != second.run_id
    for name, written in zip(names, (first, second)):
        assert {setting: written.config[setting] for setting in SETTINGS} == SETTINGS
        assert [(task["skill_name"], task["n"]) for task in written.config["plan"]] == [(name, 1)]
        assert [(row["frames"], row["reward"]) for row in written.history] == [(128, 0.5)]
        assert written.summary["frames"] == 128 and written.exit_code == 0


def test_a_later_attempt_adds_to_the_same_run_until_it_is_completed(report, tmp_path):
    attempt = """
        tracker = track()
        tracker.log(100, {"reward": 1.0})
        tracker.finish({}, failed=FAILED)
    """
    for failed in ("True", "False", "False"):
        assert report(attempt.replace("FAILED", failed), WANDB_MODE="offline").returncode == 0
    exit_codes: dict[str, list[int]] = {}
    for run in map(Written, offline_runs(tmp_path)):
        exit_codes.setdefault(run.run_id, []).append(run.exit_code)
    assert sorted(map(sorted, exit_codes.values())) == [[0], [0, 1]]


def files_of(path) -> dict[str, list[str]]:
    """By the type of each artifact that a run has logged, its files."""
    found = (record.artifact for record in records(path) if record.WhichOneof("record_type") == "artifact")
    return {artifact.type: [entry.path for entry in artifact.manifest.contents] for artifact in found}


def test_a_run_has_its_module_as_its_code(tmp_path):
    (folder,) = trained(tmp_path / "my_experiment", use_wandb={"Find_Gold": True})
    (path,) = offline_runs(folder)
    assert files_of(path) == {"code": ["0.py"]}
    assert json.loads((folder / "wandb_run.json").read_text()) == {"id": Written(path).run_id, "project": "my_project"}


def test_a_film_is_added_to_the_run_of_its_skill(report, tmp_path):
    done = report(
        """
        track().finish({}, failed=False)
        Image.new("RGB", (8, 8)).save(folder / "Wood.gif")
        assert trackers.add_film(folder, folder / "Wood.gif", "film", said.append), said
        assert not trackers.add_film(folder / "of_another", folder / "Wood.gif", "film", said.append) and said == []
        """,
        WANDB_MODE="offline",
    )
    assert done.returncode == 0, done.stderr
    paths = offline_runs(tmp_path)
    assert len({Written(path).run_id for path in paths}) == 1
    assert [row["film/_type"] for path in paths for row in Written(path).history] == ["video-file"]


def test_a_film_that_wandb_does_not_take_is_said_and_costs_nothing(report):
    done = report(
        """
        import wandb
        track().finish({}, failed=False)
        Image.new("RGB", (8, 8)).save(folder / "Wood.gif")
        wandb.Video = None
        assert not trackers.add_film(folder, folder / "Wood.gif", "film", said.append)
        assert len(said) == 1 and said[0].startswith("wandb did not take Wood.gif (") and "; it is in " in said[0], said
        """,
        WANDB_MODE="offline",
    )
    assert done.returncode == 0, done.stderr


def test_without_a_key_it_is_one_clear_line_and_no_question(report):
    done = report(
        """
        try:
            track()
        except Exception as error:
            print(type(error).__name__, error)
        """
    )
    assert done.returncode == 0
    assert done.stdout.startswith("BadInput ") and "WANDB_API_KEY" in done.stdout and done.stdout.count("\n") == 1


def test_without_a_server_the_run_is_reported_offline_and_says_so(report, tmp_path):
    done = report(
        """
        folder = folder / "training_runs" / "skill_3_Collect_Wood"
        folder.mkdir(parents=True)
        tracker = track()
        tracker.log(100, {"reward": 1.0})
        tracker.finish({}, failed=False)
        print(*said, sep="\\n")
        """,
        WANDB_API_KEY=SOME_KEY,
        WANDB_BASE_URL=NO_SERVER,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1 and "offline" in done.stdout
    # Where they are once the run is merged: see test_training_processor.
    assert f"wandb sync {tmp_path}/skills/3_Collect_Wood/wandb/offline-run-*" in done.stdout
    [path] = offline_runs(tmp_path / "training_runs" / "skill_3_Collect_Wood")
    assert Written(path).history[0]["reward"] == 1.0


def test_a_run_goes_on_when_the_process_of_wandb_dies(report):
    done = report(
        """
        import psutil
        tracker = track()
        for child in psutil.Process().children():
            child.kill()
            child.wait()
        for update in range(50):
            tracker.log(update, {"reward": 1.0})
        tracker.finish({}, failed=False)
        print("trained to the end;", *said)
        """,
        WANDB_MODE="offline",
    )
    assert done.returncode == 0
    assert done.stdout.startswith("trained to the end; wandb failed (")


def test_a_project_name_that_wandb_refuses_is_bad_input(report):
    done = report(
        """
        try:
            track(project="a/b")
        except Exception as error:
            print(type(error).__name__, error)
        """,
        WANDB_MODE="offline",
    )
    assert done.stdout.startswith("BadInput wandb refuses to report 3_Collect_Wood"), (done.stdout, done.stderr)


def test_no_tracker_takes_everything_and_keeps_nothing(tmp_path):
    tracker = trackers.no_tracker()
    tracker.log(1, {"reward": 1.0})
    tracker.finish({}, failed=True)
    assert list(tmp_path.iterdir()) == []


def test_importing_the_module_does_not_import_wandb():
    code = "import sys, flowrl.tracking.trackers; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0
