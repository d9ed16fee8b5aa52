"""What a run has to do, read from its folder: ``run.json``, the module, and the experts to start from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from flowrl import pickles
from flowrl.errors import BadInput
from flowrl.files import read_json
from flowrl.paths import SKILL_DATA, RunPaths
from flowrl.records import run_record
from flowrl.records.run_record import PlannedTask, RunExpert, RunRecord
from flowrl.records.training_settings import RunSettings
from flowrl.skills.gate_report import check_module
from flowrl.skills.spec import SkillSpec
from flowrl.training.learning.networks import Params


@dataclass(frozen=True)
class StartingExpert(RunExpert):
    """An expert of the run, with its initial parameters."""

    params: Params | None = None
    """None for a new expert that starts fresh: training initialises it."""


@dataclass(frozen=True)
class InitialExpert:
    """One of several that a new expert may start as a copy of."""

    skill_name: str | None
    """Whose it is; None: a fresh one."""
    params: Params | None
    """None for a fresh one: training initialises it."""


@dataclass(frozen=True)
class RunSpecification:
    """Everything that a run needs to know; it reads nothing but its folder."""

    paths: RunPaths
    skill_name: str
    global_expert_idx: int
    attempt: int
    env_name: str
    settings: RunSettings
    plan: tuple[PlannedTask, ...]
    experts: tuple[StartingExpert, ...]
    module_text: str
    experiment: str
    asked_num_envs: int | None = None
    """The number of environments asked for, if an earlier attempt ran out of memory with it."""
    never_done: bool = False
    """Whether there is nothing to succeed at."""
    init_from: str | None = None
    """The skill whose expert the new expert starts as a copy of."""
    init_tried: tuple[InitialExpert, ...] = ()
    """What it may start from, where several initial experts are on trial; the first is that of ``init_from``."""
    spec: SkillSpec | None = None
    """The skill as it is declared; None where that is not known."""

    @property
    def local_to_global(self) -> dict[int, int]:
        return {expert.local_expert_idx: expert.global_expert_idx for expert in self.experts}


def read(folder: Path) -> RunSpecification:
    """Reads a run folder.

    Raises:
        BadInput: something is missing, has another version or does not fit together, or code has not passed the gate.
    """
    paths = RunPaths(folder)
    try:
        record = run_record.read(paths.run_json)
        module_text = paths.module.read_text()
    except FileNotFoundError as error:
        raise BadInput(f"{folder} is not a prepared run: {error.filename} is missing; let the scheduler prepare it") from None
    check_module(module_text, record.gate)
    return RunSpecification(
        paths=paths,
        skill_name=record.skill_name,
        global_expert_idx=record.global_expert_idx,
        attempt=record.attempt,
        env_name=record.env_name,
        settings=record.settings,
        plan=record.plan,
        experts=_experts(record.experts, paths),
        module_text=module_text,
        experiment=record.experiment,
        asked_num_envs=record.asked_num_envs,
        never_done=record.never_done,
        init_from=record.init_from,
        init_tried=_init_tried(record, paths),
        spec=_spec(paths),
    )


def _spec(paths: RunPaths) -> SkillSpec | None:
    """The skill's declaration. A run can do without it, and a run that an earlier version prepared may have none."""
    try:
        return SkillSpec.from_data(read_json(paths.folder / SKILL_DATA))
    except (FileNotFoundError, BadInput):
        return None


def _init_tried(record: RunRecord, paths: RunPaths) -> tuple[InitialExpert, ...]:
    if not record.init_tried:
        return ()
    return tuple(map(InitialExpert, record.init_tried, pickles.load(paths.initial)["init_tried"]))


def _experts(records: tuple[RunExpert, ...], paths: RunPaths) -> tuple[StartingExpert, ...]:
    stored = pickles.load(paths.initial)["experts"] if paths.initial.exists() else {}
    params = {int(index): expert for index, expert in stored.items()}
    ordered = sorted(records, key=lambda record: record.local_expert_idx)
    return tuple(StartingExpert(**asdict(record), params=params.get(record.local_expert_idx)) for record in ordered)
