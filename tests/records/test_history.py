"""history.jsonl: what is written of a skill's way, and what of a damaged file is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flowrl.records import history
from flowrl.records.history import History, Moment
from flowrl.records.scheduler_state import SkillEntry, Stage, Status

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_each_change_is_a_line_and_what_stays_is_none(tmp_path):
    wood, stone = SkillEntry(skill_name="Wood"), SkillEntry(skill_name="Stone", status=Status.COMPLETED)
    kept = History.of(tmp_path / "history.jsonl", [stone])
    kept.look([wood, stone], NOW)
    kept.look([wood, stone], NOW + timedelta(seconds=1))
    wood.status, wood.stage, wood.attempt, wood.slot = Status.RUNNING, Stage.TRAINING, 1, 0
    kept.look([wood, stone], NOW + timedelta(seconds=2))
    assert history.read(kept.path) == [
        Moment(NOW, "Wood", Status.WAITING, None, 0, None),
        Moment(NOW + timedelta(seconds=2), "Wood", Status.RUNNING, Stage.TRAINING, 1, 0),
    ]


def test_a_full_disk_ends_nothing_and_damaged_lines_are_left_out(tmp_path):
    History(tmp_path / "missing" / "history.jsonl", {}).look([SkillEntry(skill_name="Wood")], NOW)
    path = tmp_path / "history.jsonl"
    History(path, {}).look([SkillEntry(skill_name="Wood")], NOW)
    path.write_text('{"at": 3}\n[]\n' + path.read_text() + '{"at": "20')
    assert [moment.skill_name for moment in history.read(path)] == ["Wood"]
    assert history.read(tmp_path / "none") == []
