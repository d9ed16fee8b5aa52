"""What a run has to do, read from its folder: ``run.json``, the module, and the experts to start from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from flowrl import pickles
from flowrl.errors import BadInput
from flowrl.files import read_json
from flowrl.paths import RunPaths
from flowrl.skills.candidates import trial_frames
from flowrl.skills.gate_report import check_module
from flowrl.training.learning.networks import Params
from flowrl.training.learning.ppo import Hyperparameters

RUN_VERSION = 1


@dataclass(frozen=True)
class TrainingSettings:
    """The flags that concern one training; see ``python -m flowrl.bottomup_parallel --help``."""

    total_timesteps: int
    success_rate: float
    num_envs: int
    num_steps: int
    layer_size: int
    lr: float
    anneal_lr: bool
    gamma: float
    gae_lambda: float
    clip_eps: float
    ent_coef: float
    vf_coef: float
    max_grad_norm: float
    update_epochs: int
    num_minibatches: int
    max_task_steps: int
    seed: int
    use_wandb: bool = False
    wandb_project: str = "flow_rl_parallel"
    stop_at_goal: bool = True
    """Whether the run ends at its goal; else it trains to the end of its budget."""
    candidate_timesteps: int | None = None
    mixed_precision: bool = False

    @property
    def frames_per_update(self) -> int:
        return self.num_envs * self.num_steps

    @property
    def trial_frames(self) -> int:
        """For all rewards on trial together, where there are several."""
        return trial_frames(self.candidate_timesteps, self.total_timesteps)

    @property
    def hyperparameters(self) -> Hyperparameters:
        shared = {name: getattr(self, name) for name in Hyperparameters._fields if hasattr(self, name)}
        return Hyperparameters(**shared)

    def check(self) -> None:
        """Raises BadInput where settings do not go together."""
        if self.frames_per_update % self.num_minibatches:
            raise BadInput(
                f"num_envs x num_steps ({self.num_envs} x {self.num_steps} = {self.frames_per_update}) must be a "
                f"multiple of num_minibatches ({self.num_minibatches}); change one of the three"
            )


@dataclass(frozen=True)
class PlannedTask:
    """One task of the execution plan."""

    skill_name: str
    n: int
    local_expert_idx: int
    max_task_steps: int | None = None
    """The skill's own; None for the setting."""


@dataclass(frozen=True)
class StartingExpert:
    """An expert of the run as it was when the run was prepared."""

    skill_name: str
    global_expert_idx: int
    local_expert_idx: int
    total_frames: int
    acted_frames: int
    params: Params | None
    """None for the new expert, which training initialises."""


@dataclass(frozen=True)
class RunSpecification:
    """Everything that a run has to know; the folder is all it reads."""

    paths: RunPaths
    skill_name: str
    global_expert_idx: int
    attempt: int
    env_name: str
    settings: TrainingSettings
    plan: tuple[PlannedTask, ...]
    experts: tuple[StartingExpert, ...]
    module_text: str
    experiment: str
    asked_num_envs: int | None = None
    """The environments that were asked for, where an earlier attempt ran out of memory with them."""

    @property
    def local_to_global(self) -> dict[int, int]:
        return {expert.local_expert_idx: expert.global_expert_idx for expert in self.experts}


def read(folder: Path) -> RunSpecification:
    """Reads a run folder.

    Raises:
        BadInput: something is missing, of another version, or does not fit together; or code has not passed the gate.
    """
    paths = RunPaths(folder)
    try:
        record = read_json(paths.run_json)
        module_text = paths.module.read_text()
    except FileNotFoundError as error:
        raise BadInput(f"{folder} is not a prepared run: {error.filename} is missing; let the scheduler prepare it") from None
    if record.get("version") != RUN_VERSION:
        raise BadInput(
            f"{paths.run_json} has version {record.get('version')!r}, this flowrl reads version {RUN_VERSION}; "
            "train it with the flowrl that prepared it"
        )
    check_module(module_text, record.get("gate", ()))
    specification = RunSpecification(
        paths=paths,
        skill_name=record["skill_name"],
        global_expert_idx=record["global_expert_idx"],
        attempt=record["attempt"],
        env_name=record["env_name"],
        settings=_settings(record["settings"]),
        plan=tuple(
            PlannedTask(task["skill_name"], task["n"], task["local_expert_idx"], task.get("max_task_steps"))
            for task in record["plan"]
        ),
        experts=_experts(record["experts"], paths),
        module_text=module_text,
        experiment=record["experiment"],
        asked_num_envs=record.get("asked_num_envs"),
    )
    specification.settings.check()
    return specification


def _settings(record: dict[str, Any]) -> TrainingSettings:
    known = {field.name for field in fields(TrainingSettings)}
    return TrainingSettings(**{name: value for name, value in record.items() if name in known})


def _experts(records: list[dict[str, Any]], paths: RunPaths) -> tuple[StartingExpert, ...]:
    stored = pickles.load(paths.initial)["experts"] if paths.initial.exists() else {}
    stored = {int(index): params for index, params in stored.items()}
    ordered = sorted(records, key=lambda record: record["local_expert_idx"])
    return tuple(
        StartingExpert(
            skill_name=record["skill_name"],
            global_expert_idx=record["global_expert_idx"],
            local_expert_idx=record["local_expert_idx"],
            total_frames=record["total_frames"],
            acted_frames=record["acted_frames"],
            params=stored.get(record["local_expert_idx"]),
        )
        for record in ordered
    )
