"""The settings of a training on host environments: the only place of their names, defaults and help.

A field is a flag of the commands, and its docstring the flag's help.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from flowrl.errors import BadInput
from flowrl.paths import given_path
from flowrl.ranges import AT_LEAST_ONE, FRACTION, NOT_NEGATIVE, POSITIVE, check_ranges, make_whole

_RANGES = {
    AT_LEAST_ONE: (
        "n_envs",
        "num_workers",
        "num_episodes",
        "num_steps",
        "layer_size",
        "update_epochs",
        "num_minibatches",
        "eval_episodes",
    ),
    POSITIVE: ("learning_rate", "clip_eps", "max_grad_norm", "timeout_s", "duration"),
    NOT_NEGATIVE: ("ent_coef", "vf_coef", "seed", "eval_every", "checkpoint_s"),
    FRACTION: ("gamma", "gae_lambda"),
}
_FRAMES_PER_UPDATE = 1024
_STEPS_UNIT = 16
"""`num_steps` is a multiple of this unless it is given, so that it divides into minibatches for any number of environments."""


@dataclass(frozen=True)
class EnvironmentSettings:
    """Which environments."""

    env: str = "CartPole-v1"
    """A Gymnasium id, such as LunarLander-v3 or ALE/Pong-v5, or module:callable, a function that makes an environment."""
    timeout_s: float = 60.0
    """Seconds after which a worker that does not answer counts as hanging, and is replaced."""


@dataclass(frozen=True)
class BatchSettings(EnvironmentSettings):
    """How environments are stepped as one batch."""

    n_envs: int = 1
    """Environments stepped as one batch."""
    method: Literal["auto", "sequential", "threads", "processes"] = "auto"
    """How they are stepped. auto: measure one for 0.2 s and choose."""
    parallel_start_method: Literal["default", "spawn", "forkserver", "fork"] = "default"
    """How worker processes are started; default is spawn."""
    num_workers: int | None = None
    """Worker processes, or threads with --method threads (one for each core)."""


@dataclass(frozen=True)
class LearningSettings:
    """How an agent learns."""

    learning_rate: float = 3e-4
    """Step size of Adam."""
    anneal_lr: bool = True
    """Let the learning rate fall to zero over the training."""
    num_steps: int | None = None
    """Steps of each environment between two updates (1024 / n_envs, at least 16)."""
    update_epochs: int | None = None
    """Passes over the collected steps in an update (10; 4 for images)."""
    num_minibatches: int | None = None
    """Minibatches in a pass (16, or 4 for images; fewer where that does not divide n_envs * num_steps)."""
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
    max_grad_norm: float = 0.5
    """Largest norm of a gradient; larger gradients are scaled down."""
    layer_size: int = 64
    """Width of the two hidden layers of actor and critic; the network for images has its own widths."""
    clip_rewards: bool | None = None
    """Learn from the sign of each reward alone (only for Atari games, whose scores differ by factors of 1,000)."""
    seed: int = 0
    """Seed of all randomness; environment i is seeded with seed + i."""


@dataclass(frozen=True)
class SessionSettings:
    """When a training ends, and what it leaves."""

    num_episodes: int | None = None
    """Episodes to train, counted over all environments."""
    stop_at: float | None = None
    """End the training once the mean return of the last 100 episodes has reached this."""
    duration: float | None = None
    """End the training after this many hours, and a few updates at least; hours of earlier starts count (no limit)."""
    device: Literal["cpu", "cuda", "mps"] = "cpu"
    """Where the agent learns."""
    checkpoint_s: float = 60.0
    """Seconds between checkpoints; 0 for one after each update."""
    eval_every: int = 250
    """Episodes between evaluations, a tenth of eval_episodes each, on a single environment; 0: only at the end."""
    eval_episodes: int = 100
    """Episodes of the last evaluation, on a single environment."""
    tmux: bool = False
    """Train in a tmux session of its own, named flowrl_host_FOLDER, and return at once."""
    use_wandb: bool = False
    """Report to Weights & Biases."""
    wandb_project: str = "flow_rl_parallel"
    """Weights & Biases project."""
    tensorboard: bool = False
    """Write event files for TensorBoard, to tensorboard/ in the folder of the checkpoints."""


@dataclass(frozen=True)
class AgentSettings(SessionSettings, LearningSettings, EnvironmentSettings):
    """What all trainings of an agent have in common.

    Raises:
        BadInput: a value is out of its range; names the flag.
    """

    FOLDER_FLAG: ClassVar[str]
    """The flag that names the folder of the training."""

    def __post_init__(self):
        make_whole(self)
        check_ranges(self, _RANGES)

    @property
    def folder(self) -> Path:
        """The folder of the training."""
        raise NotImplementedError

    @property
    def most_episodes(self) -> int | None:
        """Episodes after which the training ends; None if something else ends it."""
        return self.num_episodes

    @property
    def learns_from_signs(self) -> bool:
        """Whether rewards are clipped to -1, 0 and 1 before the agent learns from them (Mnih et al. 2015)."""
        return self.env.startswith("ALE/") if self.clip_rewards is None else self.clip_rewards

    @property
    def env_in_paths(self) -> str:
        """The environment's name with nothing in it that a path cannot have."""
        return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in self.env)

    @property
    def first_step_size(self) -> float:
        """The learning rate at the start."""
        return self.learning_rate

    def step_size(self, episodes: int) -> float:
        """The learning rate after so many episodes: it falls to zero over all of them."""
        if not self.anneal_lr or self.most_episodes is None:
            return self.first_step_size
        return self.first_step_size * max(0.0, 1 - episodes / self.most_episodes)

    def to_json(self) -> dict[str, Any]:
        """All settings as plain values."""
        values = dataclasses.asdict(self)
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


@dataclass(frozen=True)
class PPOSettings(AgentSettings, BatchSettings):
    """Trains an agent by PPO on Gymnasium environments, many at once.

    The same command goes on where it stopped. `-` and `_` are the same in a flag, and counts may be written as 1e4.

    Raises:
        BadInput: a value is out of its range, or two do not fit together; names the flag.
    """

    FOLDER_FLAG = "--checkpoint_dir"

    num_episodes: int = 1000
    """Episodes to train, counted over all environments."""
    checkpoint_dir: Path | None = None
    """Folder of the training, with checkpoints and metrics.jsonl (checkpoints/ppo_ENV_N_envs_seed_SEED)."""

    def __post_init__(self):
        super().__post_init__()
        if self.checkpoint_dir is not None:
            object.__setattr__(self, "checkpoint_dir", given_path(self.checkpoint_dir, "--checkpoint_dir"))
        if self.num_minibatches and self.num_steps and self.frames_per_update % self.num_minibatches:
            raise BadInput(
                f"--num_minibatches {self.num_minibatches} does not divide --n_envs * --num_steps "
                f"({self.n_envs} * {self.num_steps}); choose powers of two"
            )

    @property
    def folder(self) -> Path:
        if self.checkpoint_dir is not None:
            return self.checkpoint_dir
        return Path("checkpoints") / f"ppo_{self.env_in_paths}_{self.n_envs}_envs_seed_{self.seed}"

    @property
    def steps_per_update(self) -> int:
        if self.num_steps:
            return self.num_steps
        return max(_STEPS_UNIT, _FRAMES_PER_UPDATE // self.n_envs // _STEPS_UNIT * _STEPS_UNIT)

    @property
    def frames_per_update(self) -> int:
        return self.n_envs * self.steps_per_update

    def epochs(self, images: bool) -> int:
        """Passes over the collected steps in an update."""
        return self.update_epochs or (4 if images else 10)

    def minibatches(self, images: bool) -> int:
        """Minibatches in a pass; they divide `frames_per_update`."""
        wanted = self.num_minibatches or (4 if images else 16)
        return next(count for count in range(wanted, 0, -1) if self.frames_per_update % count == 0)

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "checkpoint_dir": str(self.folder)}
