"""Everything that the page shows, read from the experiment's folder. What cannot be read is said, and the rest is shown."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from flowrl.errors import BadInput
from flowrl.files import read_json
from flowrl.paths import FILM_SUFFIXES, WHOLE_FILM, ExperimentPaths
from flowrl.records import history
from flowrl.records.learned import num_learned
from flowrl.report.page import curves
from flowrl.report.page.curves import Curve
from flowrl.report.page.spans import Span, critical_path, spans_of, waits
from flowrl.report.status import snapshot as snapshots
from flowrl.report.status.snapshot import Run, Snapshot

_LOG_BYTES = 16 * 1024
_LOG_LINES = 25
_PACKAGES = ("jax", "flax", "optax", "craftax", "numpy")


_FILMS = {False: "Played on a fresh world.", True: "The same world at four moments of the training."}
_WHOLE_CAPTION = {False: "A whole episode in a fresh world: the planner chooses, the experts act."}
"""Captions of films, by whether they show how the expert got better."""


@dataclass(frozen=True)
class Film:
    """A film of a skill, or of whole episodes."""

    address: str
    """Relative to the page."""
    caption: str


@dataclass(frozen=True)
class SkillFacts:
    """One skill or rehearsal: what it is, what was trained, and what came of it."""

    run: Run
    data: Mapping[str, Any]
    """skill.json."""
    record: Mapping[str, Any]
    """run.json."""
    result: Mapping[str, Any]
    """result.json."""
    curve: Curve
    log_end: str
    films: tuple[Film, ...] = ()
    measured: Mapping[str, Any] | None = None
    """What ``flowrl evaluate`` found last of this skill, with the library's experts at that time."""
    proposal: Mapping[str, Any] | None = None
    """What a language model was asked for it, and at what cost; as in scheduler_state.json."""

    @property
    def curve_shows(self) -> str:
        """What the curve is of."""
        if self.run.never_done:
            return "reward a step"
        return "achievements" if self.name.startswith("rehearsal_") else "success"

    @property
    def name(self) -> str:
        return self.run.skill_name

    @property
    def remapping(self) -> list[tuple[int, int, str]]:
        """Global index, local index and name of each expert of its run."""
        experts = _rows(self.record.get("experts"))
        return [
            (expert.get("global_expert_idx"), expert.get("local_expert_idx"), expert.get("skill_name")) for expert in experts
        ]

    @property
    def plan(self) -> list[Mapping[str, Any]]:
        return _rows(self.record.get("plan")) or _rows(self.data.get("execution_plan"))

    @property
    def differences(self) -> list[str]:
        """What successful episodes showed otherwise than declared."""
        return [str(row.get("text", "")) for row in _rows(self._observed.get("differences"))]

    @property
    def successes(self) -> int:
        """How many episodes that succeeded were looked at, for what is declared."""
        found = self._observed.get("successes")
        return found if isinstance(found, int) else 0

    @property
    def _observed(self) -> Mapping[str, Any]:
        found = self.data.get("observed") or self.result.get("observed")
        return found if isinstance(found, dict) else {}

    @property
    def gate(self) -> list[Mapping[str, Any]]:
        """The gate's reports."""
        found = self.data.get("gate")
        return [found] if isinstance(found, dict) else _rows(found)

    def amounts(self, role: str) -> dict[str, str]:
        """What it ``requires``, ``consumes`` or ``gains``, as people write it."""
        found = self.data.get(role)
        return {name: _amount(value) for name, value in found.items()} if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Facts:
    """The whole page."""

    snapshot: Snapshot
    skills: list[SkillFacts]
    rehearsals: list[SkillFacts]
    spans: list[Span]
    critical: list[Span]
    waits: Mapping[Span, str]
    """For each attempt that waited: what it waited for."""
    evaluation: Mapping[str, Any] | None
    whole_films: tuple[Film, ...]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    remarks: list[str] = field(default_factory=list)

    @property
    def learned(self) -> int:
        """Skills that count as learned: by the evaluation, which played the library as a whole, else by their own trainings."""
        measured = [facts.measured for facts in self.skills if facts.measured]
        return num_learned(measured) if measured else self.snapshot.learned

    def facts_of(self, name: str) -> SkillFacts | None:
        return next((facts for facts in (*self.skills, *self.rehearsals) if facts.name == name), None)


def gather(paths: ExperimentPaths, now: datetime | None = None) -> Facts:
    """Reads all of it.

    Raises:
        BadInput: the folder is no experiment, or its state cannot be read.
    """
    now = now or datetime.now(UTC)
    snapshot = snapshots.take(paths, now)
    remarks = list(snapshot.remarks)
    evaluation = _evaluation(paths, remarks)
    measured = {row.get("skill_name"): row for row in _rows(evaluation.get("skills"))}
    proposals = {row.get("name"): row for row in _rows(snapshot.proposer.get("skills"))}
    skills = [
        replace(_skill(paths, run, remarks), measured=measured.get(run.skill_name), proposal=proposals.get(run.skill_name))
        for run in snapshot.skills
    ]
    rehearsals = [_skill(paths, run, remarks) for run in snapshot.rehearsals]
    spans = spans_of(history.read(paths.history), snapshot.runs, now)
    needs = {run.skill_name: run.dependencies for run in snapshot.runs}
    return Facts(
        snapshot=snapshot,
        skills=skills,
        rehearsals=rehearsals,
        spans=spans,
        critical=critical_path(spans, needs),
        waits=waits(spans, needs),
        evaluation=evaluation or None,
        whole_films=_films(paths, WHOLE_FILM, _WHOLE_CAPTION),
        settings=_read(paths.config, []),
        versions=versions(),
        remarks=remarks,
    )


def _evaluation(paths: ExperimentPaths, remarks: list[str]) -> dict[str, Any]:
    found = _read(paths.evaluation, remarks)
    whole = found.get("whole")
    if not found or (isinstance(whole, dict) and {"achievements", "rates", "episodes"} <= whole.keys()):
        return found
    remarks.append(f"{paths.evaluation} holds no evaluation of whole episodes; flowrl evaluate writes it anew")
    return {}


def _skill(paths: ExperimentPaths, run: Run, remarks: list[str]) -> SkillFacts:
    folder = _folder(paths, run)
    if folder is None:
        return SkillFacts(run, {}, {}, {}, Curve(), "")
    return SkillFacts(
        run=run,
        data=_read(folder / "skill.json", remarks),
        record=_read(folder / "run.json", remarks),
        result=_read(folder / "result.json", remarks),
        curve=curves.read(folder / "metrics.jsonl", run.never_done),
        log_end=_end_of(folder / "training.log"),
        films=_films(paths, run.skill_name, _FILMS),
    )


def _folder(paths: ExperimentPaths, run: Run) -> Path | None:
    """Where the records of its newest run are: with the run until it is merged, then in the library."""
    name, index = run.skill_name, run.expert_idx
    if name.startswith("rehearsal_"):
        places = [paths.run_folder(None, name), paths.rehearsal_records(name)]
    elif index is not None:
        places = [paths.run_folder(index, name), paths.skill_folder(index, name)]
    else:
        return None
    return next((place for place in places if place.is_dir()), None)


def _films(paths: ExperimentPaths, name: str, captions: Mapping[bool, str]) -> tuple[Film, ...]:
    """Of each kind the first form that is there.

    Args:
        captions: of films, by whether they show how the expert got better.
    """
    found = []
    for of_progress, caption in captions.items():
        files = (paths.film(name, suffix, of_progress) for suffix in FILM_SUFFIXES)
        if film := next((file for file in files if file.is_file()), None):
            found.append(Film(f"films/{film.name}", caption))
    return tuple(found)


def _read(path: Path, remarks: list[str]) -> dict[str, Any]:
    try:
        found = read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, BadInput) as error:
        remarks.append(f"{error}; left out here")
        return {}
    return found if isinstance(found, dict) else {}


def _rows(value: Any) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _amount(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    per, fixed = value.get("per", 0), value.get("fixed", 0)
    parts = [f"{per} n" if per != 1 else "n"] if per else []
    parts += [str(fixed)] if fixed or not parts else []
    return " + ".join(parts)


def _end_of(log: Path) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _LOG_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-_LOG_LINES:])


def versions(version: Callable[[str], str] = metadata.version) -> dict[str, str]:
    """Of flowrl, Python, and the packages that decide what is trained; those that are not installed are left out."""
    import flowrl

    found = {"flowrl": flowrl.__version__, "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
