"""Successful episodes of a skill, played by the library's experts, and their export as a Minari dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.api import extras
from flowrl.api.skill import PlanPolicy, SkillEnvironment, SkillState, skill_env
from flowrl.envs.observations import Observation
from flowrl.errors import BadInput, FlowrlError

NUM_ENVS = 64
"""Environments that play side by side."""
HOPELESS = 512
"""Episodes without a single success after which no more are tried."""


class Episode(NamedTuple):
    """A successful episode of ``L`` steps; its last step is the only one that ends it."""

    observations: np.ndarray
    """float32 ``[L + 1, observation size]``."""
    tasks: np.ndarray
    """int32 ``[L + 1]``: the active task of the plan, at each observation."""
    actions: np.ndarray
    """int32 ``[L]``."""
    rewards: np.ndarray
    """float32 ``[L]``."""


class _Seen(NamedTuple):
    """What is kept of where each environment is, ``[B, ...]``."""

    observation: Observation
    task: jax.Array


class _Step(NamedTuple):
    """What is kept of a step, ``[B]`` each."""

    action: jax.Array
    reward: jax.Array
    done: jax.Array
    success: jax.Array


def export_episodes(
    graph_path: Path | str, skill_name: str, episodes: int = 100, dataset_id: str | None = None, seed: int = 0
) -> Any:
    """Plays a skill's plan with the library's experts, each episode in a fresh world, and stores those that succeed.

    Minari's own folder takes the dataset (``MINARI_DATASETS_PATH``, or the user's).

    Args:
        episodes: successful ones; more are played until there are so many.
        dataset_id: as Minari has them, ``<game>/<skill>-v0`` by default.

    Returns:
        the ``minari.MinariDataset``.

    Raises:
        BadInput: Minari is not installed, the dataset exists, an argument is wrong, or the folder has no such skill.
        FlowrlError: the skill never succeeds.
    """
    extras.check_minari()
    from flowrl.api import minari_dataset

    if episodes < 1:
        raise BadInput(f"episodes must be at least 1, found {episodes}")
    env = skill_env(graph_path, skill_name)
    name = dataset_id or f"{env.adapter.env_name}/{env.name}-v0"
    minari_dataset.check_free(name)
    return minari_dataset.write(name, env, successes(env, episodes, seed))


def successes(env: SkillEnvironment, wanted: int, seed: int) -> list[Episode]:
    """That many successful episodes. Episodes are played to their end in whole batches, so that long ones count too.

    Raises:
        FlowrlError: none of the first `HOPELESS` succeeds.
    """
    found: list[Episode] = []
    tried, player = 0, _Player(env, NUM_ENVS)
    while len(found) < wanted:
        found += player.batch(jax.random.fold_in(jax.random.key(seed), tried))
        tried += NUM_ENVS
        if not found and tried >= HOPELESS:
            raise FlowrlError(
                f"{env.name} did not succeed once in {tried} episodes, so there is nothing to export; train it further"
            )
    return found[:wanted]


class _Player:
    """Plays batches of episodes with the experts of a plan."""

    def __init__(self, env: SkillEnvironment, num_envs: int):
        self._env, self._num_envs = env, num_envs
        self._reset = jax.jit(jax.vmap(env.reset))
        self._step = jax.jit(self._step_all)
        self._look = jax.jit(self._look_at_all)

    def batch(self, key: jax.Array) -> list[Episode]:
        """One episode in each environment; those that succeeded."""
        reset_key, step_key = jax.random.split(key)
        _, states = self._reset(jax.random.split(reset_key, self._num_envs))
        seen, steps = [jax.device_get(self._look(states))], []
        running = np.ones(self._num_envs, bool)
        while running.any():
            states, step = self._step(self._env.policy, jax.random.fold_in(step_key, len(steps)), states)
            seen.append(jax.device_get(self._look(states)))
            steps.append(jax.device_get(step))
            running &= ~steps[-1].done
        return list(self._successful(_stacked(seen), _stacked(steps)))

    def _step_all(self, policy: PlanPolicy, key, states: SkillState) -> tuple[SkillState, _Step]:
        act_key, step_key = jax.random.split(key)
        act_keys, step_keys = (jax.random.split(each, self._num_envs) for each in (act_key, step_key))
        action = jax.vmap(policy.act)(act_keys, states)
        step = jax.vmap(self._env.step_env, in_axes=(0, 0, 0, None))
        _, states, reward, done, info = step(step_keys, states, action, self._env.default_params)
        return states, _Step(action, reward, done, info["success"])

    def _look_at_all(self, states: SkillState) -> _Seen:
        return _Seen(jax.vmap(self._env.adapter.observe)(states.game), states.progress.task)

    def _successful(self, seen: _Seen, steps: _Step) -> Iterator[Episode]:
        for place in range(self._num_envs):
            length = int(np.argmax(steps.done[:, place])) + 1
            if not steps.success[length - 1, place]:
                continue
            observation, task = jax.tree.map(lambda leaf: leaf[: length + 1, place], seen)
            yield Episode(
                np.asarray(self._env.adapter.layout.expand(jax.tree.map(jnp.asarray, observation))),
                task,
                steps.action[:length, place],
                steps.reward[:length, place],
            )


def _stacked(steps: list) -> NamedTuple:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *steps)
