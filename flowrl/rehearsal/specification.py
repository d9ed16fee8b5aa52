"""What a rehearsal has to do, read from its folder: ``run.json``, and the library as it was when it was prepared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flowrl.envs.registry import game
from flowrl.errors import BadInput
from flowrl.evaluation import library
from flowrl.evaluation.library import Library
from flowrl.paths import RunPaths
from flowrl.records import run_record
from flowrl.records.rehearsal_settings import RehearsalSettings
from flowrl.training.run.specification import RunSpecification, StartingExpert


@dataclass(frozen=True, kw_only=True)
class RehearsalSpecification(RunSpecification):
    """Everything that a rehearsal needs to know; it reads nothing but its folder. Its plan and its module are empty."""

    library: Library
    rehearsal: RehearsalSettings


def read(folder: Path) -> RehearsalSpecification:
    """Reads the folder of a rehearsal.

    Raises:
        BadInput: something is missing, has another version or does not fit together, or code has not passed the gate.
    """
    paths = RunPaths(folder)
    try:
        record = run_record.read(paths.run_json)
    except FileNotFoundError as error:
        raise BadInput(f"{folder} is not a prepared run: {error.filename} is missing; let the scheduler prepare it") from None
    if record.rehearsal is None:
        raise BadInput(f"{folder} is the run of a skill, not a rehearsal; train it with python -m flowrl.training")
    found = library.load(paths.library, game(record.env_name).facts)
    params = {skill.index: skill.params for skill in found.skills}
    if params.keys() != {expert.global_expert_idx for expert in record.experts}:
        raise BadInput(f"{paths.library.skills} does not hold the experts that {paths.run_json} names; move {folder} away")
    return RehearsalSpecification(
        paths=paths,
        skill_name=record.skill_name,
        global_expert_idx=None,
        attempt=record.attempt,
        env_name=record.env_name,
        settings=record.settings,
        plan=(),
        experts=tuple(StartingExpert(**vars(expert), params=params[expert.global_expert_idx]) for expert in record.experts),
        module_text="",
        experiment=record.experiment,
        asked_num_envs=record.asked_num_envs,
        library=found,
        rehearsal=record.rehearsal,
    )
