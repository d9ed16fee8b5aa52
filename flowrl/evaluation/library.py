"""A library as its folder has it: each completed skill with its expert, its code, its plan, and what its training measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowrl import pickles
from flowrl.errors import BadInput
from flowrl.files import read_json
from flowrl.paths import SKILL_DATA, ExperimentPaths, RunPaths
from flowrl.records import result as run_result
from flowrl.records import run_record
from flowrl.records.result import RunResult
from flowrl.records.run_record import PlannedTask, RunRecord
from flowrl.skills.facts import GameFacts, check_resources
from flowrl.skills.gate_report import check_module
from flowrl.skills.spec import SkillSpec


@dataclass(frozen=True)
class LibrarySkill:
    """One completed skill."""

    index: int
    """Its expert's global index."""
    name: str
    spec: SkillSpec
    module_text: str
    """The module of its last run: the functions of every task of its plan, its own last."""
    plan: tuple[PlannedTask, ...]
    """From a fresh world through the skill itself."""
    max_task_steps: tuple[int, ...]
    """For each task of the plan, the steps for each unit of ``n``."""
    result: RunResult | None
    """What its last run measured; None where that was not kept."""
    params: Any
    """The parameters of its expert, as numpy arrays; None where only the skill was asked for."""
    total_frames: int | None = None
    """The age of its expert in training; None where that was not kept."""

    @property
    def own_max_steps(self) -> int:
        """Steps that the skill may take for each unit of ``n``."""
        return self.max_task_steps[-1]


@dataclass(frozen=True)
class Library:
    """The completed skills of an experiment, by global index."""

    env_name: str
    layer_size: int
    mixed_precision: bool
    skills: tuple[LibrarySkill, ...]
    total_frames: int
    """Trained for these skills, all runs together."""

    @property
    def specs(self) -> dict[str, SkillSpec]:
        """By name, in the order in which they were added."""
        return {skill.name: skill.spec for skill in self.skills}


def completed(paths: ExperimentPaths) -> list[tuple[int, str]]:
    """Index and name of each skill that has an expert, by index."""
    return [(index, name) for index, name in sorted(paths.library().items()) if paths.expert_params(index, name).exists()]


def recorded(paths: ExperimentPaths) -> tuple[LibrarySkill, ...]:
    """The completed skills that have a record of their training, without their experts' parameters. A migrated skill has none.

    Raises:
        BadInput: a file is missing or damaged, or code has not passed the gate.
    """
    folders = [(paths.skill_folder(index, name), paths.skill_module(index, name)) for index, name in completed(paths)]
    return tuple(
        read_skill(folder, module, _record(folder), None) for folder, module in folders if (folder / run_record.NAME).exists()
    )


def load(paths: ExperimentPaths, facts: GameFacts) -> Library:
    """Reads the library of an experiment.

    Args:
        facts: of the experiment's game.

    Raises:
        BadInput: there is no library, it is empty or of another game, a file of it is missing or damaged, its experts do not
            fit together, or code in it has not passed the gate.
    """
    found = sorted(paths.library().items())  # all folders: one that lacks its expert is named
    if not found:
        raise BadInput(
            f"{paths.root} has no completed skill; train some first, as with python -m flowrl.bottomup_parallel "
            f"--graph_path {paths.root}"
        )
    records = [_record(paths.skill_folder(index, name)) for index, name in found]
    skills = tuple(_skill(paths, index, name, record) for (index, name), record in zip(found, records))
    for skill, record in zip(skills, records):
        _check(skill, record, records[0], paths, facts)
    _check_plans(skills, paths)
    settings = records[0].settings
    return Library(facts.env_name, settings.layer_size, settings.mixed_precision, skills, frames_trained(paths))


def frames_trained(paths: ExperimentPaths) -> int:
    """All frames that were trained in an experiment: for its skills, earlier runs of them, rehearsals, and runs that came to
    nothing."""
    merged = [
        *paths.skills.rglob(run_result.NAME),
        *(paths.rehearsal_records(name) / run_result.NAME for name in paths.rehearsals()),
    ]
    results = [*merged, *paths.training_runs.glob(f"*/{run_result.NAME}")]
    counted = {path.parent: frames for path in results if (frames := run_result.frames_in(path))}
    unfinished = (folder for folder in paths.training_runs.glob("*_*") if folder not in counted)
    return sum(counted.values()) + sum(_frames_in_checkpoints(folder) for folder in unfinished)


def _frames_in_checkpoints(folder: Path) -> int:
    """Of a run that is under way: as many as its newest checkpoint has."""
    try:
        return RunPaths(folder).checkpointed_frames
    except ValueError:  # no run's folder
        return 0


def _record(folder: Path) -> RunRecord:
    path = folder / run_record.NAME
    try:
        return run_record.read(path)
    except FileNotFoundError:
        raise run_record.missing_in_library(path, folder) from None


def _skill(paths: ExperimentPaths, index: int, name: str, record: RunRecord) -> LibrarySkill:
    folder = paths.skill_folder(index, name)
    try:
        expert = pickles.load(paths.expert_params(index, name))
    except FileNotFoundError as error:
        raise _missing(error, folder) from None
    total_frames = (expert.get("metadata") or {}).get("total_frames")
    return read_skill(folder, paths.skill_module(index, name), record, expert.get("params"), total_frames)


def read_skill(folder: Path, module: Path, record: RunRecord, params: Any, total_frames: int | None = None) -> LibrarySkill:
    """A skill, from the folder that has its records.

    Args:
        module: its code.
        params: of its expert.

    Raises:
        BadInput: a file is missing or damaged, or the code has not passed the gate.
    """
    try:
        data, module_text = read_json(folder / SKILL_DATA), module.read_text()
    except FileNotFoundError as error:
        raise _missing(error, folder) from None
    try:
        check_module(module_text, record.gate)
    except BadInput as error:
        raise BadInput(f"{module}: {str(error).partition(';')[0]}; restore it from a copy, or move {folder} away") from error
    return LibrarySkill(
        index=record.global_expert_idx,
        name=record.skill_name,
        spec=SkillSpec.from_data(data),
        module_text=module_text,
        plan=record.plan,
        max_task_steps=tuple(task.max_task_steps or record.settings.max_task_steps for task in record.plan),
        result=run_result.find(folder / run_result.NAME),
        params=params,
        total_frames=total_frames,
    )


def _missing(error: FileNotFoundError, folder: Path) -> BadInput:
    return BadInput(f"{error.filename} is missing; restore it from a copy, or move {folder} away")


def _check(skill: LibrarySkill, record: RunRecord, first: RunRecord, paths: ExperimentPaths, facts: GameFacts) -> None:
    """Accepts a skill of this game whose expert has the shape of the first one's."""
    folder = paths.skill_folder(skill.index, skill.name)
    run_record.check_game(record, facts.env_name, folder)
    check_resources(skill.spec, facts)
    width, expected = record.settings.layer_size, first.settings.layer_size
    found = _width_of(skill.params)
    if width != expected or found != expected:
        raise BadInput(
            f"the expert of {skill.name}, {paths.expert_params(skill.index, skill.name)}, has layers of width "
            f"{found if found != expected else width}, and the library's first expert {expected}; restore it, or move {folder} "
            "away"
        )


def _width_of(params: Any) -> int | None:
    """Of an expert's hidden layers; None for what is no expert."""
    try:
        return len(params["actor"]["torso"]["Dense_1"]["bias"])
    except (KeyError, TypeError):
        return None


def _check_plans(skills: Sequence[LibrarySkill], paths: ExperimentPaths) -> None:
    names = {skill.name for skill in skills}
    for skill in skills:
        if lacking := [task.skill_name for task in skill.plan if task.skill_name not in names]:
            raise BadInput(
                f"the plan of {skill.name} uses {lacking[0]}, which is not in {paths.skills}; restore its folder from a copy"
            )
