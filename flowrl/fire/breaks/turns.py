"""More landscapes than environments: each environment takes its landscapes in turn, an episode in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import gymnasium

from flowrl.errors import BadInput

T = TypeVar("T")


def turns_of(landscapes: Sequence[T], num_envs: int) -> list[list[T]]:
    """The landscapes of each environment, so that every landscape is used and every environment has one.

    Environment ``i`` has landscape ``i``, then ``i + num_envs`` and so on; of more environments than landscapes, several have
    the same one.
    """
    count = len(landscapes)
    return [list(landscapes[number % count :: num_envs]) for number in range(num_envs)]


class EnvInTurns(gymnasium.Env):
    """Several environments as one: each reset moves on to the next of them.

    A reset with a seed begins with the first one again, and seeds all of them with it.

    Args:
        env_fns: functions without arguments that make the environments, all with the same spaces.

    Raises:
        BadInput: the spaces differ.
    """

    metadata = {"render_modes": []}

    def __init__(self, env_fns: Sequence[Callable[[], Any]]):
        self._envs = [env_fn() for env_fn in env_fns]
        first = self._envs[0]
        self.observation_space, self.action_space = first.observation_space, first.action_space
        for env in self._envs[1:]:
            if (env.observation_space, env.action_space) != (self.observation_space, self.action_space):
                raise BadInput(
                    "the environments of all landscapes must have the same spaces, found "
                    f"{self.observation_space} and {env.observation_space}, {self.action_space} and {env.action_space}"
                )
        self._turn, self._seeds = -1, [None] * len(self._envs)
        if hasattr(first, "action_masks"):
            self.action_masks = lambda: self._current.action_masks()

    @property
    def _current(self) -> Any:
        return self._envs[self._turn % len(self._envs)]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self._turn, self._seeds = -1, [seed] * len(self._envs)
        self._turn += 1
        number = self._turn % len(self._envs)
        chosen, self._seeds[number] = self._seeds[number], None
        return self._current.reset(seed=chosen, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._current.step(action)

    def close(self) -> None:
        for env in self._envs:
            env.close()


class MakeEnvInTurns:
    """A function without arguments that makes an `EnvInTurns`, and can be sent to a worker if its parts can."""

    def __init__(self, env_fns: Sequence[Callable[[], Any]]):
        self._env_fns = env_fns

    def __call__(self) -> EnvInTurns:
        return EnvInTurns(self._env_fns)
