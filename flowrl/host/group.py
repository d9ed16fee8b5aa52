"""The environments that one thread steps, one after the other: the caller's, a thread's, or a worker process's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flowrl.host.block import Block
from flowrl.host.episodes import Episodes, Info, build, close_quietly
from flowrl.host.faults import raised


class Group:
    """Environments ``numbers`` of a batch. `attach` comes before `reset` and `step`.

    Raises:
        EnvironmentFault: one could not be made; the others are closed.
    """

    def __init__(self, numbers: Sequence[int], env_fns: Sequence[Callable[[], Any]]):
        self.numbers = list(numbers)
        self._envs: list[Any] = []
        self._episodes: list[Episodes] = []
        try:
            for number, env_fn in zip(numbers, env_fns):
                self._envs.append(build(number, env_fn))
        except BaseException:
            self.close_quietly()
            raise

    def spaces(self) -> list[tuple[Any, Any]]:
        """The observation and the action space of each environment; where equal to the first's, the same object."""
        first = self._envs[0].observation_space, self._envs[0].action_space
        found = [(env.observation_space, env.action_space) for env in self._envs]
        return [first if pair == first else pair for pair in found]

    def attach(self, block: Block) -> None:
        """Says where actions come from and results go."""
        self._episodes = [Episodes(number, env, block) for number, env in zip(self.numbers, self._envs)]

    def reset(self, seeds: Sequence[int | None], options: Info | None) -> list[Info]:
        return [episodes.reset(seed, options) for episodes, seed in zip(self._episodes, seeds)]

    def step(self) -> list[Info]:
        return [episodes.step() for episodes in self._episodes]

    def close(self) -> None:
        """Closes all, even if one fails.

        Raises:
            EnvironmentFault: the first that failed.
        """
        faults = []
        for number, env in zip(self.numbers, self._envs):
            try:
                env.close()
            except Exception as error:
                faults.append(raised(number, "close", error))
        self._envs, self._episodes = [], []
        if faults:
            raise faults[0]

    def close_quietly(self) -> None:
        """Closes all while another error is on its way."""
        for env in self._envs:
            close_quietly(env)
