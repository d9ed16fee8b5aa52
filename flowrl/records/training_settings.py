"""The settings of one training: the only place of their names, defaults and help.

The front door's flags, ``run.json`` and the trainer all take them from `TrainingSettings`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from flowrl.errors import BadInput
from flowrl.ranges import AT_LEAST_ONE, FRACTION, NOT_NEGATIVE, POSITIVE, check_ranges, make_whole

DEFAULT_ENV_NAME = "Craftax-Symbolic-v1"
AUTO_INIT, NO_INIT = "auto", "none"
"""The values of `TrainingSettings.init_from` that name no skill."""

TASK_STEPS = ("fixed", "successes")
"""The values of `TrainingSettings.task_steps`."""

_RANGES = {
    AT_LEAST_ONE: (
        "num_envs",
        "num_steps",
        "layer_size",
        "update_epochs",
        "num_minibatches",
        "max_task_steps",
        "candidate_timesteps",
        "init_trial",
    ),
    POSITIVE: ("lr", "clip_eps", "max_grad_norm"),
    NOT_NEGATIVE: ("total_timesteps", "ent_coef", "vf_coef", "seed", "no_progress_frames"),
    FRACTION: ("success_rate", "gamma", "gae_lambda"),
}
_TRIAL_SHARE = 5
"""By default, rewards are tried for a fifth of a run's frames."""
_FEWEST_FRAMES_WITHOUT_PROGRESS = 500_000
_NO_PROGRESS_SHARE = 10
"""By default, a run may use a tenth of its frames without progress. Runs with a large budget make large updates, of which
500,000 frames are only a few, and are meant for skills that take long to succeed for the first time."""


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of one training. A field is a flag of the front door, and its docstring the flag's help.

    Raises:
        BadInput: a value is out of its range, or two do not fit together; names the flag.
    """

    total_timesteps: int = 100_000_000
    """Most frames that a run trains, summed over its environments. 0: none; a skill's expert stays as it begins (init_from)
    until it is rehearsed."""
    success_rate: float = 0.8
    """A run ends early when this share of fresh episodes succeeds, 0 to 1."""
    max_task_steps: int = 200
    """Steps that an episode may spend on one task of the plan, for each time that the task is to be done."""
    task_steps: Literal[TASK_STEPS] = "successes"
    """successes: a task may take twice the steps within which 95 % of its skill's successes came in the skill's newest
    training, once there is one. fixed: max_task_steps, or its skill's own number."""
    num_envs: int = 1024
    """Environments stepped side by side in a run."""
    num_steps: int = 64
    """Steps of each environment between two updates."""
    layer_size: int = 512
    """Width of the hidden layers of every actor and critic."""
    lr: float = 2e-4
    """Learning rate."""
    anneal_lr: bool = True
    """Let the learning rate fall to zero over total_timesteps."""
    gamma: float = 0.99
    """Discount of the reward, per step."""
    gae_lambda: float = 0.95
    """Bias-variance trade-off of the advantage estimate, 0 to 1."""
    clip_eps: float = 0.2
    """PPO's clipping range."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the critic's loss."""
    max_grad_norm: float = 1.0
    """Largest gradient norm of an expert; larger gradients are scaled down."""
    update_epochs: int = 4
    """Passes over the collected steps in an update."""
    num_minibatches: int = 8
    """Minibatches in a pass."""
    mixed_precision: bool = False
    """Multiply in bfloat16 and add up in float32, for GPUs; parameters stay float32."""
    seed: int = 0
    """Seed of all randomness."""
    candidate_timesteps: int | None = None
    """Frames of total_timesteps in which a skill's rewards are tried, for all of them (a fifth of total_timesteps)."""
    no_progress_frames: int | None = None
    """Frames in which a new expert may act and still hardly ever succeed; then its run is given up. 0: never (500,000, or a
    tenth of total_timesteps if that is more)."""
    init_from: str = NO_INIT
    """What a new skill's actor and critic start from: none (fresh ones), auto (the expert of the library's skill that is most
    like the new one), or the name of a skill, whose expert is taken as soon as the library has it."""
    init_trial: int = 1
    """With --init_from auto: try this many initial experts for a new skill side by side, the best candidates of the library and
    a fresh one, and continue with the one that succeeds most often. 1: take the best candidate untried."""
    hold_dependencies: bool = False
    """Leave the experts of a skill's dependencies as they are while it is trained; only its own expert learns."""
    use_wandb: bool = False
    """Report each run to Weights & Biases, grouped by experiment."""
    wandb_project: str = "flow_rl_parallel"
    """Weights & Biases project."""
    tensorboard: bool = False
    """Write event files for TensorBoard, to tensorboard/ in the experiment's folder."""

    def __post_init__(self):
        make_whole(self)
        check_ranges(self, _RANGES)
        if self.task_steps not in TASK_STEPS:
            raise BadInput(f"--task_steps must be {' or '.join(TASK_STEPS)}, found {self.task_steps!r}")
        self._check_minibatches()

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of all training settings."""
        return tuple(field.name for field in dataclasses.fields(TrainingSettings))

    @property
    def frames_per_update(self) -> int:
        return self.num_envs * self.num_steps

    @property
    def trial_frames(self) -> int:
        """Frames of the trial, for all rewards together, if a skill has several."""
        return self.candidate_timesteps or max(1, self.total_timesteps // _TRIAL_SHARE)

    @property
    def frames_without_progress(self) -> int:
        """Frames in which the new expert may act without progress before its run is given up; 0: it never is."""
        if self.no_progress_frames is not None:
            return self.no_progress_frames
        return max(_FEWEST_FRAMES_WITHOUT_PROGRESS, self.total_timesteps // _NO_PROGRESS_SHARE)

    def training(self) -> dict[str, Any]:
        """The training settings as plain values, without the fields of a subclass."""
        return {name: getattr(self, name) for name in self.names()}

    def _check_minibatches(self) -> None:
        if self.frames_per_update % self.num_minibatches:
            raise BadInput(
                f"--num_minibatches {self.num_minibatches} does not divide --num_envs * --num_steps "
                f"({self.num_envs} * {self.num_steps}); choose powers of two"
            )


@dataclass(frozen=True)
class RunSettings(TrainingSettings):
    """The training settings of one run, as ``run.json`` holds them."""

    stop_at_goal: bool = True
    """Whether the run ends at its goal; if not, it trains to the end of its budget. No flag sets this directly."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The settings among ``values``; missing ones have their defaults, and other names are ignored."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def with_num_envs(self, num_envs: int) -> Self:
        """With ``num_envs`` environments, and minibatches of about the same size as before."""
        frames = num_envs * self.num_steps
        wanted = self.num_minibatches * num_envs / self.num_envs
        fitting = (count for count in range(1, self.num_minibatches + 1) if frames % count == 0)
        num_minibatches = min(fitting, key=lambda count: abs(count - wanted))
        return dataclasses.replace(self, num_envs=num_envs, num_minibatches=num_minibatches)
