"""The interface of a batch of environments, the same for every way of stepping them."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from gymnasium import spaces

from flowrl.errors import BadInput
from flowrl.host.episodes import Info
from flowrl.host.faults import Misuse
from flowrl.host.spaces import Leaf, Tree, WrongValue, action_leaf, fitting

_MOST_KEPT = 100_000
"""Ended episodes that are kept for `VecEnv.get_episode_stats`; older ones are dropped."""


class StepResult(NamedTuple):
    """What one step of every environment gave.

    Attributes:
        observations: ``[num_envs, *shape]``, or a dictionary of such arrays. Where an episode has ended, the first
            observation of the next one.
        rewards: ``[num_envs]``, float64.
        terminated: ``[num_envs]``, bool: the episode ended, and there is nothing to gain after it.
        truncated: ``[num_envs]``, bool: the episode was cut; bootstrap from ``final_obs``.
        final_obs: like ``observations``; where an episode has ended, its last observation. Other rows mean nothing.
        infos: what each environment said, if the batch was made with ``with_infos=True``; else empty.
    """

    observations: Tree
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    final_obs: Tree
    infos: Sequence[Info] = ()


class EpisodeStats(NamedTuple):
    """Episodes that ended, in the order in which they did.

    Attributes:
        returns: ``[num_completed]``, the sum of an episode's rewards.
        lengths: ``[num_completed]``, its steps.
        environments: ``[num_completed]``, the number of its environment.
    """

    returns: np.ndarray
    lengths: np.ndarray
    environments: np.ndarray

    @property
    def num_completed(self) -> int:
        return len(self.returns)


class _State(enum.Enum):
    NOT_RESET = enum.auto()
    READY = enum.auto()
    STEPPING = enum.auto()
    CLOSED = enum.auto()


class VecEnv(ABC):
    """Several environments with the same spaces, stepped together.

    Attributes:
        reset_infos: what each environment said at the last reset, if made with ``with_infos=True``.
    """

    _state = _State.NOT_RESET

    def __init__(self, num_envs: int, observation_space: spaces.Space, action_space: spaces.Space):
        self.num_envs = num_envs
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.reset_infos: Sequence[Info] = ()
        self._action = action_leaf(action_space)
        self._batched_action = Leaf((), (num_envs, *self._action.shape), self._action.dtype)
        self._episodes: deque[tuple[float, int, int]] = deque(maxlen=_MOST_KEPT)

    def reset(self, seed: int | None = None, options: Info | None = None) -> Tree:
        """Begins a new episode in every environment, and returns their first observations.

        Args:
            seed: environment *i* is seeded with ``seed + i``; None leaves the choice to the environment.

        Raises:
            EnvironmentFault: an environment raised an exception, or returned the wrong thing.
        """
        self._check_open()
        seeds = seeds_from(seed, self.num_envs)
        self._state = _State.NOT_RESET
        self._drop_step()
        observations = self._reset(seeds, options)
        self._state = _State.READY
        return observations

    def step(self, actions: Any) -> StepResult:
        """`step_async` and `wait_for_results` in one call."""
        self.step_async(actions)
        return self.wait_for_results()

    def step_async(self, actions: Any) -> None:
        """Hands every environment its action. `wait_for_results` has to follow.

        Args:
            actions: ``[num_envs, *action_shape]``.

        Raises:
            BadInput: the actions have another shape or kind.
        """
        self._check_open()
        if self._state is _State.NOT_RESET:
            raise Misuse("call reset() before a step: no episode has begun, or an environment failed")
        if self._state is _State.STEPPING:
            raise Misuse("call wait_for_results() before the next step: one is in progress")
        try:
            found = fitting(self._batched_action, actions)
        except WrongValue as error:
            raise BadInput(f"actions: {error}; give one for each of the {self.num_envs} environments") from None
        self._state = _State.NOT_RESET  # what an interrupt leaves behind
        self._begin_step(found)
        self._state = _State.STEPPING

    def wait_for_results(self) -> StepResult:
        """Waits for the step that `step_async` has begun.

        Raises:
            EnvironmentFault: an environment raised an exception, or returned the wrong thing; `reset` begins anew.
            WorkerLost: a worker died or hangs, and is not replaced; the batch is closed.
        """
        self._check_open()
        if self._state is not _State.STEPPING:
            raise Misuse("call step_async() before wait_for_results(): no step is in progress")
        self._state = _State.NOT_RESET  # what an error or an interrupt leaves behind
        result = self._finish_step()
        self._state = _State.READY
        self._keep_ended(result)
        return result

    @abstractmethod
    def get_action_masks(self) -> np.ndarray | None:
        """``[num_envs, num_choices]``, bool: which actions are allowed after the last reset or step.

        All of them, if the environments have no masks. None if actions are not Discrete or MultiDiscrete; the choices of a
        MultiDiscrete space lie side by side.
        """

    def get_episode_stats(self) -> EpisodeStats:
        """The episodes that ended since the last call. Episodes cut off by `reset` or a lost worker are not among them."""
        kept = list(self._episodes)
        self._episodes.clear()
        returns, lengths, numbers = zip(*kept) if kept else ((), (), ())
        return EpisodeStats(np.array(returns, np.float64), np.array(lengths, np.int64), np.array(numbers, np.int64))

    def close(self) -> None:
        """Closes every environment and frees what they used. Safe to repeat."""
        if self._state is not _State.CLOSED:
            self._state = _State.CLOSED
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @abstractmethod
    def _reset(self, seeds: Sequence[int | None], options: Info | None) -> Tree: ...

    @abstractmethod
    def _begin_step(self, actions: np.ndarray) -> None: ...

    @abstractmethod
    def _finish_step(self) -> StepResult: ...

    @abstractmethod
    def _drop_step(self) -> None:
        """Waits for what an interrupted step or reset still has to answer. Nobody wants it."""

    @abstractmethod
    def _totals(self) -> tuple[np.ndarray, np.ndarray]:
        """Return and length of the episode that each environment's last step belonged to."""

    @abstractmethod
    def _close(self) -> None: ...

    def _ended(self, result: StepResult) -> np.ndarray:
        """``[num_envs]``: where an episode ended that counts."""
        return result.terminated | result.truncated

    def _keep_ended(self, result: StepResult) -> None:
        ended = self._ended(result)
        if ended.any():
            returns, lengths = self._totals()
            self._episodes.extend((float(returns[row]), int(lengths[row]), int(row)) for row in np.flatnonzero(ended))

    def _check_open(self) -> None:
        if self._state is _State.CLOSED:
            raise Misuse("these environments are closed; make new ones")


def seeds_from(seed: int | None, num_envs: int) -> list[int | None]:
    """The seed of each environment: ``seed + i``, as Python's own int, which every environment accepts.

    Raises:
        BadInput: the seed is not a whole number that is at least 0.
    """
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise BadInput(f"seed must be a whole number that is at least 0, found {seed!r}")
    return [int(seed) + number for number in range(num_envs)]


def check_functions(env_fns: Any) -> list[Any]:
    """
    Raises:
        BadInput: not a list of functions, or an empty one.
    """
    try:
        found = list(env_fns)
    except TypeError:
        raise BadInput(f"env_fns must be a list of functions, found {type(env_fns).__name__}") from None
    if not found:
        raise BadInput("env_fns is empty; give one function for each environment")
    for number, env_fn in enumerate(found):
        if not callable(env_fn):
            raise BadInput(
                f"env_fns[{number}] must be a function that makes an environment, found {type(env_fn).__name__}; "
                "write lambda: gymnasium.make(...)"
            )
    return found


def common_spaces(found: Sequence[tuple[spaces.Space, spaces.Space]]) -> tuple[spaces.Space, spaces.Space]:
    """The observation and the action space that all environments have.

    Raises:
        BadInput: one has another, or a space that cannot be stepped.
    """
    for number, pair in enumerate(found):
        for what, first, other in zip(("observation", "action"), found[0], pair):
            if other is not first and other != first:
                raise BadInput(
                    f"environment {number} has the {what} space {other}, environment 0 has {first}; all environments of a "
                    "batch must have the same"
                )
    return found[0]
