"""What an attempt may still write once the next one has begun."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

from flowrl.files import write_json
from flowrl.paths import RunPaths
from flowrl.records import run_record
from flowrl.records.fence import Fence
from flowrl.records.run_record import Launch, Slot
from tests.records.builders import RECORD, write_record


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "skill_3_Collect_Wood"
    folder.mkdir()
    write_record(RunPaths(folder))  # attempt 2
    return RunPaths(folder)


def test_the_newest_attempt_may_write_and_an_older_one_may_not(run):
    assert not Fence(run.run_json, 1).is_open()
    assert Fence(run.run_json, 2).is_open()


def test_a_fence_closes_as_soon_as_the_next_attempt_is_recorded(run):
    fence = Fence(run.run_json, 2)
    assert fence.is_open()
    write_record(run, attempt=3)
    assert not fence.is_open()
    assert fence.newest() == 3


def test_a_fence_is_closed_once_the_runs_folder_is_gone(run):
    fence = Fence(run.run_json, 2)
    assert fence.is_open()
    shutil.rmtree(run.folder)
    assert not fence.is_open()


def test_a_record_that_cannot_be_read_closes_nothing(run):
    fence = Fence(run.run_json, 2)
    run.run_json.write_text("{")
    assert fence.is_open()
    os.remove(run.run_json)
    assert fence.is_open()


def test_an_unchanged_record_is_not_read_again(run, monkeypatch):
    fence, reads = Fence(run.run_json, 2), []
    monkeypatch.setattr(run_record, "attempt", lambda path: reads.append(path) or 2)
    assert all(fence.is_open() for _ in range(3))
    assert len(reads) == 1


def launched(*launches):
    record = RECORD
    for launch in launches:
        record = record.for_attempt(launch, Slot(), None)
    return record


@pytest.mark.parametrize(
    ("attempt", "frames", "newer"),
    [
        (1, 500, None),  # from before the second attempt
        (1, 1000, None),
        (1, 1500, 2),  # the first attempt went on where nobody could see it
        (2, 1500, None),
        (2, 2000, None),
        (2, 2500, 3),
        (1, 2500, 2),
        (3, 9999, None),
    ],
)
def test_a_checkpoint_that_an_attempt_wrote_after_the_next_one_was_launched_is_late(attempt, frames, newer):
    record = launched(Launch(1), Launch(2, 1000), Launch(3, 2000))
    assert record.newer_than(attempt, frames) == newer


def test_the_checkpoints_of_a_trial_are_counted_for_themselves():
    record = launched(Launch(1), Launch(2, frames=0, trial_frames=700))
    assert record.newer_than(1, 700, of_trial=True) is None
    assert record.newer_than(1, 701, of_trial=True) == 2
    assert record.newer_than(1, 1) == 2


def test_a_launch_that_is_repeated_is_recorded_once(run):
    record = launched(Launch(1), Launch(2, 10), Launch(2, 20))
    assert record.launches == (Launch(1), Launch(2, 20))
    run_record.write(run.run_json, record)
    assert run_record.read(run.run_json) == record


def test_a_record_of_an_earlier_version_has_no_launches_and_nothing_is_late(run):
    write_json(run.run_json, {name: value for name, value in run_record.read_json(run.run_json).items() if name != "launches"})
    assert run_record.read(run.run_json).newer_than(1, 10**9) is None


def test_an_attempt_has_got_further_once_it_has_left_a_checkpoint_of_its_own(run):
    record = replace(launched(Launch(1), Launch(2, 100)), attempt=2)
    run.policies.mkdir()
    run.checkpoint(100).touch()
    assert not record.has_got_further(run)
    run.checkpoint(101).touch()
    assert record.has_got_further(run)
