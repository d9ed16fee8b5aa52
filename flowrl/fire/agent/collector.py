"""Collects experiences from many environments, and trains on them in between."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from flowrl.errors import BadInput
from flowrl.fire.agent.learning import Losses
from flowrl.fire.agent.memory import Experiences, joined

DEFAULT_BATCH = 64
DEFAULT_BUFFER = 2000


class Batch(Protocol):
    """What experiences are collected from: `VectorizedFireEnv`, or what offers the same."""

    num_envs: int

    def reset(self, seed: int | None = None) -> np.ndarray: ...
    def step_async(self, actions: Any) -> Any: ...
    def wait_for_results(self, futures: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]: ...
    def get_action_masks(self) -> np.ndarray: ...


class Agent(Protocol):
    """Who acts and learns: `DQNAgent`, or what offers the same."""

    def act(self, observations: np.ndarray, masks: np.ndarray, greedy: bool = False) -> np.ndarray: ...
    def remember(self, found: Experiences) -> None: ...
    def replay(self) -> Losses | None: ...


class Step(NamedTuple):
    """One step of one environment.

    Attributes:
        observation: float32 ``[C, H, W]``, before it.
        allowed: bool ``[H * W]``, the cells that could be chosen.
        cells: int ``[K]``, those that were named.
        reward: for it.
    """

    observation: np.ndarray
    allowed: np.ndarray
    cells: np.ndarray
    reward: float


class Speed(NamedTuple):
    """What some calls collected, in how many steps of all environments, and in how many seconds."""

    experiences: int = 0
    steps: int = 0
    seconds: float = 0.0


class ParallelExperienceCollector:
    """Steps environments with an agent. While environments burn their fires, the agent learns.

    Args:
        vectorized_env, agent: who acts, and where.
        collection_batch_size: so many experiences are handed to the agent at once.
        experience_buffer_size: experiences that may wait here at most; of a longer episode the newest are kept.
        n_step: steps that a target looks ahead; 0 is up to the end of the episode.
        gamma: the discount of a step.
        seed: of the environments.

    Raises:
        BadInput: a number is impossible.
    """

    def __init__(
        self,
        vectorized_env: Batch,
        agent: Agent,
        collection_batch_size: int = DEFAULT_BATCH,
        experience_buffer_size: int = DEFAULT_BUFFER,
        *,
        n_step: int = 3,
        gamma: float = 1.0,
        seed: int = 0,
    ):
        if not 1 <= collection_batch_size <= experience_buffer_size:
            raise BadInput(
                "collection_batch_size must be from 1 to experience_buffer_size, "
                f"found {collection_batch_size} and {experience_buffer_size}"
            )
        if n_step < 0:
            raise BadInput(f"n_step must be 0 or more, found {n_step}")
        self._env, self._agent, self._gamma, self._n_step = vectorized_env, agent, gamma, n_step
        self._batch_size, self._most_waiting = collection_batch_size, experience_buffer_size
        self._waiting: deque[Experiences] = deque()
        self._num_waiting = 0
        self._episodes: list[list[Step]] = [[] for _ in range(vectorized_env.num_envs)]
        self._observations: np.ndarray | None = None
        self._seed = seed
        self._speed, self._num_calls = Speed(), 0
        self._until_training = 0

    def collect_experiences(self, num_steps: int, train_frequency: int = 4) -> dict[str, Any]:
        """Takes ``num_steps`` steps in every environment, with an update for every ``train_frequency`` experiences.

        Returns:
            ``experiences``, ``updates``, ``mean_td_loss`` and ``mean_margin_loss`` (None without an update), and of the
            episodes that ended ``episodes``, ``mean_return`` and ``mean_burned_share``.
        """
        if num_steps < 1 or train_frequency < 1:
            raise BadInput(f"num_steps and train_frequency must be at least 1, found {num_steps} and {train_frequency}")
        began_s = time.monotonic()
        if self._observations is None:
            self._observations = self._env.reset(self._seed)
        losses: list[Losses] = []
        ended: list[dict[str, Any]] = []
        for _ in range(num_steps):
            ended += self._step(train_frequency, losses)
        self._hand_over(everything=True)
        self._count(Speed(num_steps * self._env.num_envs, num_steps, time.monotonic() - began_s))
        return {
            "experiences": num_steps * self._env.num_envs,
            "updates": len(losses),
            "mean_td_loss": _mean([float(one.td) for one in losses]),
            "mean_margin_loss": _mean([float(one.margin) for one in losses]),
            "episodes": len(ended),
            "mean_return": _mean([info["episode_return"] for info in ended]),
            "mean_burned_share": _mean([info["burned_share"] for info in ended if "burned_share" in info]),
        }

    def get_performance_stats(self) -> dict[str, float]:
        """Of all calls of `collect_experiences`, learning included. The first, in which programs compile, counts only as long
        as there is no other.

        Returns:
            ``experiences_per_second``, and ``average_step_time``, the seconds of a step of all environments; 0 before there is
            something to measure.
        """
        experiences, steps, seconds = self._speed
        return {
            "experiences_per_second": experiences / seconds if seconds else 0.0,
            "average_step_time": seconds / steps if steps else 0.0,
        }

    def _count(self, call: Speed) -> None:
        self._num_calls += 1
        is_after_compiling = self._num_calls > 2
        self._speed = Speed(*map(sum, zip(self._speed, call, strict=True))) if is_after_compiling else call

    def _step(self, train_frequency: int, losses: list[Losses]) -> list[dict[str, Any]]:
        masks = self._env.get_action_masks()
        actions = self._agent.act(self._observations, masks)
        futures = self._env.step_async(actions)
        self._until_training += self._env.num_envs
        while self._until_training >= train_frequency:  # while the fires burn
            self._until_training -= train_frequency
            if (found := self._agent.replay()) is not None:
                losses.append(found)
        before = self._observations
        self._observations, rewards, dones, infos = self._env.wait_for_results(futures)
        for row in range(self._env.num_envs):
            self._episodes[row].append(Step(before[row], masks[row], np.atleast_1d(actions[row]), float(rewards[row])))
            if dones[row]:
                self._keep(row, infos[row])
        return [info for info, done in zip(infos, dones, strict=True) if done]

    def _keep(self, row: int, info: Mapping[str, Any]) -> None:
        """The experiences of an episode that has ended, or was cut off."""
        steps, self._episodes[row] = self._episodes[row], []
        after = info["final_observation"] if info.get("truncated") else None
        found = experiences_of(steps, self._n_step or len(steps), self._gamma, info.get("breaks"), after)
        self._waiting.append(found)
        self._num_waiting += len(steps)
        self._hand_over()

    def _hand_over(self, everything: bool = False) -> None:
        if self._waiting and (everything or self._num_waiting >= self._batch_size):
            waiting = joined(list(self._waiting))
            self._agent.remember(Experiences(*(values[-self._most_waiting :] for values in waiting)))
            self._waiting.clear()
            self._num_waiting = 0


def experiences_of(
    steps: list[Step], n_step: int, gamma: float, breaks: np.ndarray | None = None, after: np.ndarray | None = None
) -> Experiences:
    """Experiences of a whole episode, each with the rewards of ``n_step`` steps and what comes after them.

    Args:
        breaks: bool ``[H, W]`` at the end, if known: the last action may name more cells than the budget had left.
        after: float32 ``[C, H, W]``, the observation after the last step of an episode that a time limit cut off: what would
            have come then counts. None for an episode that ended, after which nothing comes.
    """
    count = len(steps)
    allowed = np.stack([step.allowed for step in steps])
    numbers = np.arange(count)
    rewards = [step.reward for step in steps]
    chosen = np.zeros_like(allowed)
    for number, step in enumerate(steps):
        chosen[number, step.cells] = True
    if breaks is not None:
        chosen[-1] &= breaks.ravel()
    seen, open_cells = [step.observation for step in steps], [*allowed]
    if after is not None:
        seen.append(after)
        open_cells.append(allowed[-1] & ~chosen[-1])  # the environment's own mask is that of the next episode by now
    ahead = np.minimum(n_step, count - numbers)
    later, goes_on = np.minimum(numbers + ahead, len(seen) - 1), numbers + ahead < len(seen)
    return Experiences(
        observations=np.stack(seen[:count]),
        allowed=allowed,
        chosen=chosen,
        returns=np.array([_discounted(rewards[number : number + n_step], gamma) for number in numbers], np.float32),
        discounts=np.where(goes_on, gamma**ahead, 0.0).astype(np.float32),
        later=np.stack([seen[number] for number in later]),
        later_allowed=np.stack([open_cells[number] for number in later]),
        demonstrated=np.zeros(count, bool),
    )


def _discounted(rewards: list[float], gamma: float) -> float:
    return sum(gamma**ahead * reward for ahead, reward in enumerate(rewards))


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
