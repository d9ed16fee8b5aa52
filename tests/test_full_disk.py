"""A disk that is full or read-only: complete files stay, the message says what to do, and work resumes once there is
room."""

from __future__ import annotations

import json
import os

import pytest

from flowrl import pickles
from flowrl.errors import NoRoom
from flowrl.files import append_line, read_json, write_whole
from flowrl.parallel.processes import retry_until
from flowrl.parallel.scheduler import SkillScheduler
from flowrl.paths import ExperimentPaths
from flowrl.records.result import Outcome, RunResult
from flowrl.training.host import process
from flowrl.training.run import attempt, parts, saving
from flowrl.training.run.supervision import Stopped
from tests.full_disk import on_a_small_disk
from tests.parallel.fakes.experiments import PATIENCE_S, put_in_library, skill
from tests.parallel.fakes.launcher import FakeLauncher, finish
from tests.parallel.test_training_processor import finished_run, merge, snapshot
from tests.training.test_loop import Alive, Gold, metrics, specification, train


def unfinished(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


@on_a_small_disk
def test_a_file_that_finds_no_room_leaves_the_old_one_and_nothing_else(disk):
    path = disk.root / "state.json"
    write_whole(path, "before")
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "x" * 100_000)
    assert path.read_text() == "before" and unfinished(disk.root) == []


@on_a_small_disk
def test_a_line_that_finds_no_room_leaves_no_half_of_it(disk):
    path = disk.root / "metrics.jsonl"
    append_line(path, '{"update": 1}')
    disk.fill(leave_bytes=4096)
    with pytest.raises(OSError, match="No space left"):
        for _ in range(10):
            append_line(path, json.dumps({"update": 2, "much": "x" * 3000}))
    disk.make_room()
    append_line(path, '{"update": 3}')
    updates = [json.loads(line)["update"] for line in path.read_text().splitlines()]
    assert updates[0] == 1 and updates[-1] == 3 and set(updates[1:-1]) <= {2}


class Watcher(Alive):
    """A lifetime in which the disk fills up at some updates, and has room again once training has said three times that
    it waits."""

    def __init__(self, run, spoilers, restore):
        super().__init__()
        self.run, self.spoilers, self.restore = run, dict(spoilers), restore

    def beat(self, phase, usual_s=0.0):
        super().beat(phase, usual_s)
        num_updates = self.phases.count("training")
        if phase == "training" and (spoil := self.spoilers.pop(num_updates, None)):
            written = self.run.paths.checkpoint(num_updates * 128)  # in the background
            assert retry_until(written.exists, PATIENCE_S)
            spoil()
        elif phase == "paused":
            for path in self.run.paths.checkpoints():
                pickles.load(path)
            assert unfinished(self.run.paths.folder) == []
            if self.phases.count("paused") % 3 == 0:
                self.restore()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(parts, "make_adapter", lambda env_name: Gold())
    monkeypatch.setattr(saving, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(process, "ROOM_POLL_S", 0.0)


@on_a_small_disk
def test_training_waits_for_room_says_so_and_loses_no_frame(disk, quick, capsys):
    run = specification(disk.root, success_rate=1.0, total_timesteps=6 * 128)
    lifetime = Watcher(run, {2: disk.fill, 4: disk.make_read_only}, disk.restore)
    result = train(run, lifetime)
    assert result.frames == 6 * 128 == result.acted_frames["7"]
    assert lifetime.phases.count("paused") == 6
    shown = capsys.readouterr().out
    for why in ("the disk is full", "the disk is read-only"):
        assert shown.count(f"paused: {run.paths.folder} cannot be written ({why}); free disk space or make it writable") == 1
    assert "the disk can be written again; training continues" in run.paths.log.read_text()
    assert metrics(run)[-1]["frames"] == 6 * 128


@on_a_small_disk
def test_a_training_that_waits_for_room_can_be_stopped(disk, quick):
    run = specification(disk.root, success_rate=1.0, total_timesteps=6 * 128)
    lifetime = Watcher(run, {2: disk.fill}, lambda: setattr(lifetime, "beats_left", 0))
    with pytest.raises(Stopped):
        train(run, lifetime)
    assert [path.name for path in run.paths.checkpoints()] == ["checkpoint_128.pkl", "checkpoint_256.pkl"]


@on_a_small_disk
def test_the_outcome_of_a_run_waits_for_room(disk, monkeypatch):
    run = specification(disk.root).paths
    monkeypatch.setattr(process, "ROOM_POLL_S", 0.0)
    with process.Lifetime(run, 2) as lifetime:
        disk.fill()
        beats = []
        monkeypatch.setattr(lifetime, "beat", lambda phase: beats.append(phase) or (len(beats) == 3 and disk.make_room()))
        assert attempt._record(run, lifetime, RunResult(2, Outcome.COMPLETED), 0) == 0
    assert read_json(run.result)["attempt"] == 2 and beats == ["paused"] * 3


def scheduler_on(paths, launcher):
    return SkillScheduler(base_dir=paths.root, max_parallel=1, poll_interval=3600, launcher=launcher)


@on_a_small_disk
def test_a_scheduler_without_room_says_so_and_leaves_and_the_same_command_goes_on(disk):
    paths = ExperimentPaths(disk.root / "exp")

    def end_and_spoil(spec):
        finish(spec)
        disk.fill()

    scheduler = scheduler_on(paths, FakeLauncher(end_and_spoil))
    scheduler.add_skill("A", skill("A"), [])
    scheduler.add_skill("B", skill("B"), ["A"])
    with pytest.raises(
        NoRoom, match=r"cannot be written \(the disk is full\); trainings continue.*free disk space.*same command"
    ):
        scheduler.run({})
    assert [entry["skill_name"] for entry in read_json(paths.state)["skills"]] == ["A", "B"]
    disk.make_room()
    again = scheduler_on(paths, FakeLauncher(finish))
    again.run({})
    assert {entry["status"] for entry in again.state["skills"]} == {"completed"}
    assert {entry["retry_count"] for entry in again.state["skills"]} == {0}
    assert unfinished(disk.root) == []


@on_a_small_disk
@pytest.mark.parametrize("left_pages", range(0, 16, 3))
def test_a_merge_without_room_leaves_whole_experts_and_is_repeated_once_there_is_room(disk, left_pages):
    paths = ExperimentPaths(disk.root / "exp")
    put_in_library(paths.root, 0, "Collect_Wood", 50)
    run = finished_run(paths.root, 1, "Skill_A", {"Collect_Wood": 0}, 80)
    disk.fill(leave_bytes=left_pages * os.sysconf("SC_PAGESIZE"))
    try:
        merge(paths.root, run, 80)
    except OSError as error:
        assert "No space left" in str(error)
    for path in paths.skills.rglob("params.pkl"):
        pickles.load(path)
    disk.make_room()
    assert merge(paths.root, run, 80) == {0: {"action": "updated", "frames": 130}, 1: {"action": "new", "frames": 80}}
    assert unfinished(disk.root) == [] and snapshot(paths.skills)
