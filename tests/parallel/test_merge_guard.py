"""Before one of two versions of an expert is given up, both are measured."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from flowrl import pickles
from flowrl.files import read_json
from flowrl.parallel import training_processor
from flowrl.parallel.events import Merged
from flowrl.parallel.library.locks import WaitGivenUp, waiting_unless
from flowrl.parallel.merge_guard import MergeGuard
from flowrl.parallel.merges import Merges
from flowrl.parallel.processes import retry_until
from flowrl.parallel.training_processor import MOST_MEASUREMENTS, process_completed_training
from flowrl.paths import ExperimentPaths
from flowrl.records import run_record
from flowrl.records.process_id import ProcessId
from flowrl.records.run_record import RunRecord
from flowrl.records.scheduler_state import SkillEntry, Stage, Status
from tests.parallel.fakes.experiments import PATIENCE_S, put_in_library
from tests.parallel.test_training_processor import expert, finished_run

FAKE = str(Path(__file__).parent / "fakes" / "measuring.py")
WOOD = "Collect_Wood"


def guard_that(how: str, **more) -> MergeGuard:
    return MergeGuard(command=(sys.executable, FAKE, how), **more)


def no_guard_may_be_called(*_):
    raise AssertionError("measured where nothing competes")


def merge(paths: ExperimentPaths, run, frames: int, guard, **how) -> dict:
    """What ``merge.json`` says about each expert."""
    process_completed_training(run.folder, run.skill_name, run.expert_idx, paths.root, frames, guard=guard, **how)
    return read_json(paths.skill_folder(run.expert_idx, run.skill_name) / "merge.json")["expert_updates"]


def measurements(paths: ExperimentPaths) -> list[int]:
    """The pids of the processes that measured."""
    log = paths.root / "measured.log"
    return [int(line) for line in log.read_text().split()] if log.exists() else []


@pytest.fixture
def wood(experiment) -> ExperimentPaths:
    """A library of one skill, with the record of its run."""
    put_in_library(experiment.root, 0, WOOD, 50, acted_frames=40)
    return experiment


@pytest.fixture
def side_by_side(wood):
    """Two runs on top of the library's expert, of which the shorter one is merged: the longer one's version competes."""
    shorter = finished_run(wood.root, 1, "Skill_A", {WOOD: 0}, 80, acted={"0": 30, "1": 50})
    longer = finished_run(wood.root, 2, "Skill_B", {WOOD: 0}, 100, acted={"0": 60, "2": 40})
    merge(wood, shorter, 80, no_guard_may_be_called)
    add_record(wood, longer)
    return wood, longer


def add_record(paths: ExperimentPaths, run) -> None:
    """As if the library's skill had been trained: with ``run.json``."""
    record = run_record.read(run.run_json)
    own = RunRecord(**{**record.__dict__, "skill_name": WOOD, "global_expert_idx": 0, "plan": record.plan[:1]})
    run_record.write(paths.skill_folder(0, WOOD) / "run.json", own)


def test_a_worse_version_with_more_frames_does_not_replace_the_librarys(side_by_side):
    paths, longer = side_by_side
    update = merge(paths, longer, 100, guard_that("library"))["0"]
    assert expert(paths, 0, WOOD) == (150, 1)  # its age is the larger of both
    assert update["action"] == "kept" and update["frames"] == 150
    found = update["competition"]
    assert found["decided_by"] == "measured" and found["lost_acted_frames"] == 60 and found["episodes"] == 256
    assert found["had_competitor"]
    assert (found["library_success_rate"], found["run_success_rate"], found["not_measured"]) == (1.0, 0.0, None)
    assert found["difference"] == {"value": -1.0, "low": -1.01, "high": -0.99}
    assert pickles.load(paths.expert_params(0, WOOD))["metadata"]["acted_frames"] == 70
    assert len(measurements(paths)) == 1


def test_a_better_version_with_fewer_frames_replaces_the_librarys_and_takes_its_age(wood):
    shorter = finished_run(wood.root, 1, "Skill_A", {WOOD: 0}, 80, acted={"0": 30, "1": 50})
    longer = finished_run(wood.root, 2, "Skill_B", {WOOD: 0}, 100, acted={"0": 60, "2": 40})
    merge(wood, longer, 100, no_guard_may_be_called)
    add_record(wood, shorter)
    update = merge(wood, shorter, 80, guard_that("run"))["0"]
    assert (update["action"], update["frames"], update["competition"]["lost_acted_frames"]) == ("updated", 150, 60)
    assert expert(wood, 0, WOOD) == (150, 1)


def test_where_neither_is_better_the_rule_by_frames_decides(side_by_side):
    paths, longer = side_by_side
    update = merge(paths, longer, 100, guard_that("equal"))["0"]
    assert expert(paths, 0, WOOD) == (150, 2)
    assert update["action"] == "updated" and update["competition"]["decided_by"] == "frames"
    assert update["competition"]["run_success_rate"] == 1.0 and update["competition"]["lost_acted_frames"] == 30


@pytest.fixture
def alone(wood):
    """A run that has trained the library's expert, and no other has."""
    run = finished_run(wood.root, 1, "Skill_A", {WOOD: 0}, 80, acted={"0": 30, "1": 50})
    add_record(wood, run)
    return wood, run


def test_a_version_without_a_competitor_is_measured_if_that_is_asked_for(alone):
    paths, run = alone
    updates = merge(paths, run, 80, guard_that("library"), guard_changes=True)
    assert expert(paths, 0, WOOD) == (50, 50)  # what the run started from
    assert (updates["0"]["action"], updates["0"]["frames"], updates["1"]["action"]) == ("kept", 50, "new")
    found = updates["0"]["competition"]
    assert (found["decided_by"], found["lost_acted_frames"], found["episodes"]) == ("measured", 30, 256)
    assert not found["had_competitor"]
    assert len(measurements(paths)) == 1 and "competition" not in updates["1"]


def test_a_merge_without_a_competitor_that_was_killed_changes_nothing_when_it_is_repeated(alone, monkeypatch):
    paths, run = alone

    def die(*_):
        raise Killed

    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(training_processor, "archive_run", die)
            merge(paths, run, 80, guard_that("library"), guard_changes=True)
    assert merge(paths, run, 80, no_guard_may_be_called, guard_changes=True)["0"]["frames"] == 50
    assert expert(paths, 0, WOOD) == (50, 50) and len(measurements(paths)) == 1


@pytest.mark.parametrize("how", ["run", "equal", "fails"])
def test_a_version_without_a_competitor_that_is_not_worse_replaces_the_librarys(alone, how):
    paths, run = alone
    update = merge(paths, run, 80, guard_that(how), guard_changes=True)["0"]
    assert expert(paths, 0, WOOD) == (130, 1) and (update["action"], update["frames"]) == ("updated", 130)
    found = update["competition"]
    assert found["decided_by"] == ("measured" if how == "run" else "frames") and found["lost_acted_frames"] == 0
    assert (found["not_measured"] is not None) == (how == "fails")


def test_a_version_without_a_competitor_is_not_measured_otherwise(alone):
    paths, run = alone
    update = merge(paths, run, 80, no_guard_may_be_called)["0"]
    assert update == {"action": "updated", "frames": 130}


def test_an_expert_that_did_not_act_is_not_measured_even_if_that_is_asked_for(wood):
    run = finished_run(wood.root, 1, "Skill_A", {WOOD: 0}, 80, acted={"0": 0, "1": 80})
    assert merge(wood, run, 80, no_guard_may_be_called, guard_changes=True)["0"]["action"] == "kept"


def test_what_was_kept_is_not_thrown_out_by_frames_alone(side_by_side):
    """A third run from the first start, longer than the version that was kept and shorter than the one that lost."""
    paths, longer = side_by_side
    put_back = pickles.load(paths.expert_params(0, WOOD))
    put_in_library(paths.root, 0, WOOD, 50, acted_frames=40)
    third = finished_run(paths.root, 3, "Skill_C", {WOOD: 0}, 90, acted={"0": 50, "3": 40})
    pickles.dump(paths.expert_params(0, WOOD), put_back)
    merge(paths, longer, 100, guard_that("library"))
    update = merge(paths, third, 90, guard_that("fails"))["0"]
    assert update["action"] == "kept" and expert(paths, 0, WOOD) == (150, 1)


def test_a_run_that_began_with_the_kept_version_before_it_was_measured_continues_it(side_by_side):
    paths, longer = side_by_side
    later = finished_run(paths.root, 3, "Skill_C", {WOOD: 0}, 10, acted={"0": 5, "3": 5})  # from the library's (130)
    merge(paths, longer, 100, guard_that("library"))  # which becomes 150 old
    update = merge(paths, later, 10, no_guard_may_be_called)["0"]
    assert update == {"action": "updated", "frames": 160} and expert(paths, 0, WOOD) == (160, 3)


def test_without_another_merge_meanwhile_nothing_is_measured(wood):
    run = finished_run(wood.root, 1, "Skill_A", {WOOD: 0}, 80)
    assert merge(wood, run, 80, no_guard_may_be_called)["0"] == {"action": "updated", "frames": 130}


def test_a_version_that_did_not_act_does_not_compete(wood):
    first = finished_run(wood.root, 1, "Skill_A", {WOOD: 0}, 80)
    idle = finished_run(wood.root, 2, "Skill_B", {WOOD: 0}, 100, acted={"0": 0, "2": 100})
    merge(wood, first, 80, None)
    assert merge(wood, idle, 100, no_guard_may_be_called)["0"] == {"action": "kept", "frames": 130}


def test_a_new_expert_does_not_compete_even_if_it_began_as_a_copy(wood):
    run = finished_run(wood.root, 1, "Skill_A", {WOOD: 0}, 80)
    started = pickles.load(run.initial)
    pickles.dump(run.initial, started | {"experts": started["experts"] | {"1": started["experts"]["0"]}})
    assert merge(wood, run, 80, no_guard_may_be_called)["1"] == {"action": "new", "frames": 80}


def test_without_the_guard_what_is_lost_is_recorded(side_by_side):
    paths, longer = side_by_side
    found = merge(paths, longer, 100, None)["0"]["competition"]
    assert (found["decided_by"], found["lost_acted_frames"], found["not_measured"]) == ("frames", 30, None)


@pytest.mark.parametrize(
    ("guard", "why"),
    [
        (guard_that("fails"), "memory ran out"),
        (guard_that("no_answer"), "answer.json"),
        (guard_that("killed"), "SIGKILL ended the process that plays, perhaps for lack of memory"),
        (guard_that("sleeps", timeout_s=0.0), "it took more than 0 s"),
        (MergeGuard(command=("/no/such/command",)), "No such file"),
    ],
    ids=["fails", "no answer", "killed", "too long", "cannot start"],
)
def test_a_measurement_that_comes_to_nothing_leaves_it_to_frames_and_says_so(side_by_side, guard, why):
    paths, longer = side_by_side
    update = merge(paths, longer, 100, guard)["0"]
    assert expert(paths, 0, WOOD) == (150, 2)
    assert update["competition"]["decided_by"] == "frames" and why in update["competition"]["not_measured"]
    (line,) = [
        line for line in (paths.skill_folder(2, "Skill_B") / "training.log").read_text().splitlines() if "merge:" in line
    ]
    assert why in line and WOOD in line
    assert all(not is_alive(pid) for pid in measurements(paths))


def test_an_expert_that_cannot_be_played_is_named_and_the_rest_is_merged(side_by_side):
    paths, longer = side_by_side
    (paths.skill_folder(0, WOOD) / "run.json").unlink()  # as in a migrated library
    update = merge(paths, longer, 100, guard_that("library"))["0"]
    assert update["action"] == "updated" and "run.json is missing" in update["competition"]["not_measured"]
    assert measurements(paths) == []


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_merge_that_was_killed_after_measuring_does_not_measure_again(side_by_side, monkeypatch):
    paths, longer = side_by_side

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(training_processor, "planned_update", die)
        merge(paths, longer, 100, guard_that("library"))
    assert longer.measured.exists() and not (longer.folder / "merge.json").exists()
    assert merge(paths, longer, 100, guard_that("run"))["0"]["action"] == "kept"
    assert len(measurements(paths)) == 1


def test_a_merge_that_was_killed_after_deciding_decides_the_same(side_by_side, monkeypatch):
    paths, longer = side_by_side

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(training_processor, "archive_run", die)
        merge(paths, longer, 100, guard_that("library"))
    assert merge(paths, longer, 100, no_guard_may_be_called)["0"]["action"] == "kept"
    assert expert(paths, 0, WOOD) == (150, 1)


def test_what_was_measured_of_other_versions_counts_for_nothing(side_by_side):
    paths, longer = side_by_side
    guard, changes = guard_that("library"), iter(range(1))

    def guard_while_another_merges(*asked):
        measure = guard(*asked)

        def measured():
            outcomes = measure()
            for _ in changes:
                put_in_place(paths, weight=77, total_frames=140)
            return outcomes

        return measured

    assert merge(paths, longer, 100, guard_while_another_merges)["0"]["competition"]["decided_by"] == "measured"
    assert expert(paths, 0, WOOD) == (150, 77)
    assert len(measurements(paths)) == 2


def test_after_three_measurements_of_a_library_that_changes_frames_decide(side_by_side):
    paths, longer = side_by_side
    guard, weights = guard_that("library"), iter(range(70, 80))

    def guard_while_others_merge(*asked):
        measure = guard(*asked)

        def measured():
            outcomes = measure()
            put_in_place(paths, weight=next(weights), total_frames=140)
            return outcomes

        return measured

    update = merge(paths, longer, 100, guard_while_others_merge)["0"]
    assert len(measurements(paths)) == MOST_MEASUREMENTS == 3
    assert update["action"] == "updated" and "changed while it was measured" in update["competition"]["not_measured"]


def put_in_place(paths: ExperimentPaths, weight: int, total_frames: int) -> None:
    """Another version of the library's expert."""
    tree = {"w": np.full(3, weight, np.float32)}
    data = pickles.load(paths.expert_params(0, WOOD))
    metadata = data["metadata"] | {"total_frames": total_frames, "acted_frames": 100}
    pickles.dump(paths.expert_params(0, WOOD), {"params": {"actor": tree, "critic": tree}, "metadata": metadata})


def is_alive(pid: int) -> bool:
    process = ProcessId.of(pid)
    return process is not None and process.is_alive()


def entry_of(run, frames: int) -> SkillEntry:
    return SkillEntry(
        skill_name=run.skill_name, status=Status.RUNNING, stage=Stage.MERGING, expert_idx=run.expert_idx, attempt=1,
        frames=frames,
    )  # fmt: skip


def test_a_scheduler_that_ends_does_not_wait_for_a_measurement(side_by_side):
    paths, longer = side_by_side
    merges = Merges(paths, guard=guard_that("sleeps"))
    merges.begin(entry_of(longer, 100))
    assert retry_until(lambda: len(measurements(paths)) == 1, PATIENCE_S)
    merges.close()
    assert list(merges.ended()) == [] and longer.run_json.exists()
    (pid,) = measurements(paths)
    assert not is_alive(pid)
    again = Merges(paths, guard=guard_that("library"))
    again.begin(entry_of(longer, 100))
    assert list(again.ended(PATIENCE_S)) == [Merged("Skill_B", 1)]
    again.close()
    assert expert(paths, 0, WOOD) == (150, 1)


def test_the_library_is_free_while_a_measurement_plays(side_by_side):
    paths, longer = side_by_side
    other = finished_run(paths.root, 4, "Skill_D", {}, 10)
    is_over = threading.Event()

    def merge_longer():
        with pytest.raises(WaitGivenUp), waiting_unless(is_over.is_set):
            merge(paths, longer, 100, guard_that("sleeps"))

    thread = threading.Thread(target=merge_longer, daemon=True)
    thread.start()
    assert retry_until(lambda: len(measurements(paths)) == 1, PATIENCE_S)
    assert merge(paths, other, 10, None)["4"]["action"] == "new"
    is_over.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


SCHEDULER = """
import sys
from pathlib import Path
from tests.parallel.test_merge_guard import guard_that
from flowrl.parallel.training_processor import process_completed_training
root, run = map(Path, sys.argv[1:])
process_completed_training(run, "Skill_B", 2, root, 100, guard=guard_that("sleeps"))
"""


def test_a_scheduler_that_is_killed_leaves_no_measurement_behind(side_by_side):
    paths, longer = side_by_side
    root = str(Path(__file__).parents[2])
    scheduler = subprocess.Popen(
        [sys.executable, "-c", SCHEDULER, str(paths.root), str(longer.folder)], cwd=root, env={**os.environ, "PYTHONPATH": root}
    )
    assert retry_until(lambda: len(measurements(paths)) == 1, PATIENCE_S)
    (pid,) = measurements(paths)
    scheduler.kill()
    scheduler.wait()
    assert retry_until(lambda: not is_alive(pid), PATIENCE_S)
    assert longer.run_json.exists()
