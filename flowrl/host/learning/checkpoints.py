"""Checkpoints of a training: the same command goes on from the newest one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp

from flowrl import checkpoint_files, pickles
from flowrl.errors import BadInput
from flowrl.host.learning.ppo import Learner
from flowrl.host.learning.trainer import TrainingState
from flowrl.paths import HostRunPaths

FORMAT = "flowrl-host-checkpoint"
VERSION = 1


class Saved(NamedTuple):
    """What a checkpoint holds."""

    state: TrainingState
    recent: list[float]
    """Returns of the newest episodes, the oldest first."""
    seconds: float
    """Seconds of training so far."""


def save(paths: HostRunPaths, saved: Saved, env: str) -> None:
    """Writes a checkpoint, whole, and drops old ones.

    Args:
        env: the name of the environment that was trained on.

    Raises:
        FlowrlError: a parameter is not a number; earlier checkpoints stay.
        OSError: the disk is full, or the folder cannot be written.
    """
    state = saved.state
    params, optimiser_state = jax.device_get(state.learner)
    checkpoint_files.check_finite(jax.tree.leaves(params), "the training", "--learning_rate")
    pickles.dump(
        paths.checkpoint(state.frames),
        {
            "format": FORMAT,
            "version": VERSION,
            "params": params,
            "optimiser": flax.serialization.to_state_dict(optimiser_state),
            "metadata": {
                "env": env,
                "updates": state.updates,
                "frames": state.frames,
                "episodes": state.episodes,
                "recent": [float(value) for value in saved.recent],
                "seconds": saved.seconds,
            },
        },
    )
    checkpoint_files.drop_old(paths.checkpoints())


def newest(paths: HostRunPaths, fresh: Learner, env: str, folder_flag: str, say: Callable[[str], None]) -> Saved | None:
    """The newest checkpoint that can be read; None if there is none. Damaged ones are moved aside, and ``say`` names them.

    Args:
        fresh: a learner of the right shape.
        folder_flag: the flag that names the folder, for messages.

    Raises:
        BadInput: the newest intact one is of another environment or another network.
    """
    return checkpoint_files.newest(
        paths.checkpoints(),
        {"params", "optimiser", "metadata"},
        lambda record: _restored(record, fresh, env),
        f"give another {folder_flag} for this training, or the settings of the checkpoint",
        say,
    )


def _restored(record: dict[str, Any], fresh: Learner, env: str) -> Saved:
    if (record.get("format"), record.get("version")) != (FORMAT, VERSION):
        raise BadInput(f"format {record.get('format')!r} {record.get('version')!r} is not {FORMAT} {VERSION}")
    metadata = record["metadata"]
    if metadata["env"] != env:
        raise BadInput(f"it was trained on {metadata['env']}, not on {env}")
    params = flax.serialization.from_state_dict(fresh.params, record["params"])
    optimiser_state = flax.serialization.from_state_dict(fresh.optimiser_state, record["optimiser"])
    learner = jax.tree.map(jnp.asarray, Learner(params, optimiser_state))
    check_shapes(learner, fresh)
    state = TrainingState(learner, metadata["updates"], metadata["frames"], metadata["episodes"])
    return Saved(state, list(metadata["recent"]), float(metadata["seconds"]))


def check_shapes(found: Any, expected: Any) -> None:
    """
    Raises:
        BadInput: an array of one tree has another shape than that of the other.
    """

    def check(path, mine, theirs):
        if jnp.shape(mine) != jnp.shape(theirs):
            where = jax.tree_util.keystr(path)
            raise BadInput(f"{where} has shape {jnp.shape(mine)}, these settings have {jnp.shape(theirs)}")

    jax.tree_util.tree_map_with_path(check, found, expected)
