"""scheduler_state.json: its content, and what happens to a damaged or foreign one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from flowrl.errors import BadInput
from flowrl.paths import ExperimentPaths
from flowrl.records import state_file
from flowrl.records.scheduler_state import SCHEMA_FILE, SchedulerState, SkillEntry, Status, schema_text


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "exp").mkdir()
    return ExperimentPaths(tmp_path / "exp")


def state_with(*names):
    return SchedulerState(skills=[SkillEntry(skill_name=name, started_at=datetime.now(UTC)) for name in names])


def test_the_shipped_schema_is_that_of_the_model():
    assert SCHEMA_FILE.read_text() == schema_text(), "run `python -m flowrl.records.scheduler_state`"


def test_a_written_state_fits_the_schema_and_a_wrong_one_does_not(paths):
    state_file.save(paths, state_with("A", "B"))
    data = json.loads(paths.state.read_text())
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))
    validator.validate(data)
    data["skills"][0]["status"] = "asleep"
    assert not validator.is_valid(data)


def test_the_file_has_what_people_and_jq_rely_on(paths):
    state_file.save(paths, state_with("A"))
    data = json.loads(paths.state.read_text())
    assert isinstance(data["skills"], list)
    assert {"version", "updated_at", "max_parallel", "currently_running", "next_expert_idx", "proposer"} <= set(data)
    assert set(data["skills"][0]) >= {
        "skill_name", "status", "dependencies", "expert_idx", "tmux_session", "run_folder", "attempt", "started_at",
        "completed_at", "retry_count", "frames", "goal_reached", "success_rate", "random_success_rate", "error", "blocked_by",
        "frames_per_success",
    }  # fmt: skip
    assert datetime.fromisoformat(data["skills"][0]["started_at"]).utcoffset().total_seconds() == 0


def test_there_is_no_state_at_first(paths):
    assert state_file.load(paths) == (None, None)


def test_a_state_comes_back_as_it_was_written(paths):
    state = state_with("A")
    state.skills[0].status = Status.RUNNING
    state_file.save(paths, state)
    assert state_file.load(paths) == (state, None)


def test_the_state_before_stays_beside_it(paths):
    state_file.save(paths, state_with("A"))
    state_file.save(paths, state_with("A", "B"))
    assert [skill["skill_name"] for skill in json.loads(paths.previous_state.read_text())["skills"]] == ["A"]


@pytest.mark.parametrize("keep", [0, 1, 40, -3])
def test_a_torn_file_is_replaced_by_the_previous_good_one_and_said_so(paths, keep):
    state_file.save(paths, state_with("A"))
    state_file.save(paths, state_with("A", "B"))
    paths.state.write_bytes(paths.state.read_bytes()[:keep])
    state, remark = state_file.load(paths)
    assert [entry.skill_name for entry in state.skills] == ["A"]
    assert "not valid JSON" in remark and "continuing from the previous state" in remark
    state_file.save(paths, state)  # and the torn one never becomes the previous state
    assert json.loads(paths.previous_state.read_text())["skills"][0]["skill_name"] == "A"


def test_a_state_removed_by_hand_is_replaced_by_the_previous_one(paths):
    state_file.save(paths, state_with("A"))
    state_file.save(paths, state_with("A", "B"))
    paths.state.unlink()
    state, remark = state_file.load(paths)
    assert [entry.skill_name for entry in state.skills] == ["A"]
    assert "missing" in remark


def test_where_the_previous_one_is_torn_as_well_the_remedy_names_both(paths):
    for path in (paths.state, paths.previous_state):
        path.write_text("{")
    with pytest.raises(BadInput, match="restore the file from a copy, or move both away"):
        state_file.load(paths)
    for path in (paths.state, paths.previous_state):
        path.rename(path.with_suffix(".away"))
    assert state_file.load(paths) == (None, None)


def test_a_torn_file_without_a_previous_one_is_refused_with_the_remedy(paths):
    paths.state.write_text('{"version": 1, "ski')
    with pytest.raises(BadInput, match="not valid JSON .*restore the file from a copy, or move it away"):
        state_file.load(paths)


def test_a_folder_in_the_place_of_the_state_is_refused_with_the_remedy(paths):
    state_file.save(paths, state_with("A"))
    state_file.save(paths, state_with("A", "B"))
    paths.state.unlink()
    paths.state.mkdir()
    with pytest.raises(BadInput, match=r"scheduler_state.json cannot be read \(Is a directory\); .*move it away"):
        state_file.load(paths)
    assert list(paths.state.iterdir()) == []


def test_a_state_without_permission_is_refused_with_the_remedy(paths, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    state_file.save(paths, state_with("A"))
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BadInput, match=r"cannot be read \(Permission denied\); make it readable"):
        state_file.load(paths)


def test_a_newer_state_is_refused_with_the_remedy_though_the_previous_one_is_good(paths):
    state_file.save(paths, state_with("A"))
    state_file.save(paths, state_with("A"))
    data = json.loads(paths.state.read_text()) | {"version": 2, "novelty": True}
    paths.state.write_text(json.dumps(data))
    with pytest.raises(BadInput, match="newer flowrl .*update flowrl"):
        state_file.load(paths)


@pytest.mark.parametrize(
    "data", [[], {"skills": {}}, {"version": 1, "skills": {"A": {}}}, {"version": 1, "other": 3}, {"version": 0}]
)
def test_a_foreign_state_is_refused_with_the_remedy(paths, data):
    paths.state.write_text(json.dumps(data))
    with pytest.raises(BadInput, match="not a scheduler state of flowrl .*move it away"):
        state_file.load(paths)
