"""One evaluation of an experiment's library: every skill on its plan, then whole episodes; printed, and written to a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import flowrl
from flowrl.envs.adapter import GameAdapter
from flowrl.envs.readings import goal_names
from flowrl.evaluation import bench as benches
from flowrl.evaluation import findings
from flowrl.evaluation.bench import Bench
from flowrl.evaluation.library import Library
from flowrl.evaluation.planner import PlannerSettings
from flowrl.evaluation.rehearsed import Seen, seen
from flowrl.evaluation.skill_tests import SkillTest
from flowrl.files import write_json, write_whole
from flowrl.paths import ExperimentPaths


class EvaluationRequest(Protocol):
    """What an evaluation is asked for."""

    episodes: int
    """Whole ones."""
    skill_episodes: int
    """For each skill; so many are played side by side."""
    max_steps: int
    """Of a whole episode."""
    seed: int
    log: bool
    """Whether to write down each choice of the planner in the first episode."""


class _Whole(NamedTuple):
    """What whole episodes showed, and by which planner."""

    settings: PlannerSettings
    figures: dict[str, Any]
    choices: list[str]


def evaluate(
    paths: ExperimentPaths,
    found: Library,
    adapter: GameAdapter,
    request: EvaluationRequest,
    out: Console,
    flat: Mapping[str, Library] | None = None,
) -> dict[str, Any]:
    """Measures a library, prints what was found, and writes it to the experiment's ``evaluation.json``.

    Whole episodes are played where the game declares goals to play for.

    Args:
        flat: plain agents by name, each a library of one skill, to be measured in the same worlds.
    """
    bench = benches.set_up(found, adapter, request.skill_episodes)
    with _bar(out) as bar:
        tests = _test_skills(bench, request, bar)
        whole = _play_whole(bench, tests, seen(paths, found), request, bar) if goal_names(adapter) else None
        plain = {name: _play_plain(name, agent, adapter, request, bar) for name, agent in (flat or {}).items()}
    data = {
        "version": findings.VERSION,
        "flowrl": flowrl.__version__,
        "env_name": found.env_name,
        "seed": request.seed,
        "frames": found.total_frames,
        "planner": whole.settings._asdict() if whole else None,
        "skills": [findings.of_skill(skill, tests.get(skill.name)) for skill in found.skills],
        "whole": whole.figures if whole else None,
        "flat": plain,
    }
    write_json(paths.evaluation, data)
    if whole and request.log:
        write_whole(paths.planner_log, "".join(f"{line}\n" for line in whole.choices))
    _print(data, out)
    written = [paths.evaluation, *([paths.planner_log] if whole and request.log else [])]
    out.print("\nWritten: " + ", ".join(map(str, written)), soft_wrap=True, markup=False)
    return data


def evaluate_plain(name: str, agent: Library, adapter: GameAdapter, request: EvaluationRequest, out: Console) -> dict[str, Any]:
    """Whole episodes of a plain agent that is beside no library; what `evaluate` returns for each of its plain agents."""
    with _bar(out) as bar:
        return _play_plain(name, agent, adapter, request, bar)


def _print(data: dict[str, Any], out: Console) -> None:
    findings.print_skills(data["skills"], out)
    if data["whole"]:
        findings.print_whole(data["whole"], out)
    if data["whole"] and data["flat"]:
        findings.print_comparison(data, out)


def _test_skills(bench: Bench, request: EvaluationRequest, bar: Progress) -> dict[str, SkillTest]:
    """By name; a skill that is never done has nothing to succeed at, and no test."""
    skills = [skill for skill in bench.library.skills if not skill.spec.never_done]
    task, tests = bar.add_task("skills", total=len(skills), what=""), {}
    for skill in skills:
        bar.update(task, what=skill.name)
        tests[skill.name] = benches.measured(bench, skill, request.seed)
        bar.advance(task)
    bar.update(task, what="")
    return tests


def _play_whole(
    bench: Bench, tests: dict[str, SkillTest], rehearsed: Mapping[str, Seen], request: EvaluationRequest, bar: Progress
) -> _Whole:
    settings = PlannerSettings()
    planned = benches.planned_by(bench, tests, settings, rehearsed)
    task = bar.add_task("whole episodes", total=request.episodes, what="")
    choices: list[str] = []
    episodes = benches.play_whole(
        bench,
        planned,
        request.episodes,
        request.max_steps,
        request.seed,
        on_step=lambda ended, wanted: bar.update(task, completed=ended),
        log=choices.append if request.log else None,
    )
    return _Whole(settings, findings.of_episodes(episodes, bench.library, bench.adapter), choices)


def _play_plain(name: str, agent: Library, adapter: GameAdapter, request: EvaluationRequest, bar: Progress) -> dict[str, Any]:
    bench = benches.set_up(agent, adapter, request.skill_episodes)
    task = bar.add_task(f"plain agent, {name}", total=request.episodes, what="")
    episodes = benches.play_whole(
        bench,
        benches.equally_good(bench, PlannerSettings()),
        request.episodes,
        request.max_steps,
        request.seed,
        on_step=lambda ended, wanted: bar.update(task, completed=ended),
    )
    return {"frames": agent.total_frames, **findings.of_episodes(episodes, agent, adapter)}


@contextmanager
def _bar(out: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[what]}"), console=out, transient=True) as bar:
        yield bar
