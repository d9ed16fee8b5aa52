"""`ActorLearner`: learns from trajectories that actor processes collect meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from flowrl.host.interface import EpisodeStats, VecEnv
from flowrl.host.learning import evaluation, ppo
from flowrl.host.learning.actions import actions_of
from flowrl.host.learning.actors import algorithms, parameters
from flowrl.host.learning.actors.actor import ActorOrder
from flowrl.host.learning.actors.algorithms import ActedSteps
from flowrl.host.learning.actors.exchange import Sizes, Slot
from flowrl.host.learning.actors.pool import ActorPool
from flowrl.host.learning.actors.settings import ActorLearnerSettings
from flowrl.host.learning.distributions import likelihoods
from flowrl.host.learning.evaluation import Evaluation
from flowrl.host.learning.flow import Flow
from flowrl.host.learning.networks import VectorNetwork, network_for
from flowrl.host.learning.observations import Layout, Observation
from flowrl.host.learning.policies import Policies
from flowrl.host.learning.ppo import Hyperparameters, Statistics
from flowrl.host.learning.steps import truncation_values
from flowrl.host.learning.trainer import EVALUATION_SEED, StateValues, TrainingState, VectorizedEpisode
from flowrl.training.learning.networks import Params

_ALGORITHMS = {"impala": algorithms.IMPALA, "appo": algorithms.APPO}


class _Batch(NamedTuple):
    """What an update learns from."""

    taken: list[int]
    """The numbers of the slots."""
    steps: ActedSteps
    ended: EpisodeStats
    lags: list[int]
    """Of each trajectory's policy, in updates."""
    worked_s: float
    waited_s: float
    """Of their actors, summed."""
    slots_full: int
    """Before any was taken."""


class ActorLearner:
    """A learner and its actors; a context manager. Actors start with the first update.

    Synchronous, every actor waits for the update after its trajectories: then a training is deterministic for its seed and
    settings, as long as the environments are and no actor is lost. Asynchronous it is not: what is learned from depends on who
    was faster.

    Args:
        observation_space, action_space: of the environments that ``settings`` name.
        say: prints a line, such as one about an actor that was lost.

    Attributes:
        state: replaced as a whole after an update, so that an interrupt leaves the one before. Set it before the first update
            to go on from there.

    Raises:
        BadInput: there is nothing to see in an observation, or more than one image.
    """

    def __init__(
        self,
        settings: ActorLearnerSettings,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        say: Callable[[str], None] = print,
    ):
        self._settings, self._say = settings, say
        self._spaces = observation_space, action_space
        self._layout, self._actions = Layout(observation_space), actions_of(action_space)
        self._network = network_for(self._layout, self._actions, settings.layer_size)
        images = self._layout.image_shape is not None
        hyper = Hyperparameters.of(settings, settings.epochs, settings.minibatches)
        in_steps = images and jax.default_backend() == "cpu"
        make_update = ppo.make_stepwise_update if in_steps else ppo.make_update
        algorithm = _ALGORITHMS[settings.algorithm]
        self._update = make_update(self._network, likelihoods(self._actions), hyper, algorithm)
        self._state_values, self._policies = StateValues(self._network), Policies(self._network)
        init_key, self._shuffle_key = jax.random.split(jax.random.key(settings.seed))
        self.state = TrainingState(ppo.init(self._network, hyper, init_key))
        self._places = parameters.places(self._policy_params())
        self._pool: ActorPool | None = None
        self._interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the actors. Safe to repeat."""
        if self._pool:
            self._pool.close()

    @property
    def pids(self) -> list[int]:
        """The process number of each actor."""
        return self._pool.pids if self._pool else []

    @property
    def actors_lost(self) -> int:
        """How many actors were replaced."""
        return self._pool.lost if self._pool else 0

    def train_on_trajectories(self) -> VectorizedEpisode:
        """Waits for as many trajectories as an update takes, and learns from them; the actors go on meanwhile.

        Raises:
            EnvironmentFault: an environment of an actor failed.
            WorkerLost: an actor died or hung, several times in a row. After this or any other interrupt, the next call begins
                with new actors.
        """
        began_s = time.perf_counter()
        pool = self._started()
        self._interrupted = True  # what an interrupt or a fault leaves behind
        pool.wait(self._settings.trajectories)
        collected_s = time.perf_counter()
        batch = self._copied(pool)
        if not self._settings.synchronous:
            pool.give(batch.taken)
        statistics = self._learn(batch)
        self._publish()
        if self._settings.synchronous:
            pool.give(batch.taken)
        self._interrupted = False
        over_s = time.perf_counter()
        return VectorizedEpisode(
            n_completed_episodes=batch.ended.num_completed,
            n_envs=self._settings.n_envs,
            episodes=batch.ended,
            frames=self._settings.frames_per_update,
            statistics=statistics,
            rollout_s=collected_s - began_s,
            update_s=over_s - collected_s,
            flow=Flow(
                updates=1,
                frames=self._settings.frames_per_update,
                seconds=over_s - began_s,
                learner_waited_s=collected_s - began_s,
                actors_worked_s=batch.worked_s,
                actors_waited_s=batch.waited_s,
                trajectories=len(batch.taken),
                lag_sum=sum(batch.lags),
                largest_lag=max(batch.lags),
                slots_full=batch.slots_full,
                num_slots=len(pool.exchange.slots),
            ),
        )

    def evaluate(self, env: VecEnv, num_episodes: int) -> Evaluation:
        """Plays whole episodes with what was learned so far, on a batch of a single environment."""
        policy = self._policies.of(self.state.learner.params)
        seed = self._settings.seed + EVALUATION_SEED
        return evaluation.evaluate(env, self._layout, self._actions, policy, num_episodes, seed)

    def _started(self) -> ActorPool:
        if self._pool and self._interrupted:
            self._pool.close()  # slots may have been taken, and given to nobody
            self._pool = None
        if self._pool is None:
            settings = self._settings
            sizes = Sizes(
                *self._spaces,
                num_actors=settings.actors,
                num_envs=settings.num_envs_per_worker,
                num_steps=settings.steps_per_trajectory,
                slots_per_actor=settings.slots_per_actor,
                num_parameters=parameters.num_parameters(self._places),
            )
            orders = [self._order(number, sizes) for number in range(settings.actors)]
            self._pool = ActorPool(orders, self._again, settings.timeout_s, self._say)
            self._publish()
            self._pool.start()
            self._pool.give(range(sizes.num_slots))
        return self._pool

    def _order(self, number: int, sizes: Sizes) -> ActorOrder:
        settings, updates = self._settings, self.state.updates
        return ActorOrder(
            number=number,
            env=settings.env,
            sizes=sizes,
            places=self._places,
            layer_size=settings.layer_size,
            learns_from_signs=settings.learns_from_signs,
            # After a resumption other episodes than at the start, of which the agent has had its share.
            seed=settings.seed + (updates * settings.actors + number) * sizes.num_envs,
            decision_seed=(settings.seed, updates, number),
        )

    def _again(self, order: ActorOrder, starts: int) -> ActorOrder:
        fresh = self._order(order.number, order.sizes)
        # In the same update it would begin the same episodes again, which would teach nothing new.
        return fresh._replace(seed=fresh.seed + starts * self._settings.n_envs, decision_seed=(*fresh.decision_seed, starts))

    def _publish(self) -> None:
        values = parameters.flat(self._policy_params(), self._places)
        self._pool.exchange.parameters.publish(self.state.updates, values)

    def _policy_params(self) -> Params:
        """What actors need of the parameters."""
        params = self.state.learner.params
        if isinstance(self._network, VectorNetwork):
            params = {name: part for name, part in params.items() if name != "critic"}
        return jax.device_get(params)

    def _copied(self, pool: ActorPool) -> _Batch:
        """The next full slots, copied."""
        slots_full, taken = pool.num_full, pool.take(self._settings.trajectories)
        if self._settings.synchronous:
            taken.sort()  # by actor: in which order they came is chance
        slots = [pool.exchange.slots[slot] for slot in taken]
        worked_s, waited_s = np.sum([slot.seconds for slot in slots], axis=0).tolist()
        lags = [self.state.updates - int(slot.version[0]) for slot in slots]
        return _Batch(taken, self._joined(slots), self._ended(taken, slots), lags, worked_s, waited_s, slots_full)

    def _learn(self, batch: _Batch) -> dict[str, float]:
        """One update; returns the fields of `Statistics`, and the learning rate."""
        state, lr = self.state, self._settings.step_size(self.state.episodes)
        shuffle_key = jax.random.fold_in(self._shuffle_key, state.updates)
        learner, statistics = self._update(state.learner, batch.steps, shuffle_key, jnp.float32(lr))
        statistics = Statistics(*jax.device_get(statistics))
        frames, episodes = state.frames + self._settings.frames_per_update, state.episodes + batch.ended.num_completed
        self.state = TrainingState(learner, state.updates + 1, frames, episodes)
        return {name: float(value) for name, value in statistics._asdict().items()} | {"learning_rate": lr}

    def _joined(self, slots: Sequence[Slot]) -> ActedSteps:
        """Trajectories side by side, copied out of their slots."""
        steps = [slot.steps for slot in slots]

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in steps], axis=1)

        params = self.state.learner.params
        values = [truncation_values(part, lambda seen: self._state_values.of(params, seen)) for part in steps]
        shape = steps[0].reward.shape
        log_std = [np.broadcast_to(slot.log_std, (*shape, len(slot.log_std))) for slot in slots]
        return ActedSteps(
            observation=_side_by_side([part.observation for part in steps], axis=1),
            last_observation=_side_by_side([part.last_observation for part in steps], axis=0),
            decision=joined("decision"),
            masks=joined("masks"),
            reward=joined("reward"),
            continues=joined("continues"),
            truncation_value=np.concatenate(values, axis=1),
            outputs=joined("outputs"),
            log_std=np.concatenate(log_std, axis=1),
        )

    def _ended(self, taken: Sequence[int], slots: Sequence[Slot]) -> EpisodeStats:
        """The episodes that ended in some slots; environments are counted over all actors."""
        num_envs = self._settings.num_envs_per_worker
        found = []
        for number, slot in zip(taken, slots):
            count, first = int(slot.num_ended[0]), number // self._settings.slots_per_actor * num_envs
            found.append((slot.returns[:count], slot.lengths[:count], slot.environments[:count] + first))
        return EpisodeStats(*(np.concatenate(parts) for parts in zip(*found)))


def _side_by_side(parts: Sequence[Observation], axis: int) -> Observation:
    return Observation(*(np.concatenate(arrays, axis=axis) for arrays in zip(*parts)))
