"""Checkpoints of a training: the same command goes on from the newest one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp

from flowrl import checkpoint_files, pickles
from flowrl.errors import BadInput
from flowrl.fire.agent.learning import Params, QLearner
from flowrl.host.learning.checkpoints import check_shapes
from flowrl.paths import FuelBreakPaths

FORMAT = "flowrl-fuel-breaks-checkpoint"
VERSION = 1


class Progress(NamedTuple):
    """How far a training has come.

    Attributes:
        rounds, updates: made so far.
        epsilon: probability of a random cell.
        seconds: of training, in all starts together.
        best_share: the least that the planning fires burned with an agent's breaks; None before the first comparison.
    """

    rounds: int = 0
    updates: int = 0
    epsilon: float = 1.0
    seconds: float = 0.0
    best_share: float | None = None


class Saved(NamedTuple):
    """What a checkpoint holds: the learner, the parameters of the best comparison, and the progress."""

    learner: QLearner
    best: Params
    progress: Progress


def save(paths: FuelBreakPaths, saved: Saved) -> None:
    """Writes a checkpoint, whole, and drops old ones.

    Raises:
        FlowrlError: a parameter is not a number; earlier checkpoints stay.
        OSError: the disk is full, or the folder cannot be written.
    """
    learner = jax.device_get(saved.learner)
    checkpoint_files.check_finite(jax.tree.leaves(learner.params), "the training", "--learning_rate")
    pickles.dump(
        paths.checkpoint(saved.progress.rounds),
        {
            "format": FORMAT,
            "version": VERSION,
            "params": learner.params,
            "target": learner.target,
            "optimiser": flax.serialization.to_state_dict(learner.optimiser_state),
            "best": jax.device_get(saved.best),
            "metadata": dict(saved.progress._asdict()),
        },
    )
    checkpoint_files.drop_old(paths.checkpoints())


def newest(paths: FuelBreakPaths, fresh: QLearner, say: Callable[[str], None]) -> Saved | None:
    """The newest checkpoint that can be read; None if there is none. Damaged ones are moved aside.

    Raises:
        BadInput: the newest intact one is of another network.
    """
    return checkpoint_files.newest(
        paths.checkpoints(),
        {"params", "target", "optimiser", "best", "metadata"},
        lambda record: _restored(record, fresh),
        "give another --output_dir, or the settings of the checkpoint",
        say,
    )


def _restored(record: dict[str, Any], fresh: QLearner) -> Saved:
    if (record.get("format"), record.get("version")) != (FORMAT, VERSION):
        raise BadInput(f"format {record.get('format')!r} {record.get('version')!r} is not {FORMAT} {VERSION}")
    params, target, best = (_like(fresh.params, record[name]) for name in ("params", "target", "best"))
    optimiser_state = _like(fresh.optimiser_state, record["optimiser"])
    return Saved(QLearner(params, target, optimiser_state), best, Progress(**record["metadata"]))


def _like(fresh: Any, record: Any) -> Any:
    found = jax.tree.map(jnp.asarray, flax.serialization.from_state_dict(fresh, record))
    check_shapes(found, fresh)
    return found
