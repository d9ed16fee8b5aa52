"""The table at the end, and the line that compares run minutes with wall minutes."""

import io
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from flowrl.records.scheduler_state import SkillEntry, Status
from flowrl.report.announcements import outcome
from flowrl.report.figures import frames_text
from flowrl.report.invocation import to_go_on
from flowrl.report.summary import commands, next_step, parallelism, print_summary

BEGAN = datetime(2025, 10, 7, 14, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return BEGAN + timedelta(minutes=minutes)


def skill(name: str, index: int | None, status: Status = Status.COMPLETED, start=None, end=None, **fields) -> dict:
    entry = SkillEntry(
        skill_name=name, expert_idx=index, status=status, started_at=start, completed_at=end,
        minutes=(end - start).total_seconds() / 60 if start and end else None,
        run_folder=None if index is None else f"training_runs/skill_{index}_{name}", **fields,
    )  # fmt: skip
    return entry.model_dump(mode="json")


SKILLS = [
    skill(
        "Collect_Wood",
        0,
        start=at(0),
        end=at(2),
        frames=1_234_567,
        success_rate=0.912,
        random_success_rate=0.1,
        goal_reached=True,
    ),
    skill(
        "Eat_Cow", 1, start=at(0), end=at(4), frames=3_000_000, success_rate=0.5, random_success_rate=0.04, goal_reached=False
    ),
    skill("Place_Table", 2, Status.FAILED, start=at(2), end=at(3), error="planted"),
    skill("Make_Pickaxe", None, Status.BLOCKED, blocked_by=["Place_Table"]),
]
GIVEN_UP = skill("Collect_Diamond", 3, Status.FAILED, error="no progress: Collect_Diamond succeeds in 0.000 of ...")


def attach_line(skill) -> str:
    return f"look at {skill['skill_name']}"


def printed(skills, since=BEGAN, now=at(5)) -> list[str]:
    out = io.StringIO()
    print_summary(skills, [], Path("exp/demo"), since, now, Console(file=out, width=120), attach_line, "the next step")
    return out.getvalue().splitlines()


def row(name: str) -> str:
    return next(line for line in printed(SKILLS) if line.split()[:1] == [name])


def test_a_row_tells_expert_status_frames_rates_and_minutes():
    assert row("Collect_Wood").split() == ["Collect_Wood", "0", "completed", "1.2M", "0.91", "0.10", "2.0"]


def test_a_budget_that_ended_below_the_goal_is_flagged():
    assert "completed, below the goal" in row("Eat_Cow")


BY_CHANCE = skill("Wake_Up", 4, success_rate=1.0, random_success_rate=0.96, goal_reached=True)


def test_a_skill_that_a_random_policy_does_anyway_does_not_count_as_learned():
    lines = printed([*SKILLS, BY_CHANCE])
    assert "1 of 5 skills learned" in lines
    assert "Wake_Up: a random policy does it in 0.96 of worlds; it does not count as learned" in lines
    assert "completed, by chance" in next(line for line in lines if line.split()[:1] == ["Wake_Up"])
    assert outcome(BY_CHANCE).startswith("success 1.00 (random 0.96, which does not count as learned), ")
    assert not [line for line in printed(SKILLS) if "random policy does" in line]


def test_what_blocks_a_skill_is_named_and_what_is_not_known_is_a_dash():
    assert row("Make_Pickaxe").split() == ["Make_Pickaxe", "-", "blocked", "by", "Place_Table", "-", "-", "-", "-"]


def test_a_run_that_was_given_up_is_flagged():
    line = next(line for line in printed([*SKILLS, GIVEN_UP]) if line.split()[:1] == ["Collect_Diamond"])
    assert "failed, no progress" in line
    assert "no progress" not in row("Place_Table")


def test_run_minutes_are_compared_with_wall_minutes():
    assert parallelism(SKILLS, at(0), at(5)).startswith("7.0 run minutes in 5.0 wall minutes: 1.40 skills at a time")


def test_only_what_was_trained_since_the_start_counts():
    assert parallelism(SKILLS, at(3), at(5)).startswith("1.0 run minutes in 2.0 wall minutes")
    assert parallelism(SKILLS, at(10), at(11)) is None


def test_a_run_that_still_goes_counts_until_now():
    running = [skill("Collect_Wood", 0, Status.RUNNING, start=at(1))]
    assert parallelism(running, at(0), at(2)).startswith("1.0 run minutes in 2.0 wall minutes")


def test_the_commands_are_those_of_this_experiment():
    found = commands(SKILLS, Path("exp/demo"), attach_line)
    assert "jq . exp/demo/scheduler_state.json" in found
    assert "cat exp/demo/skills/1_Eat_Cow/training.log" in found
    assert any(line.endswith(" -m flowrl evaluate exp/demo") for line in found)
    assert "tail exp/demo/training_runs/skill_2_Place_Table/training.log" in found
    assert not [line for line in found if line.startswith("look at")]
    training = [skill("Collect_Wood", 0, Status.RUNNING, tmux_session="flowrl_e0"), skill("Eat_Cow", 1, Status.RUNNING)]
    assert [line for line in commands(training, Path("exp"), attach_line) if "look at" in line] == ["look at Collect_Wood"]
    assert "jq . 'exp/my demo/scheduler_state.json'" in commands(SKILLS[:1], Path("exp/my demo"), attach_line)


@pytest.mark.parametrize(
    ("num_skills", "max_nodes", "num_left", "flags"),
    [
        (1, 1, 43, " --max_nodes 2"),  # as many again
        (10, 10, 34, " --max_nodes 15"),
        (24, 24, 0, None),  # the whole curriculum
        (22, 22, 2, " --max_nodes 24"),  # what is left of the curriculum
        (10, 10, None, " --max_nodes 15"),  # a language model has no list
        (3, 40, None, ""),  # proposing ended early: the same again
        (3, 40, 0, None),
    ],
)
def test_the_next_step_never_asks_for_more_skills_than_there_are(num_skills, max_nodes, num_left, flags):
    skills = [skill(f"Skill_{index}", index) for index in range(num_skills)]
    expected = None if flags is None else f"{to_go_on(Path('exp/demo'))}{flags}"
    assert next_step(skills, Path("exp/demo"), max_nodes, num_left) == expected
    explore = skill("Explore", 99, never_done=True)
    assert next_step([explore, *skills], Path("exp/demo"), max_nodes, num_left) == expected


def test_a_skill_that_is_never_done_has_frames_and_no_rates():
    explore = skill("Explore", 0, start=at(0), end=at(2), frames=1_000_000, never_done=True)
    assert next(line for line in printed([explore]) if "Explore" in line).split() == [
        "Explore",
        "0",
        "completed",
        "1.0M",
        "-",
        "-",
        "2.0",
    ]
    assert outcome(explore) == "1.0M frames, 2.0 min"


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_the_next_step_after_a_failure_is_to_try_it_again(status):
    skills = [*SKILLS[:1], skill("Place_Table", 2, status)]
    assert next_step(skills, Path("exp/my demo"), 2, 0) == f"{to_go_on(Path('exp/my demo'))} --retry_failed"


def test_the_next_step_is_not_to_repeat_what_made_no_progress():
    skills = [SKILLS[0], GIVEN_UP]
    assert next_step(skills, Path("exp/demo"), 3, 5) == to_go_on(Path("exp/demo"))
    assert next_step(skills, Path("exp/demo"), 2, 0) is None
    assert next_step([*skills, SKILLS[2]], Path("exp/demo"), 3, 5).endswith("--retry_failed")


def test_the_next_step_stands_at_the_end():
    assert printed(SKILLS)[-1].strip() == "the next step"


@pytest.mark.parametrize(
    ("executable", "on_path", "typed"),
    [
        ("venv/bin/python", "venv/bin", "python"),
        ("venv/bin/python", "other", "venv/bin/python"),
        ("venv/bin/python", "", "venv/bin/python"),
        ("/elsewhere/my venv/bin/python3", "other", "'/elsewhere/my venv/bin/python3'"),
    ],
)
def test_a_command_is_printed_as_it_works_in_this_very_shell(tmp_path, monkeypatch, executable, on_path, typed):
    """In a virtual environment that is not activated, ``python`` is another one, or there is none."""
    for folder in ("venv/bin", "other"):
        python = tmp_path / folder / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to("/bin/sh")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / executable))
    monkeypatch.setenv("PATH", str(tmp_path / on_path) if on_path else "")
    assert to_go_on(Path("exp/my demo")) == f"{typed} -m flowrl.bottomup_parallel --graph_path 'exp/my demo'"


def test_an_experiment_without_skills_says_so():
    assert printed([]) == ["No skills."]


@pytest.mark.parametrize(
    ("frames", "text"),
    [(None, "-"), (0, "0"), (999, "999"), (1000, "1.0k"), (49_152, "49.2k"), (10**8, "100.0M"), (2 * 10**9, "2.0B")],
)
def test_frames_are_short(frames, text):
    assert frames_text(frames) == text
