"""``flowrl status``: what it reads from an experiment's folder, what it guesses, and what it shows."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from flowrl.commands import status as command
from flowrl.errors import BadInput
from flowrl.files import append_line, write_json
from flowrl.paths import ExperimentPaths
from flowrl.records import state_file
from flowrl.records.scheduler_state import RehearsalEntry, SchedulerState, SkillEntry, Stage, Status
from flowrl.report.figures import duration_text
from flowrl.report.status.estimates import Pace, Work, seconds_left, seconds_left_of_all
from flowrl.report.status.screen import Screen, direct_needs, draw
from flowrl.report.status.snapshot import SCHEMA_FILE, depths_of, schema_text, take

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CHECKOUT = Path(__file__).parents[2]


def entry(name, status=Status.COMPLETED, needs=(), **fields):
    return SkillEntry(skill_name=name, status=status, dependencies=list(needs), **fields)


WOOD = entry("Collect_Wood", expert_idx=0, frames=100_000, minutes=0.5, success_rate=0.97, random_success_rate=0.2,
             goal_reached=True, attempt=1)  # fmt: skip
DRINK = entry("Collect_Drink", expert_idx=1, frames=900_000, minutes=4.5, success_rate=0.5, random_success_rate=0.1,
              goal_reached=False, attempt=1)  # fmt: skip
TABLE = entry("Place_Table", Status.RUNNING, ["Collect_Wood"], expert_idx=2, attempt=2, slot=1, stage=Stage.TRAINING,
              run_folder="training_runs/skill_2_Place_Table", tmux_session="flowrl_e2_Place_Table",
              started_at=NOW - timedelta(minutes=1))  # fmt: skip
COW = entry("Eat_Cow", Status.FAILED, expert_idx=3, attempt=3, run_folder="training_runs/skill_3_Eat_Cow",
            error="the training ended without a result; see its log\nTraceback", retry_count=2)  # fmt: skip
PICKAXE = entry("Make_Wood_Pickaxe", Status.WAITING, ["Collect_Wood", "Place_Table"])
STEAK = entry("Cook_Cow", Status.BLOCKED, ["Eat_Cow"], blocked_by=["Eat_Cow"])
ALL = (WOOD, DRINK, TABLE, COW, PICKAXE, STEAK)
LINE = {"frames": 20_000, "total_frames": 1_000_000, "frames_per_s": 4000.0, "success_rate": None, "estimate": 0.25}


@pytest.fixture
def paths(tmp_path) -> ExperimentPaths:
    """An experiment in the middle of its work, whose scheduler is gone."""
    paths = ExperimentPaths(tmp_path / "exp")
    paths.root.mkdir()
    write_json(paths.config, {"env_name": "Craftax-Classic-Symbolic-v1", "max_nodes": 8, "total_timesteps": 1_000_000})
    state_file.save(paths, SchedulerState(max_parallel=2, skills=list(ALL)))
    for run in (TABLE, COW):
        (paths.root / run.run_folder).mkdir(parents=True)
        append_line(paths.root / run.run_folder / "training.log", "a line")
    metrics = paths.root / TABLE.run_folder / "metrics.jsonl"
    append_line(metrics, json.dumps(LINE | {"frames": 10_000}))
    append_line(metrics, json.dumps(LINE))
    with open(metrics, "a") as file:
        file.write('{"frames": 30')  # the next one, half written
    return paths


def of(snapshot, name):
    return next(run for run in snapshot.runs if run.skill_name == name)


def shown(snapshot, width=80, height=None) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(draw(snapshot, Screen(width, height)))
    return out.getvalue().splitlines()


# What is read.


def test_a_snapshot_has_what_the_folder_says(paths):
    found = take(paths, NOW)
    assert found.counts == {"completed": 2, "running": 1, "failed": 1, "waiting": 1, "blocked": 1}
    assert (found.learned, found.max_nodes, found.max_parallel, found.is_scheduled) == (1, 8, 2, False)
    assert found.frames == 100_000 + 900_000 + 20_000
    table = of(found, "Place_Table")
    assert (table.frames, table.frames_wanted, table.frames_per_s, table.success_rate) == (20_000, 1_000_000, 4000.0, 0.25)
    assert table.is_estimate and table.log == "training_runs/skill_2_Place_Table/training.log"
    assert {run.skill_name: run.depth for run in found.skills}["Make_Wood_Pickaxe"] == 2
    assert found.exit_code == 1 and [run.skill_name for run in found.failures] == ["Eat_Cow", "Cook_Cow"]


def test_time_left_follows_similar_skills(paths):
    found = take(paths, NOW)
    # As deep as Place_Table is nothing yet; of the others, half took 100,000 frames and half 900,000.
    assert of(found, "Place_Table").seconds_left == (500_000 - 20_000) / 4000
    assert of(found, "Make_Wood_Pickaxe").seconds_left == 500_000 / 4000
    assert found.seconds_left == (500_000 - 20_000 + 500_000) / 4000  # one after the other


def test_what_a_scheduler_holds_is_scheduled(paths):
    from flowrl.parallel.library.locks import hold_scheduler_lock

    lock = hold_scheduler_lock(paths)
    assert take(paths).is_scheduled
    lock.release()
    assert not take(paths).is_scheduled


def test_a_scheduler_waits_for_one_who_only_looks(paths, monkeypatch):
    import fcntl
    import os
    import threading

    from flowrl.parallel.library.locks import hold_scheduler_lock

    hold_scheduler_lock(paths).release()
    descriptor = os.open(paths.scheduler_lock, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    threading.Timer(0.1, os.close, [descriptor]).start()
    hold_scheduler_lock(paths).release()


def test_a_copied_and_a_read_only_folder_are_shown(paths, tmp_path, monkeypatch):
    from flowrl.records import liveness

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(liveness, "is_held", refuse)
    before = {path: path.read_bytes() for path in paths.root.rglob("*") if path.is_file()}
    assert not take(paths).is_scheduled
    assert before == {path: path.read_bytes() for path in paths.root.rglob("*") if path.is_file()}


def test_half_written_files_are_said_and_the_rest_is_shown(paths):
    state_file.save(paths, SchedulerState(skills=[WOOD]))
    paths.state.write_text('{"version": 1, "ski')
    paths.config.write_text("{")
    found = take(paths)
    assert len(found.skills) == len(ALL) and found.env_name is None
    assert "continuing from the previous state" in found.remarks[0] and "config.json" in found.remarks[1]
    assert any("continuing from the previous state" in line for line in shown(found, width=300))


def test_an_experiment_that_has_only_begun_is_shown(paths):
    paths.state.unlink()
    found = take(paths)
    assert found.skills == [] and found.exit_code == 0 and shown(found)


@pytest.mark.parametrize("make", [lambda root: None, lambda root: root.mkdir()], ids=["no folder", "empty"])
def test_a_folder_that_is_no_experiment_is_refused_with_one_line(tmp_path, make, capsys):
    make(tmp_path / "exp")
    assert command.main([str(tmp_path / "exp")]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith(f"flowrl: {tmp_path / 'exp'} holds no experiment") and error.count("\n") == 1


def test_a_state_of_a_newer_version_is_refused(paths):
    data = json.loads(paths.state.read_text()) | {"version": 2}
    write_json(paths.state, data)
    with pytest.raises(BadInput, match="newer flowrl"):
        take(paths)


def test_rehearsals_are_part_of_it(paths):
    entry = RehearsalEntry(skill_name="rehearsal_1", status=Status.COMPLETED, frames=5000, achievements=9.5, minutes=1.0)
    state_file.save(paths, SchedulerState(skills=[WOOD], rehearsals=[entry]))
    found = take(paths)
    assert found.frames == 105_000 and found.exit_code == 0
    assert any("rehearsal_1" in line and "9.50" in line for line in shown(found))


def test_a_cycle_made_by_hand_ends_nothing():
    assert depths_of({"A": ["B"], "B": ["A"]}) == {"A": 0, "B": 0}
    assert depths_of({"A": ["Removed"], "B": ["A"]})["B"] == 2


def test_only_direct_needs_are_named(paths):
    assert direct_needs(take(paths).skills)["Make_Wood_Pickaxe"] == ["Place_Table"]


# As JSON.


def test_the_json_fits_the_shipped_schema(paths, capsys):
    assert SCHEMA_FILE.read_text() == schema_text(), "run `python -m flowrl.report.status.snapshot`"
    assert command.main([str(paths.root), "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))
    validator.validate(data)
    data["skills"][0]["depth"] = -1
    assert not validator.is_valid(data)


def test_watch_and_json_exclude_each_other_and_watch_needs_a_terminal(paths, capsys):
    assert command.main([str(paths.root), "--watch", "--json"]) == 2
    assert "--watch and --json exclude each other" in capsys.readouterr().err
    assert command.main([str(paths.root), "--watch"]) == 2
    assert "--watch needs a terminal" in capsys.readouterr().err


def test_the_command_starts_no_jax(paths):
    code = "import sys\nfrom flowrl.commands import status\nstatus.main(sys.argv[1:])\nassert 'jax' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code, str(paths.root)], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Collect_Wood" in done.stdout and "\x1b" not in done.stdout  # no colours in a pipe


# What is guessed.

SECONDS = st.integers(1, 1000).map(float)


@st.composite
def works(draw):
    found = {}
    for number in range(draw(st.integers(1, 8))):
        needs = tuple(name for name in found if draw(st.booleans()))
        found[f"S{number}"] = Work(draw(SECONDS), not needs and draw(st.booleans()), needs)
    return found


def chain(found, name):
    return found[name].seconds + max((chain(found, other) for other in found[name].dependencies), default=0.0)


@given(works(), st.integers(1, 4))
def test_all_takes_at_least_the_longest_chain_and_the_work_and_at_most_all_in_a_row(found, slots):
    running = sum(work.is_running for work in found.values())
    slots = max(slots, running)
    total, work = seconds_left_of_all(found, slots), sum(work.seconds for work in found.values())
    assert max(max(chain(found, name) for name in found), work / slots) <= total + 1e-6
    assert total <= work + 1e-6


def test_what_is_not_known_makes_all_unknown_and_waiting_for_each_other_never_ends():
    assert seconds_left_of_all({}, 2) is None
    assert seconds_left_of_all({"A": Work(1.0, True, ()), "B": Work(None, False, ())}, 2) is None
    assert seconds_left_of_all({"A": Work(1.0, False, ("B",)), "B": Work(1.0, False, ("A",))}, 2) is None
    assert seconds_left_of_all({"A": Work(1.0, False, ("done already",))}, 2) == 1.0


@given(
    st.dictionaries(st.text(max_size=3), st.tuples(st.integers(0, 5), st.integers(1, 10**6)), max_size=6),
    st.integers(0, 5),
    st.integers(0, 10**6),
    st.integers(1, 10**6),
)
def test_time_left_is_never_negative_and_never_above_the_budget(frames, depth, so_far, budget):
    found = seconds_left(Pace(frames, [100.0], budget), depth, so_far, None, None)
    assert 0 <= found <= max(0, budget - so_far) / 100.0


def test_without_any_skill_done_the_budget_is_left_and_without_speed_nothing_is_known():
    assert seconds_left(Pace({}, [], 1000), 0, 400, None, 10.0) == 60.0
    assert seconds_left(Pace({}, [], 1000), 0, 400, 2000, 10.0) == 160.0
    assert seconds_left(Pace({}, [], 1000), 0, 400, None, None) is None
    assert seconds_left(Pace({}, [10.0], None), 0, 400, None, None) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min"), (273_600, "3 d 4 h")],
)
def test_durations_have_two_places_at_most(seconds, text):
    assert duration_text(seconds) == text


# What is shown.


@pytest.mark.parametrize("width", [80, 100, 120, 149, 150, 200])
def test_no_line_is_wider_than_the_screen_and_nothing_that_matters_is_cut(paths, width):
    lines = shown(take(paths, NOW), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for needed in ("Collect_Wood", "Make_Wood_Pickaxe", "tmux attach -t flowrl_e2_Place_Table", "20.0k of 1.0M", "about 2 min",
                   "below the goal", "2 completed (1 learned)", "6 of 8 skills", "attempt 2"):  # fmt: skip
        assert needed in text
    assert "Eat_Cow  the training ended without a result; see its log" in text and "Traceback" not in text
    assert "Collect_Wood, Place_Table" not in text  # what Place_Table needs in turn is left out


def test_what_can_never_be_done_has_no_rate_of_success(paths):
    state_file.save(paths, SchedulerState(skills=[TABLE.model_copy(update={"never_done": True})]))
    found = take(paths, NOW)
    assert of(found, "Place_Table").success_rate is None and not of(found, "Place_Table").is_estimate
    text = "\n".join(shown(found))
    assert "1 of 8 skills" in text and "0.25" not in text


def test_what_an_evaluation_found_learned_stands_beside_what_trainings_did(paths):
    assert take(paths, NOW).learned_together is None
    for text in ("{", "[]", '{"skills": 3}'):
        paths.evaluation.write_text(text)
        assert take(paths, NOW).learned_together is None
    write_json(paths.evaluation, {"skills": [{"is_learned": True}, {"is_learned": False}, {"is_learned": True}, 3]})
    found = take(paths, NOW)
    assert found.learned_together == 2 and "2 completed (1 learned, 2 as evaluated)" in " ".join(shown(found))


def test_ascii_alone_is_used_where_the_terminal_has_no_more(paths):
    out = io.StringIO()
    Console(file=out, width=80).print(draw(take(paths, NOW), Screen(80, is_ascii=True)).renderables[4])
    assert "x  Eat_Cow" in out.getvalue() and "✗" not in out.getvalue()


def test_of_many_skills_those_that_matter_fit_on_one_screen(paths):
    many = [entry(f"Skill_{i}", goal_reached=True, expert_idx=i + 10) for i in range(200)]
    state_file.save(paths, SchedulerState(max_parallel=2, skills=[*many, *ALL]))
    found = take(paths, NOW).model_copy(update={"graph_path": "exp/demo"})
    lines = shown(found, 80, height=24)
    assert len(lines) <= 24
    text = "\n".join(lines)
    assert "Place_Table" in text and "Eat_Cow" in text and "Skill_199" in text and "completed more" in text
    assert len(shown(found, 80)) > 200


def test_text_from_a_model_steers_no_terminal(paths):
    worse = COW.model_copy(update={"error": "[bold]\x1b[2J\x07 gone\u202e"})
    state_file.save(paths, SchedulerState(skills=[worse]))
    text = "\n".join(shown(take(paths, NOW)))
    assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text
    assert "[bold] [2J" in text  # shown as it is: it is no markup
