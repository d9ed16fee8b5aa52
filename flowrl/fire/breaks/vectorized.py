"""Several fuel break environments as one, stepped in any of four ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from flowrl.errors import BadInput
from flowrl.fire.breaks import rules as rules_module
from flowrl.fire.breaks.areas import area_of
from flowrl.fire.breaks.environment import FuelBreakEnv, MakeFuelBreakEnv
from flowrl.fire.breaks.rules import USUAL, BreakRules
from flowrl.fire.breaks.turns import MakeEnvInTurns, turns_of
from flowrl.fire.breaks.vmapped import VmappedFireEnv
from flowrl.host.interface import VecEnv
from flowrl.host.processes import ParallelEnv
from flowrl.host.sequential import SequentialVecEnv
from flowrl.host.threads import ThreadVecEnv
from flowrl.suggestions import unknown_choice

METHODS = ("vmap", "sequential", "threading", "multiprocessing")
OWN_SIMULATOR = "vmap"


class VectorizedFireEnv:
    """``num_envs`` environments over some landscapes.

    Environment ``i`` has landscape ``i % len(landscape_data_list)``. If there are more landscapes than environments, it has
    ``i``, ``i + num_envs`` and so on, an episode in each, so that all of them are used.

    The four methods give the same transitions for the same seeds. ``vmap`` burns the fires of all environments in one call of
    JAX and is much the fastest. The others step environments one by one, in threads or in processes: they are for a simulator
    of your own, which takes part by `create_environment` in a class made from this one.

    Args:
        landscape_data_list: areas, landscapes or layers; for a `create_environment` of your own, whatever it takes.
        num_envs: as many environments as landscapes if None.
        method: one of :data:`METHODS`.
        max_workers: threads or processes; None is one thread for each environment, or one process for each core.
        rules: budget, fires and reward.
        timeout_s: seconds after which a worker that has not answered counts as hanging.

    Raises:
        BadInput: no landscape, an unknown method, shapes that differ, or impossible rules.
    """

    def __init__(
        self,
        landscape_data_list: Sequence[Any],
        num_envs: int | None = None,
        method: str = OWN_SIMULATOR,
        max_workers: int | None = None,
        *,
        rules: BreakRules = USUAL,
        timeout_s: float = 60.0,
    ):
        self.landscape_data_list, self.rules = list(landscape_data_list), rules
        if not self.landscape_data_list:
            raise BadInput("landscape_data_list is empty; give at least one landscape")
        self.num_envs = len(self.landscape_data_list) if num_envs is None else num_envs
        if self.num_envs < 1:
            raise BadInput(f"num_envs must be at least 1, found {num_envs}")
        if method not in METHODS:
            raise BadInput(unknown_choice("method", str(method), METHODS))
        if max_workers is not None and max_workers < 1:
            raise BadInput(f"max_workers must be at least 1, found {max_workers}")
        rules_module.check(rules)
        self.method = method
        self._env = self._made(max_workers, timeout_s)
        self._episodes: list[tuple[float, int, float | None]] = []

    @property
    def has_own_simulator(self) -> bool:
        """Whether `create_environment` is another class's: flowrl's fires then say nothing about its environments."""
        return type(self).create_environment is not VectorizedFireEnv.create_environment

    @property
    def observation_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns."""
        channels, rows, columns = self._env.single_observation_space.shape
        return channels, rows, columns

    @property
    def cells_per_step(self) -> int:
        """Cells that one action places."""
        shape = self._env.single_action_space.shape
        return shape[0] if shape else 1

    def create_environment(self, landscape_data: Any) -> Any:
        """The environment of one landscape: a Gymnasium environment with observations ``[channels, H, W]`` and the flat index
        of a cell as action; with ``action_masks()`` if not every cell is allowed, and ``burned_share`` in the last ``info`` if
        it is known. Write it anew for a simulator of your own.
        """
        return FuelBreakEnv(landscape_data, self.rules)

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Begins an episode in every environment; environment *i* is seeded with ``seed + i``.

        Returns:
            observations, float32 ``[num_envs, channels, H, W]``.
        """
        return self._env.reset(seed)

    def step_async(self, actions: Any) -> VecEnv:
        """Begins a step, and returns at once where the method allows it. `wait_for_results` has to follow.

        Args:
            actions: flat indices of cells, ``[num_envs]`` or ``[num_envs, cells_per_step]``.
        """
        self._env.step_async(actions)
        return self._env

    def wait_for_results(self, futures: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Waits for the step that `step_async` has begun.

        Args:
            futures: what `step_async` returned; may be left out.

        Returns:
            observations, rewards ``[num_envs]``, dones ``[num_envs]`` and infos. Where an episode has ended, the observation
            is the first one of the next, and the info has ``final_observation``, ``episode_return``, ``episode_length``,
            ``truncated`` (whether a time limit cut it off), and of flowrl's own environments ``burned_share`` and ``breaks``.
        """
        result = self._env.wait_for_results()
        dones = result.terminated | result.truncated
        infos = [dict(info.get("final_info", info)) for info in result.infos]
        ended = self._env.get_episode_stats()
        for total, length, row in zip(ended.returns.tolist(), ended.lengths.tolist(), ended.environments.tolist()):
            infos[row] |= {
                "final_observation": result.final_obs[row],
                "episode_return": total,
                "episode_length": length,
                "truncated": bool(result.truncated[row] and not result.terminated[row]),
            }
            self._episodes.append((total, length, infos[row].get("burned_share")))
        return result.observations, result.rewards, dones, infos

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """`step_async` and `wait_for_results` in one call."""
        return self.wait_for_results(self.step_async(actions))

    def get_action_masks(self) -> np.ndarray:
        """Which cells are allowed now: bool ``[num_envs, H * W]``."""
        masks = self._env.get_action_masks()
        return masks[:, : self.observation_shape[1] * self.observation_shape[2]]

    def get_episode_stats(self) -> dict[str, float]:
        """Means over the episodes that ended since the last call: ``num_episodes``, ``mean_return``, ``mean_steps`` and
        ``mean_burned_share``; NaN where there is nothing to average."""
        episodes, self._episodes = self._episodes, []
        returns, lengths, shares = zip(*episodes, strict=True) if episodes else ((), (), ())
        known = [share for share in shares if share is not None]
        return {
            "num_episodes": len(episodes),
            "mean_return": _mean(returns),
            "mean_steps": _mean(lengths),
            "mean_burned_share": _mean(known),
        }

    def close(self) -> None:
        """Ends workers and frees what they used. Safe to repeat."""
        self._env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_env"}  # what a worker needs of this object

    def _made(self, max_workers: int | None, timeout_s: float) -> VecEnv:
        if self.method == OWN_SIMULATOR:
            if self.has_own_simulator:
                raise BadInput(
                    f"method vmap runs flowrl's own fires, and {type(self).__name__} has a create_environment of its own; give "
                    "method threading, multiprocessing or sequential"
                )
            areas = [area_of(one, f"landscape {number}") for number, one in enumerate(self.landscape_data_list)]
            return VmappedFireEnv(areas, self.rules, self.num_envs, with_infos=True)
        makers = [[self._maker(one) for one in mine] for mine in turns_of(self.landscape_data_list, self.num_envs)]
        env_fns = [mine[0] if len(mine) == 1 else MakeEnvInTurns(mine) for mine in makers]
        if self.method == "sequential":
            return SequentialVecEnv(env_fns, with_infos=True)
        make = ThreadVecEnv if self.method == "threading" else ParallelEnv
        return make(env_fns, num_workers=max_workers or "auto", timeout_s=timeout_s, with_infos=True)

    def _maker(self, landscape_data: Any) -> Any:
        if not self.has_own_simulator:
            return MakeFuelBreakEnv(area_of(landscape_data), self.rules)
        return _OwnMaker(self, landscape_data)


class _OwnMaker:
    """Calls `create_environment` in the worker."""

    def __init__(self, batch: VectorizedFireEnv, landscape_data: Any):
        self._batch, self._landscape_data = batch, landscape_data

    def __call__(self) -> Any:
        return self._batch.create_environment(self._landscape_data)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
