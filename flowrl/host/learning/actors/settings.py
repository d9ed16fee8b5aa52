"""The settings of actors and a learner: flags of the commands, and keys of their config file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flowrl.errors import BadInput
from flowrl.host.learning.settings import AgentSettings
from flowrl.host.shares import more_than_cores
from flowrl.machine import usable_cores
from flowrl.paths import given_path
from flowrl.ranges import AT_LEAST_ONE, check_ranges

_NUM_EPISODES = 3000
_EPOCHS = {"impala": 1, "appo": 6}
_MINIBATCHES = 8
_LEARNING_RATES = {"impala": 5e-4, "appo": 3e-4}


@dataclass(frozen=True)
class ActorLearnerSettings(AgentSettings):
    """Trains an agent by actors and a learner that do not wait for each other (IMPALA), on Gymnasium environments.

    The same command goes on where it stopped. `-` and `_` are the same in a flag, and counts may be written as 1e4.

    Raises:
        BadInput: a value is out of its range, or two do not fit together; names the flag.
    """

    FOLDER_FLAG = "--output_dir"

    config: Path | None = None
    """YAML file with values for these flags, such as config/ppo_parallel.yaml; flags that are given override it."""
    algorithm: Literal["impala", "appo"] = "impala"
    """impala: the policy gradient with V-trace. appo: PPO's clipped loss with V-trace, several passes."""
    num_workers: int | None = None
    """Actor processes (one for each core)."""
    num_envs_per_worker: int = 8
    """Environments of each actor."""
    synchronous: bool = False
    """Actors wait for each update: no policy lag, and deterministic, but slower."""
    trajectories_per_update: int | None = None
    """Trajectories in an update, each of num_envs_per_worker * num_steps frames (as many as workers)."""
    learning_rate: float | None = None
    """Step size of Adam (impala 5e-4, appo 3e-4)."""
    num_steps: int | None = None
    """Steps of each environment in a trajectory (32)."""
    update_epochs: int | None = None
    """Passes over the trajectories in an update (impala 1, appo 6)."""
    num_minibatches: int | None = None
    """Minibatches in a pass (8; fewer where that does not divide the frames of an update)."""
    gae_lambda: float = 0.95
    """Bias-variance trade-off of V-trace, 0 to 1."""
    clip_eps: float = 0.2
    """The clipping range of appo."""
    num_episodes: int | None = None
    """Episodes to train, counted over all environments (3000; no limit with --duration)."""
    output_dir: Path | None = None
    """Folder of the training, with checkpoints and metrics.jsonl (checkpoints/ALGORITHM_ENV_W_workers_N_envs_seed_SEED)."""

    def __post_init__(self):
        check_ranges(self, {AT_LEAST_ONE: ("num_envs_per_worker", "trajectories_per_update")})
        super().__post_init__()
        for name in ("output_dir", "config"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, given_path(path, f"--{name}"))
        if self.synchronous and self.trajectories % self.actors:
            raise BadInput(
                f"--trajectories_per_update {self.trajectories} is no multiple of --num_workers {self.actors}, but with "
                "--synchronous each worker gives the same number to an update"
            )
        if self.num_minibatches and self.frames_per_update % self.num_minibatches:
            raise BadInput(
                f"--num_minibatches {self.num_minibatches} does not divide the {self.frames_per_update} frames of an update "
                f"({self.trajectories} trajectories of {self.num_envs_per_worker} * {self.steps_per_trajectory}); use another"
            )

    @property
    def folder(self) -> Path:
        if self.output_dir is not None:
            return self.output_dir
        sizes = f"{self.actors}_workers_{self.num_envs_per_worker}_envs"
        return Path("checkpoints") / f"{self.algorithm}_{self.env_in_paths}_{sizes}_seed_{self.seed}"

    @property
    def most_episodes(self) -> int | None:
        return self.num_episodes or (None if self.duration else _NUM_EPISODES)

    @property
    def actors(self) -> int:
        """Actor processes."""
        return self.num_workers or len(usable_cores())

    @property
    def n_envs(self) -> int:
        """Environments of all actors."""
        return self.actors * self.num_envs_per_worker

    @property
    def steps_per_trajectory(self) -> int:
        return self.num_steps or 32

    @property
    def trajectories(self) -> int:
        """Trajectories in an update."""
        return self.trajectories_per_update or self.actors

    @property
    def slots_per_actor(self) -> int:
        """Trajectories that an actor may have handed over before the learner takes one: without one of the actors, the others
        must be able to fill an update."""
        if self.synchronous:
            return self.trajectories // self.actors
        if self.actors == 1:
            return self.trajectories + 1
        return max(2, -(-self.trajectories // (self.actors - 1)))

    @property
    def frames_per_update(self) -> int:
        return self.trajectories * self.num_envs_per_worker * self.steps_per_trajectory

    @property
    def first_step_size(self) -> float:
        return self.learning_rate or _LEARNING_RATES[self.algorithm]

    @property
    def epochs(self) -> int:
        """Passes over the trajectories in an update."""
        return self.update_epochs or _EPOCHS[self.algorithm]

    @property
    def minibatches(self) -> int:
        """Minibatches in a pass; they divide `frames_per_update`."""
        wanted = self.num_minibatches or _MINIBATCHES
        return next(count for count in range(wanted, 0, -1) if self.frames_per_update % count == 0)

    @property
    def warning(self) -> str | None:
        """What the user should know before the training starts."""
        return more_than_cores(self.actors, len(usable_cores()))

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "output_dir": str(self.folder)}
