"""Rehearsals in the scheduler: when they are launched, and what is left when something dies."""

from __future__ import annotations

import json
import threading

import pytest

from flowrl import pickles
from flowrl.errors import BadInput
from flowrl.files import read_json
from flowrl.parallel import backoff
from flowrl.parallel.events import Announce, Launch, RehearsalAdded, RetryRequested, RunDied
from flowrl.parallel.processes import retry_until
from flowrl.parallel.scheduler import SkillScheduler
from flowrl.records.rehearsal_settings import RehearsalRequest
from flowrl.records.scheduler_state import SchedulerState, Status
from tests.parallel.fakes.experiments import PATIENCE_S, skill
from tests.parallel.fakes.launcher import FakeLauncher, finish
from tests.parallel.test_core import Driver

REQUEST = RehearsalRequest(1000)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    monkeypatch.setattr(backoff, "FIRST_BACKOFF_S", 0.01)


# The core


def rehearse(driver, number=1):
    return driver.tell(RehearsalAdded(f"rehearsal_{number}", REQUEST.to_data()))


def test_it_runs_alone_and_takes_no_expert_index():
    driver = Driver(max_parallel=3)
    driver.add("Collect_Wood"), driver.complete("Collect_Wood")
    assert rehearse(driver) == [Launch("rehearsal_1", 1)]
    assert driver["rehearsal_1"].expert_idx is None and driver["rehearsal_1"].num_skills == 1
    driver.add("Collect_Drink"), rehearse(driver, 2)
    assert driver.running == ["rehearsal_1"]
    driver.complete("rehearsal_1")
    assert driver.running == ["rehearsal_2"]
    driver.complete("rehearsal_2")
    assert driver["rehearsal_1"].status is Status.COMPLETED and driver.running == ["Collect_Drink"]
    assert driver["Collect_Drink"].expert_idx == 1


def test_it_waits_for_what_is_in_training_and_goes_before_every_skill_that_waits():
    driver = Driver(max_parallel=2)
    for name, *needed in (("A",), ("E",), ("B",), ("C", "B"), ("D", "C")):
        driver.add(name, *needed)
    assert rehearse(driver) == [] and driver.running == ["A", "E"]
    assert driver.complete("E") == [Announce("E", Status.COMPLETED)]
    assert driver["rehearsal_1"].num_skills == 0  # it is not known yet what will be in the library
    assert driver.complete("A")[-1] == Launch("rehearsal_1", 1)  # not B, although a chain of skills waits for it


def test_what_it_unlocked_is_kept():
    driver = Driver()
    rehearse(driver)
    driver.launched("rehearsal_1")
    driver.end("rehearsal_1", achievements=12.5)
    assert driver["rehearsal_1"].achievements == 12.5


def test_it_is_tried_again_and_fails_in_the_end_and_is_tried_again_when_asked():
    driver = Driver(max_retries=1)
    rehearse(driver)
    for attempt in (1, 2):
        driver.launched("rehearsal_1")
        driver.tell(RunDied("rehearsal_1", attempt, "planted"))
        driver.wait(1000)
    assert driver["rehearsal_1"].status is Status.FAILED and driver.core.is_complete()
    assert driver.tell(RetryRequested()) == [Launch("rehearsal_1", 3)]
    assert not driver.core.is_complete()


def test_only_the_newest_is_tried_again_when_asked():
    driver = Driver(max_retries=0)
    for number in (1, 2):
        rehearse(driver, number)
        driver.launched(f"rehearsal_{number}")
        driver.tell(RunDied(f"rehearsal_{number}", 1, "planted"))
    assert driver.tell(RetryRequested()) == [Launch("rehearsal_2", 2)]
    assert driver["rehearsal_1"].status is Status.FAILED


def test_while_one_waits_for_its_next_try_skills_are_trained():
    driver = Driver()
    rehearse(driver)
    driver.launched("rehearsal_1")
    driver.tell(RunDied("rehearsal_1", 1, "planted"))
    assert driver.core.next_retry() == driver["rehearsal_1"].retry_at
    driver.add("A")
    assert driver.running == ["A"]
    driver.wait(1000)
    assert driver.running == ["A"]
    assert driver.complete("A")[-1] == Launch("rehearsal_1", 2)


def test_a_loaded_state_goes_on_with_it():
    driver = Driver()
    driver.add("A"), driver.complete("A")
    rehearse(driver)
    driver.launched("rehearsal_1")
    again = Driver(state=SchedulerState.model_validate_json(driver.core.state.to_text()))
    assert again.running == ["rehearsal_1"] and again["rehearsal_1"].is_rehearsal
    assert not again["A"].is_rehearsal


# The scheduler


@pytest.fixture
def scheduler_of(experiment):
    def make(launcher, **kwargs):
        return SkillScheduler(base_dir=experiment.root, max_parallel=1, poll_interval=3600, launcher=launcher, **kwargs)

    return make


def learned(scheduler_of, launcher, *names):
    """The library of these skills."""
    scheduler = scheduler_of(launcher)
    for name in names:
        scheduler.add_skill(name, skill(name), [])
    scheduler.run({})


def begun(scheduler):
    """A scheduler in its thread; the thread."""
    thread = threading.Thread(target=scheduler.run, args=({},), daemon=True)
    thread.start()
    return thread


def names(launcher):
    return [spec.skill_name for spec in launcher.launched]


def rehearsal(scheduler):
    (entry,) = scheduler.state["rehearsals"]
    return entry


def wait_until(condition):
    assert retry_until(condition, PATIENCE_S), "this never came to hold"


def test_it_plays_what_is_in_the_library_and_is_merged_into_all_of_it(scheduler_of):
    launcher = FakeLauncher(finish)
    learned(scheduler_of, launcher, "A", "B")
    scheduler = scheduler_of(launcher)
    finals = []
    scheduler.set_callbacks(
        on_skill_final=lambda name, status: finals.append(("skill", name)),
        on_rehearsal_final=lambda name, status: finals.append((status, name)),
    )
    scheduler.open()
    assert scheduler.add_rehearsal(REQUEST) == "rehearsal_1"
    scheduler.run({})
    spec = launcher.launched[-1]
    assert (spec.session_name, spec.expert_idx, spec.argv[-2:]) == (
        "flowrl_rehearsal_1",
        None,
        ("flowrl.rehearsal", str(spec.run_folder)),
    )
    entry = rehearsal(scheduler)
    assert (entry["status"], entry["frames"], entry["num_skills"]) == ("completed", 100, 2)
    assert finals == [("completed", "rehearsal_1")]
    assert [skill["skill_name"] for skill in scheduler.state["skills"]] == ["A", "B"]
    for index, name in enumerate("AB"):
        metadata = pickles.load(scheduler.paths.expert_params(index, name))["metadata"]
        assert metadata["total_frames"] == 200  # of its own training, and of the rehearsal
    record = read_json(scheduler.paths.rehearsal_records("rehearsal_1") / "run.json")
    assert [expert["skill_name"] for expert in record["experts"]] == ["A", "B"]
    assert record["settings"]["total_timesteps"] == 1000
    assert scheduler.get_completed_skill_names() == ["A", "B"] and scheduler.known_skills().keys() == {"A", "B"}


def test_the_next_one_has_the_next_number(scheduler_of):
    launcher = FakeLauncher(finish)
    learned(scheduler_of, launcher, "A")
    for number in (1, 2):
        scheduler = scheduler_of(launcher)
        scheduler.open()
        assert scheduler.add_rehearsal(REQUEST) == f"rehearsal_{number}"
        scheduler.run({})
    assert names(launcher) == ["A", "rehearsal_1", "rehearsal_2"]
    scheduler.paths.state.unlink()
    scheduler.paths.previous_state.unlink()
    again = scheduler_of(launcher)
    again.run({})
    assert [(entry["skill_name"], entry["status"], entry["frames"]) for entry in again.state["rehearsals"]] == [
        ("rehearsal_1", "completed", 100),
        ("rehearsal_2", "completed", 100),
    ]


def test_an_empty_library_cannot_rehearse(scheduler_of):
    scheduler = scheduler_of(FakeLauncher())
    scheduler.open()
    with pytest.raises(BadInput, match="has no completed skill to rehearse; train some first"):
        scheduler.add_rehearsal(REQUEST)
    scheduler.run({})


def left_under_way(scheduler_of, launcher):
    """A rehearsal that a scheduler has left to itself; that scheduler."""
    learned(scheduler_of, launcher, "A")
    launcher.on_launch = None
    first = scheduler_of(launcher)
    first.open()
    first.add_rehearsal(REQUEST)
    thread = begun(first)
    wait_until(lambda: rehearsal(first)["tmux_session"])
    assert first.free_slots() == 0
    assert first.attach_line(rehearsal(first)) == "true flowrl_rehearsal_1"
    first.stop()
    thread.join(PATIENCE_S)
    return first


def test_one_under_way_is_found_again(scheduler_of):
    launcher = FakeLauncher(finish)
    left_under_way(scheduler_of, launcher)
    second = scheduler_of(launcher)
    thread = begun(second)
    wait_until(lambda: second.state["rehearsals"] and rehearsal(second)["status"] == "running")
    finish(launcher.launched[-1])
    thread.join(PATIENCE_S)
    assert names(launcher) == ["A", "rehearsal_1"]
    assert rehearsal(second)["status"] == "completed"


def test_one_that_has_ended_is_found_in_its_folder_if_the_state_is_lost(scheduler_of):
    launcher = FakeLauncher(finish)
    first = left_under_way(scheduler_of, launcher)
    first.paths.state.unlink()
    first.paths.previous_state.unlink()
    finish(launcher.launched[-1])
    second = scheduler_of(launcher)
    second.run({})
    assert names(launcher) == ["A", "rehearsal_1"]
    assert rehearsal(second)["status"] == "completed"


def test_a_merged_one_that_an_older_state_has_as_unfinished_is_completed(scheduler_of):
    launcher = FakeLauncher(finish)
    first = left_under_way(scheduler_of, launcher)
    before = first.paths.state.read_text()
    finish(launcher.launched[-1])
    scheduler_of(launcher).run({})
    first.paths.state.write_text(before)
    again = scheduler_of(launcher)
    again.run({})
    assert rehearsal(again)["status"] == "completed" and names(launcher) == ["A", "rehearsal_1"]
    assert json.loads(first.paths.state.read_text())["rehearsals"][0]["frames"] == 100


def test_a_request_survives_the_state_file():
    again = RehearsalRequest.of(json.loads(json.dumps(REQUEST.to_data())))
    assert again == REQUEST
