"""Episodes as a Minari dataset."""

from __future__ import annotations

from collections.abc import Sequence

import minari
import numpy as np
from gymnasium import spaces
from minari import MinariDataset
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_dataset import parse_dataset_id

from flowrl.api.episodes import Episode
from flowrl.api.skill import SkillEnvironment
from flowrl.errors import BadInput


def check_free(dataset_id: str) -> None:
    """
    Raises:
        BadInput: there is such a dataset already, or it is no name for one.
    """
    try:
        parse_dataset_id(dataset_id)
    except (TypeError, ValueError) as error:  # a name without a version is a TypeError
        raise BadInput(f"{dataset_id!r} cannot be the name of a dataset; give one like Craftax/Collect_Wood-v0") from error
    if dataset_id in minari.list_local_datasets():
        raise BadInput(f"the dataset {dataset_id} exists; choose another dataset_id, or delete it: minari delete {dataset_id}")


def write(dataset_id: str, env: SkillEnvironment, episodes: Sequence[Episode]) -> MinariDataset:
    """Stores successful episodes: each ends with a termination, and none is truncated."""
    return minari.create_dataset_from_buffers(
        dataset_id,
        [_buffer(number, episode) for number, episode in enumerate(episodes)],
        action_space=spaces.Discrete(env.num_actions),
        observation_space=spaces.Box(-np.inf, np.inf, (env.adapter.observation_size,), np.float32),
        algorithm_name="flowrl",
        description=f"Successful episodes of {env.name} in {env.adapter.env_name}, played by the experts of its plan: "
        + ", ".join(env.task_names),
    )


def _buffer(number: int, episode: Episode) -> EpisodeBuffer:
    length = len(episode.actions)
    return EpisodeBuffer(
        id=number,
        observations=episode.observations,
        actions=episode.actions.astype(np.int64),
        rewards=episode.rewards,
        terminations=np.arange(length) == length - 1,
        truncations=np.zeros(length, bool),
        infos={"task": episode.tasks},
    )
