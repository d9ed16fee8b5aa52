"""To and from Gymnasium's own interface for batches, `gymnasium.vector.VectorEnv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from flowrl.errors import BadInput
from flowrl.host.counted import CountedVecEnv
from flowrl.host.episodes import MASK, Info
from flowrl.host.interface import StepResult, VecEnv
from flowrl.host.spaces import Tree, flat, leaves, num_masked, tree


def to_gymnasium(env: VecEnv) -> VectorEnv:
    """A batch for programs that use Gymnasium's interface. It resets in the same step."""
    return _AsVectorEnv(env)


def from_gymnasium(env: VectorEnv) -> VecEnv:
    """One of Gymnasium's batches through flowrl's interface.

    Raises:
        BadInput: it does not reset in the same step.
    """
    mode = env.metadata.get("autoreset_mode")
    if mode not in (AutoresetMode.SAME_STEP, AutoresetMode.SAME_STEP.value):
        found = getattr(mode, "value", mode)
        raise BadInput(
            f"the environments must reset in the same step, found autoreset mode {found}; make them with "
            "gymnasium.make_vec(..., vector_kwargs={'autoreset_mode': gymnasium.vector.AutoresetMode.SAME_STEP})"
        )
    return _FromVectorEnv(env)


class _AsVectorEnv(VectorEnv):
    """``infos`` has ``final_obs`` and ``episode`` (``r``, ``l``) of episodes that ended, each with a mask under the same name
    after ``_``, ``action_mask`` where actions have masks, and, of a batch made with ``with_infos=True``, what the environments
    say."""

    def __init__(self, env: VecEnv):
        self.env = env
        self.num_envs = env.num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space, self.single_action_space = env.single_observation_space, env.single_action_space
        self.observation_space = batch_space(env.single_observation_space, env.num_envs)
        self.action_space = batch_space(env.single_action_space, env.num_envs)
        self._leaves = leaves(env.single_observation_space)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Tree, Info]:
        super().reset(seed=seed)
        observations = self.env.reset(seed, options)
        return observations, self._infos(self.env.reset_infos)

    def step(self, actions: Any) -> tuple[Tree, np.ndarray, np.ndarray, np.ndarray, Info]:
        result = self.env.step(actions)
        infos = self._infos(result.infos)
        self._add_ended(infos, result)
        return result.observations, result.rewards, result.terminated, result.truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        self.env.close()

    def _infos(self, said: Sequence[Info]) -> Info:
        infos: Info = {}
        for number, info in enumerate(said):
            infos = self._add_info(infos, {key: value for key, value in info.items() if key != MASK}, number)
        if (masks := self.env.get_action_masks()) is not None:
            infos[MASK], infos[f"_{MASK}"] = masks, np.ones(self.num_envs, bool)
        return infos

    def _add_ended(self, infos: Info, result: StepResult) -> None:
        ended = result.terminated | result.truncated
        if not ended.any():
            return
        final = np.full(self.num_envs, None, dtype=object)
        arrays = flat(self._leaves, result.final_obs)
        for number in np.flatnonzero(ended):
            final[number] = tree(self._leaves, [array[number].copy() for array in arrays])
        stats = self.env.get_episode_stats()
        returns, lengths, counted = np.zeros(self.num_envs), np.zeros(self.num_envs, np.int64), np.zeros(self.num_envs, bool)
        returns[stats.environments], lengths[stats.environments] = stats.returns, stats.lengths
        counted[stats.environments] = True
        infos |= {"final_obs": final, "_final_obs": ended, "episode": {"r": returns, "l": lengths}, "_episode": counted}


class _FromVectorEnv(CountedVecEnv):
    def __init__(self, env: VectorEnv):
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._env = env
        self._leaves = leaves(env.single_observation_space)
        self._actions = np.zeros(0)
        self._masks: np.ndarray | None = None

    def get_action_masks(self) -> np.ndarray | None:
        self._check_open()
        size = num_masked(self.single_action_space)
        if size is None:
            return None
        return np.ones((self.num_envs, size), bool) if self._masks is None else self._masks.copy()

    def _begin(self, seeds: Sequence[int | None], options: Info | None) -> Tree:
        observations, infos = self._env.reset(seed=seeds[0], options=options)  # Gymnasium also adds i to the seed
        self._keep_masks(infos)
        return _copied(self._leaves, observations)

    def _begin_step(self, actions: np.ndarray) -> None:
        self._actions = actions.astype(self._action.dtype)

    def _step(self) -> StepResult:
        observations, rewards, terminated, truncated, infos = self._env.step(self._actions)
        self._keep_masks(infos)
        observations = _copied(self._leaves, observations)
        final_obs = self._final(observations, infos, terminated | truncated)
        return StepResult(observations, np.array(rewards, np.float64), terminated.copy(), truncated.copy(), final_obs)

    def _final(self, observations: Tree, infos: Info, ended: np.ndarray) -> Tree:
        arrays = flat(self._leaves, _copied(self._leaves, observations))
        for number in np.flatnonzero(ended):
            for array, value in zip(arrays, flat(self._leaves, infos["final_obs"][number])):
                array[number] = value
        return tree(self._leaves, arrays)

    def _keep_masks(self, infos: Info) -> None:
        found = infos.get(MASK)
        usable = isinstance(found, np.ndarray) and found.ndim == 2  # a MultiDiscrete space's masks have many lengths
        self._masks = found.astype(bool) if usable else None

    def _close(self) -> None:
        self._env.close()


def _copied(found, observations: Tree) -> Tree:
    return tree(found, [np.array(array) for array in flat(found, observations)])
