"""`PPOTrainer`: PPO on a batch of environments, one rollout and one update at a time."""

from __future__ import annotations

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.host.interface import EpisodeStats, VecEnv
from flowrl.host.learning import evaluation, ppo
from flowrl.host.learning.actions import actions_of
from flowrl.host.learning.distributions import likelihoods
from flowrl.host.learning.evaluation import Evaluation
from flowrl.host.learning.flow import Flow
from flowrl.host.learning.networks import Network, network_for
from flowrl.host.learning.observations import Layout, Observation
from flowrl.host.learning.policies import Policies
from flowrl.host.learning.ppo import Hyperparameters, Learner, Statistics
from flowrl.host.learning.rollout import Collector
from flowrl.host.learning.settings import PPOSettings
from flowrl.training.learning.networks import Params

_VALUES_AT_ONCE = 8
"""Last observations of truncated episodes whose values are computed together."""
EVALUATION_SEED = 1_000_003
"""Added to the seed for evaluations, whose episodes are not those of the training."""


class TrainingState(NamedTuple):
    """What a training has learned, and how far it is."""

    learner: Learner
    updates: int = 0
    frames: int = 0
    """Environment steps, summed over the environments."""
    episodes: int = 0
    """Episodes that ended in them."""


class VectorizedEpisode(NamedTuple):
    """What one call of `PPOTrainer.train_episode_vectorized` did."""

    n_completed_episodes: int
    n_envs: int
    episodes: EpisodeStats
    """Those that ended during the rollout."""
    frames: int
    statistics: dict[str, float]
    """The fields of `ppo.Statistics`, and the learning rate."""
    rollout_s: float
    update_s: float
    flow: Flow | None = None
    """How steps came from the actors to the learner, where these are different processes."""


class StateValues:
    """Expected returns of any number of observations, from one program."""

    def __init__(self, network: Network):
        self._program = jax.jit(lambda params, observation: network.outputs_and_value(params, observation)[1])

    def of(self, params: Params, observation: Observation) -> np.ndarray:
        """Observations ``[N]`` to float32 ``[N]``, computed in pieces of a fixed size."""
        num_rows = len(observation.vector)
        found = []
        for start in range(0, num_rows, _VALUES_AT_ONCE):
            rows = np.arange(start, start + _VALUES_AT_ONCE).clip(max=num_rows - 1)
            found.append(self._program(params, Observation(*(part[rows] for part in observation))))
        return np.concatenate(jax.device_get(found))[:num_rows]


class PPOTrainer:
    """Trains an agent on a batch of environments.

    A training is deterministic for its seed, the number of environments and the other settings, however the environments
    are stepped, as long as the environments are and no worker is lost.

    Args:
        env: stays the caller's, who closes it.
        settings: those of learning; ``num_episodes`` is what the learning rate falls over.

    Attributes:
        state: replaced as a whole after an update, so that an interrupt leaves the one before.

    Raises:
        BadInput: there is nothing to see in an observation, or more than one image.
    """

    def __init__(self, env: VecEnv, settings: PPOSettings):
        self._env, self._settings = env, settings
        self._layout = Layout(env.single_observation_space)
        self._actions = actions_of(env.single_action_space)
        self._network = network_for(self._layout, self._actions, settings.layer_size)
        hyper = Hyperparameters.of(settings, settings.epochs(self.sees_images), settings.minibatches(self.sees_images))
        in_steps = self.sees_images and jax.default_backend() == "cpu"
        make_update = ppo.make_stepwise_update if in_steps else ppo.make_update
        self._update = make_update(self._network, likelihoods(self._actions), hyper)
        self._state_values = StateValues(self._network)
        self._policies = Policies(self._network)
        steps, signs = settings.steps_per_update, settings.learns_from_signs
        self._collector = Collector(env, self._layout, self._actions, steps, signs)
        self._in_an_episode = False
        init_key, self._shuffle_key = jax.random.split(jax.random.key(settings.seed))
        self.state = TrainingState(ppo.init(self._network, hyper, init_key))

    @property
    def sees_images(self) -> bool:
        return self._layout.image_shape is not None

    def train_episode_vectorized(self) -> VectorizedEpisode:
        """Steps all environments ``num_steps`` times, and learns from that; episodes go on in the next call.

        Raises:
            EnvironmentFault, WorkerLost: an environment failed. The state is the one after the last update, and the next
                call begins new episodes, if the batch is not closed.
        """
        state, began_s = self.state, time.perf_counter()
        random = np.random.default_rng([self._settings.seed, state.updates])
        self._begin_episodes()
        self._in_an_episode = False  # what an interrupt or a fault leaves behind
        rollout = self._collector.collect(self._policies.of(state.learner.params), self._values, random)
        ended = self._env.get_episode_stats()
        collected_s = time.perf_counter()
        shuffle_key = jax.random.fold_in(self._shuffle_key, state.updates)
        lr = self._settings.step_size(state.episodes)
        learner, statistics = self._update(state.learner, rollout, shuffle_key, jnp.float32(lr))
        statistics = Statistics(*jax.device_get(statistics))
        frames = self._settings.steps_per_update * self._env.num_envs
        self.state = TrainingState(learner, state.updates + 1, state.frames + frames, state.episodes + ended.num_completed)
        self._in_an_episode = True
        return VectorizedEpisode(
            n_completed_episodes=ended.num_completed,
            n_envs=self._env.num_envs,
            episodes=ended,
            frames=frames,
            statistics={name: float(value) for name, value in statistics._asdict().items()} | {"learning_rate": lr},
            rollout_s=collected_s - began_s,
            update_s=time.perf_counter() - collected_s,
        )

    def evaluate(self, env: VecEnv, num_episodes: int) -> Evaluation:
        """Plays whole episodes with what was learned so far.

        Args:
            env: a batch of a single environment, other than the one that is trained on.
        """
        policy = self._policies.of(self.state.learner.params)
        seed = self._settings.seed + EVALUATION_SEED
        return evaluation.evaluate(env, self._layout, self._actions, policy, num_episodes, seed)

    def _begin_episodes(self) -> None:
        if not self._in_an_episode:
            # After a resumption other episodes than at the start, of which the agent has had its share.
            self._collector.reset(self._settings.seed + self.state.updates * self._env.num_envs)

    def _values(self, observation: Observation) -> np.ndarray:
        return self._state_values.of(self.state.learner.params, observation)
