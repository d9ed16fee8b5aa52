"""The table at the end: the result of each skill, how many ran side by side, and commands to see more."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flowrl.pane.figures import rate_text
from flowrl.paths import ExperimentPaths
from flowrl.records.learned import counts_as_learned, is_done_by_chance, why_not_learned
from flowrl.records.result import NO_PROGRESS_PREFIX
from flowrl.report.figures import frames_text, minutes_text, moment
from flowrl.report.invocation import to_evaluate, to_go_on

Skill = Mapping[str, Any]
"""One entry of ``skills`` in scheduler_state.json."""

_STYLES = {"completed": "green", "running": "cyan", "failed": "red", "cancelled": "yellow", "blocked": "yellow"}


_FEW_SKILLS = 5
"""How many more skills are suggested: as many as there are already, and at most this many."""


def print_summary(
    skills: Sequence[Skill],
    rehearsals: Sequence[Skill],
    root: Path,
    since: datetime,
    now: datetime,
    out: Console,
    attach_line: Callable[[Skill], str],
    next_step: str | None,
) -> None:
    """Prints the table, the line about parallelism and the commands.

    Args:
        skills, rehearsals: as in scheduler_state.json.
        root: the experiment's folder.
        since, now: when this command started, and ended: the wall time to compare the runs with.
        attach_line: what a user types to look at a training under way.
        next_step: the command that takes the experiment further; None if there is none.
    """
    if not skills:
        out.print("No skills.")
        return
    out.print(skill_table(skills))
    for line in learned_lines(skills):
        out.print(line, soft_wrap=True, markup=False)
    if rehearsals:
        out.print(rehearsal_table(rehearsals))
    if line := parallelism([*skills, *rehearsals], since, now):
        out.print(line)
    out.print("\nTo look further:")
    for command in [*commands([*skills, *rehearsals], root, attach_line), *([next_step] if next_step else [])]:
        out.print(f"  {command}", soft_wrap=True, markup=False)


def skill_table(skills: Iterable[Skill]) -> Table:
    """One row a skill, in the order of the state file."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, justify in (
        ("skill", "left"), ("expert", "right"), ("status", "left"), ("frames", "right"),
        ("success rate", "right"), ("random policy", "right"), ("minutes", "right"),
    ):  # fmt: skip
        table.add_column(heading, justify=justify, no_wrap=heading != "status")
    for skill in skills:
        table.add_row(
            skill["skill_name"],
            "-" if skill["expert_idx"] is None else str(skill["expert_idx"]),
            Text(_status(skill), style=_STYLES.get(skill["status"], "")),
            frames_text(skill["frames"]),
            rate_text(skill["success_rate"]),
            rate_text(skill["random_success_rate"]),
            minutes_text(skill.get("minutes")),
        )
    return table


def rehearsal_table(rehearsals: Iterable[Skill]) -> Table:
    """One row a rehearsal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("rehearsal", "status", "frames", "achievements", "minutes"):
        table.add_column(heading, justify="left" if heading in ("rehearsal", "status") else "right", no_wrap=True)
    for entry in rehearsals:
        table.add_row(
            entry["skill_name"],
            Text(entry["status"], style=_STYLES.get(entry["status"], "")),
            frames_text(entry["frames"]),
            rate_text(entry["achievements"]),
            minutes_text(entry.get("minutes")),
        )
    return table


def learned_lines(skills: Sequence[Skill]) -> list[str]:
    """How many skills count as learned, and each completed one that does not since a random policy does it too."""
    can_be_learned = [skill for skill in skills if not skill.get("never_done")]
    completed = [skill for skill in can_be_learned if skill["status"] == "completed"]
    num_learned = sum(counts_as_learned(skill["goal_reached"], skill["random_success_rate"]) for skill in completed)
    remarks = (why_not_learned(skill["skill_name"], skill["random_success_rate"]) for skill in completed)
    return [f"{num_learned} of {len(can_be_learned)} skills learned", *filter(None, remarks)]


def _status(skill: Skill) -> str:
    if skill["status"] == "completed" and skill["goal_reached"] is False:
        return "completed, below the goal"
    if skill["status"] == "completed" and is_done_by_chance(skill["random_success_rate"]):
        return "completed, by chance"
    if skill["status"] == "blocked":
        return f"blocked by {', '.join(skill['blocked_by'])}"
    return "failed, no progress" if _was_given_up(skill) else skill["status"]


def _was_given_up(skill: Skill) -> bool:
    """Whether its run made no progress; trying the same again would make none either."""
    return skill["status"] == "failed" and (skill["error"] or "").startswith(NO_PROGRESS_PREFIX)


def parallelism(skills: Iterable[Skill], since: datetime, now: datetime) -> str | None:
    """Run minutes over wall minutes; None if nothing was trained in that time.

    Of a run that began earlier, or is still running, only the part between ``since`` and ``now`` counts.
    """
    spans = ((moment(skill["started_at"]), moment(skill["completed_at"]) or now) for skill in skills)
    run_s = sum(max(0.0, (min(end, now) - max(start, since)).total_seconds()) for start, end in spans if start)
    wall_s = (now - since).total_seconds()
    if run_s == 0 or wall_s <= 0:
        return None
    return f"{run_s / 60:.1f} run minutes in {wall_s / 60:.1f} wall minutes: {run_s / wall_s:.2f} skills at a time, on average"


def commands(skills: Sequence[Skill], root: Path, attach_line: Callable[[Skill], str]) -> list[str]:
    """What to type to see more of this experiment."""
    paths = ExperimentPaths(root)
    lines = [f"jq . {quoted(paths.state)}", f"ls {quoted(paths.skills)}"]
    finished = [skill for skill in skills if skill["status"] == "completed" and skill["expert_idx"] is not None]
    if finished:
        newest = finished[-1]
        lines.append(f"cat {quoted(paths.skill_folder(newest['expert_idx'], newest['skill_name']) / 'training.log')}")
        lines.append(to_evaluate(root))
    failed = [skill for skill in skills if skill["status"] in ("failed", "cancelled") and skill["run_folder"]]
    lines += [f"tail {quoted(root / skill['run_folder'] / 'training.log')}" for skill in failed]
    lines += [attach_line(skill) for skill in skills if skill["status"] == "running" and skill["tmux_session"]]
    return lines


def next_step(
    skills: Sequence[Skill], root: Path, max_nodes: int, num_left: int | None, rehearsal: Skill | None = None
) -> str | None:
    """The command that takes an experiment further; None if there is none.

    Args:
        max_nodes: most skills of the experiment.
        num_left: how many more skills could be proposed; None if that is not known.
        rehearsal: the newest one.
    """
    runs = [*skills, *([rehearsal] if rehearsal else [])]
    if any(run["status"] in ("failed", "cancelled") and not _was_given_up(run) for run in runs):
        return f"{to_go_on(root)} --retry_failed"
    if num_left == 0:
        return None
    num_skills = sum(not skill.get("never_done") for skill in skills)
    if num_skills < max_nodes:
        return to_go_on(root)
    num_more = min(_FEW_SKILLS, num_skills, _FEW_SKILLS if num_left is None else num_left)
    return f"{to_go_on(root)} --max_nodes {num_skills + num_more}"


def proposer_line(proposer: Mapping[str, Any]) -> str | None:
    """What a language model was asked and cost; None if there was none.

    Args:
        proposer: as in scheduler_state.json.
    """
    if proposer.get("kind") != "llm":
        return None
    if proposer["mode"] == "replay":
        return f"{proposer['model']}: replayed from recordings at no cost"
    tokens = sum(proposer["tokens"].values())
    paid = "price not known" if proposer["cost_usd"] is None else f"${proposer['cost_usd']:.4f}"
    budget = "" if proposer["budget_usd"] is None else f" of ${proposer['budget_usd']:g}"
    given_up = f", {len(proposer['refused'])} skills given up" if proposer["refused"] else ""
    return f"{proposer['model']}: {proposer['calls']} calls, {frames_text(tokens)} tokens, {paid}{budget}{given_up}"


def quoted(path: Path) -> str:
    """A path as it is typed in a shell."""
    return shlex.quote(str(path))
