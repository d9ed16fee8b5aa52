"""``run.json``: what is written is what is read, and what cannot be read says why."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from flowrl.errors import BadInput
from flowrl.records import run_record
from flowrl.records.run_record import Launch, PlannedTask, Slot
from flowrl.records.training_settings import RunSettings
from tests.records.builders import RECORD


@pytest.fixture
def path(tmp_path):
    return tmp_path / run_record.NAME


def test_a_record_is_read_as_it_was_written(path):
    plan = (PlannedTask("Collect_Wood", 2, 3, 0, max_task_steps=7),)
    record = replace(RECORD, plan=plan, slot=Slot((0, 1), "2", 0.45), asked_num_envs=64)
    run_record.write(path, record)
    assert run_record.read(path) == record


def test_empty_optional_fields_are_left_out(path):
    run_record.write(path, RECORD)
    data = json.loads(path.read_text())
    assert "asked_num_envs" not in data and "max_task_steps" not in data["plan"][0]
    assert list(data)[:4] == ["version", "skill_name", "global_expert_idx", "attempt"]


def test_a_record_of_an_earlier_version_gets_defaults_for_missing_fields(path):
    run_record.write(path, RECORD)
    data = json.loads(path.read_text())
    del data["settings"]["stop_at_goal"], data["settings"]["mixed_precision"], data["settings"]["no_progress_frames"]
    path.write_text(json.dumps(data | {"a_field_of_tomorrow": 1}))
    assert run_record.read(path) == RECORD


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "has version 2, and this flowrl reads version 1"),
        ({"version": None}, "has version None"),
        ({"settings": None}, "is damaged"),
        ({"settings": {"num_envs": 0}}, "--num_envs must be at least 1, found 0"),
        ({"plan": [{"skill_name": "Collect_Wood"}]}, "is damaged (plan.0.n: "),
        ({"experts": "none"}, "is damaged (experts: "),
        ({"skill_name": 7}, "found 7"),
    ],
)
def test_a_damaged_record_is_one_line_that_names_the_place(path, change, said):
    run_record.write(path, RECORD)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadInput) as error:
        run_record.read(path)
    assert said in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)
    assert run_record.find(path) is None


@pytest.mark.parametrize("text", ["", "[", "[]", "null", "7"])
def test_what_is_no_record_is_none(path, text):
    path.write_text(text)
    assert run_record.find(path) is None
    with pytest.raises(BadInput):
        run_record.read(path)


def test_the_attempt_of_a_record_of_another_version_can_be_read(path):
    path.write_text('{"version": 9, "attempt": 4}')
    assert run_record.attempt(path) == 4
    path.write_text('{"version": 9}')
    assert run_record.attempt(path) == 1


def test_an_attempt_with_fewer_environments_remembers_how_many_were_asked_for():
    first = replace(RECORD, settings=RunSettings(num_envs=64, num_steps=8, num_minibatches=4))
    second = first.for_attempt(Launch(2), Slot((1,)), 16)
    assert (second.attempt, second.slot, second.settings.num_envs, second.asked_num_envs) == (2, Slot((1,)), 16, 64)
    third = second.for_attempt(Launch(3), Slot(), 8)
    assert (third.settings.num_envs, third.asked_num_envs) == (8, 64)
    assert third.for_attempt(Launch(4), Slot(), None).settings == third.settings


def test_no_attempt_gets_more_environments_than_its_settings_have():
    assert RECORD.for_attempt(Launch(3), Slot(), 10_000).settings == RECORD.settings
