"""One evaluation of an experiment's library: every skill on its plan, then whole episodes; printed, and written to a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from flowrl import __version__
from flowrl.envs.adapter import GameAdapter
from flowrl.envs.readings import goal_names
from flowrl.envs.registry import GameEntry, make_adapter
from flowrl.evaluation import bench as benches
from flowrl.evaluation import findings, library
from flowrl.evaluation.bench import Bench
from flowrl.evaluation.planner import PlannerSettings
from flowrl.evaluation.skill_tests import SkillTest
from flowrl.files import write_json, write_whole
from flowrl.paths import ExperimentPaths
from flowrl.records.run_record import Slot
from flowrl.training.host import process


class Asked(Protocol):
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

    planner: dict[str, Any]
    figures: dict[str, Any]
    choices: list[str]


def evaluate(
    paths: ExperimentPaths, entry: GameEntry, asked: Asked, out: Console, flat: Mapping[str, ExperimentPaths] | None = None
) -> dict[str, Any]:
    """Measures the library, prints what was found, and writes it to the experiment's ``evaluation.json``.

    Whole episodes are played where the game declares goals to play for.

    Args:
        flat: plain agents by name, each a library of one skill, to be measured in the same worlds.

    Raises:
        BadInput: there is no library that can be played.
    """
    found = library.load(paths, entry.facts)
    process.take_slot(Slot())
    bench = benches.set_up(found, make_adapter(entry.env_name), asked.skill_episodes)
    with _bar(out) as bar:
        tests = _test_skills(bench, asked, bar)
        whole = _play_whole(bench, tests, asked, bar) if goal_names(bench.adapter) else None
        plain = {name: _play_plain(name, folder, bench.adapter, asked, bar) for name, folder in (flat or {}).items()}
    rows = [findings.of_skill(skill, tests[skill.name]) for skill in found.skills]
    data = {
        "version": findings.VERSION,
        "flowrl": __version__,
        "env_name": found.env_name,
        "seed": asked.seed,
        "frames": found.total_frames,
        "planner": whole.planner if whole else None,
        "skills": rows,
        "whole": whole.figures if whole else None,
        "flat": plain,
    }
    findings.print_skills(rows, out)
    if whole:
        findings.print_whole(whole.figures, out)
    if plain and whole:
        findings.print_comparison(data, out)
    write_json(paths.evaluation, data)
    out.print(f"\nWritten to {paths.evaluation}", soft_wrap=True, markup=False)
    if whole and asked.log:
        write_whole(paths.planner_log, "".join(f"{line}\n" for line in whole.choices))
        out.print(f"The planner's choices in the first episode: {paths.planner_log}", soft_wrap=True, markup=False)
    return data


def _test_skills(bench: Bench, asked: Asked, bar: Progress) -> dict[str, SkillTest]:
    skills = bench.library.skills
    task, tests = bar.add_task("skills", total=len(skills), what=""), {}
    for skill in skills:
        bar.update(task, what=skill.name)
        tests[skill.name] = benches.measured(bench, skill, asked.seed)
        bar.advance(task)
    bar.update(task, what="")
    return tests


def _play_whole(bench: Bench, tests: dict[str, SkillTest], asked: Asked, bar: Progress) -> _Whole:
    settings = PlannerSettings()
    planned, upkeep = benches.planned_by(bench, tests, settings)
    task = bar.add_task("whole episodes", total=asked.episodes, what="")
    choices: list[str] = []
    episodes = benches.play_whole(
        bench,
        planned,
        asked.episodes,
        asked.max_steps,
        asked.seed,
        on_step=lambda ended, wanted: bar.update(task, completed=ended),
        log=choices.append if asked.log else None,
    )
    vitals = (vital.name for vital in bench.adapter.facts.vitals)
    planner = settings._asdict() | {"upkeep": dict(zip(vitals, upkeep))}
    return _Whole(planner, findings.of_episodes(episodes, bench.library, bench.adapter), choices)


def _play_plain(name: str, folder: ExperimentPaths, adapter: GameAdapter, asked: Asked, bar: Progress) -> dict[str, Any]:
    found = library.load(folder, adapter.facts)
    bench = benches.set_up(found, adapter, asked.skill_episodes)
    task = bar.add_task(f"plain agent, {name}", total=asked.episodes, what="")
    episodes = benches.play_whole(
        bench,
        benches.planned_alike(bench, PlannerSettings()),
        asked.episodes,
        asked.max_steps,
        asked.seed,
        on_step=lambda ended, wanted: bar.update(task, completed=ended),
    )
    return {"frames": found.total_frames, **findings.of_episodes(episodes, found, adapter)}


@contextmanager
def _bar(out: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[what]}"), console=out, transient=True) as bar:
        yield bar
