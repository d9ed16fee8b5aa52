"""A library as its folder has it: each completed skill with its expert, its code, its plan, and what its training measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowrl import pickles
from flowrl.errors import BadInput
from flowrl.files import read_json
from flowrl.paths import SKILL_DATA, ExperimentPaths
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
    """The parameters of its expert, as numpy arrays."""

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

    @property
    def places(self) -> dict[int, int]:
        """Global index to position among the skills."""
        return {skill.index: position for position, skill in enumerate(self.skills)}

    def named(self, name: str) -> LibrarySkill:
        """One of the skills.

        Raises:
            BadInput: there is no such skill; lists those that there are.
        """
        for skill in self.skills:
            if skill.name == name:
                return skill
        raise BadInput(f"the library has no skill {name}; its skills are: {', '.join(self.specs)}")


def load(paths: ExperimentPaths, facts: GameFacts) -> Library:
    """Reads the library of an experiment.

    Args:
        facts: of the experiment's game.

    Raises:
        BadInput: there is no library, it is empty or of another game, a file of it is missing or damaged, or code in it has
            not passed the gate.
    """
    found = [(index, name) for index, name in sorted(paths.library().items()) if paths.expert_params(index, name).exists()]
    if not found:
        raise BadInput(
            f"{paths.root} has no completed skill; train some first, as with python -m flowrl.bottomup_parallel "
            f"--graph_path {paths.root}"
        )
    records = [_record(paths.skill_folder(index, name)) for index, name in found]
    skills = tuple(_skill(paths, index, name, record) for (index, name), record in zip(found, records))
    for skill, record in zip(skills, records):
        if record.env_name != facts.env_name:
            raise BadInput(
                f"{skill.name} in {paths.root} was trained on {record.env_name}, and the experiment's game is "
                f"{facts.env_name}; move {paths.skill_folder(skill.index, skill.name)} away, or name the right folder"
            )
        check_resources(skill.spec, facts)
    settings = records[0].settings
    frames = sum(skill.result.frames or 0 for skill in skills if skill.result)
    return Library(facts.env_name, settings.layer_size, settings.mixed_precision, skills, frames)


def _record(folder: Path) -> RunRecord:
    try:
        return run_record.read(folder / run_record.NAME)
    except FileNotFoundError:
        raise BadInput(f"{folder / run_record.NAME} is missing; restore it from a copy, or move {folder} away") from None


def _skill(paths: ExperimentPaths, index: int, name: str, record: RunRecord) -> LibrarySkill:
    folder = paths.skill_folder(index, name)
    module = paths.skill_module(index, name)
    try:
        data, module_text = read_json(folder / SKILL_DATA), module.read_text()
        params = pickles.load(paths.expert_params(index, name))["params"]
    except FileNotFoundError as error:
        raise BadInput(f"{error.filename} is missing; restore it from a copy, or move {folder} away") from None
    check_module(module_text, record.gate)
    return LibrarySkill(
        index=index,
        name=name,
        spec=SkillSpec.from_data(data),
        module_text=module_text,
        plan=record.plan,
        max_task_steps=tuple(task.max_task_steps or record.settings.max_task_steps for task in record.plan),
        result=run_result.find(folder / run_result.NAME),
        params=params,
    )
