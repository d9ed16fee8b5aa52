"""Checkpoints: a killed run resumes from them, and the library takes its experts from them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

from flowrl import checkpoint_files, pickles
from flowrl.errors import BadInput
from flowrl.paths import RunPaths
from flowrl.records import run_record
from flowrl.records.run_record import RunRecord
from flowrl.training.learning import experts
from flowrl.training.learning.ppo import Learner
from flowrl.training.run.state import RunState

FORMAT = "flowrl-checkpoint"
VERSION = 1


def save(paths: RunPaths, state: RunState, local_to_global: dict[int, int | None], attempt: int) -> str:
    """Writes a checkpoint, whole, drops old ones, and returns its path in the run's folder.

    Args:
        local_to_global: the global index of each expert that is saved; None for one that does not go into the library.

    Raises:
        FlowrlError: a parameter is not a number; earlier checkpoints stay, so that a retry can resume from them.
    """
    host = jax.device_get(state.learner)
    checkpoint_files.check_finite(jax.tree.leaves(host.params), f"training {paths.skill_name}", "--lr")
    count = len(local_to_global)
    optimiser_states = [flax.serialization.to_state_dict(state) for state in experts.unstack(host.optimiser_state, count)]
    path = paths.checkpoint(state.frames)
    _set_late_aside(paths, state.frames)
    pickles.dump(
        path,
        {
            "format": FORMAT,
            "version": VERSION,
            "experts": {str(index): {"params": params} for index, params in enumerate(experts.unstack(host.params, count))},
            "optimiser": {str(index): state for index, state in enumerate(optimiser_states)},
            "random": np.asarray(jax.random.key_data(state.key)),
            "metadata": {
                "frames": state.frames,
                "updates": state.updates,
                "attempt": attempt,
                "acted_frames": {str(index): int(frames) for index, frames in enumerate(state.acted_frames)},
                "local_to_global": {str(local): index for local, index in local_to_global.items()},
            },
        },
    )
    checkpoint_files.drop_old(paths.checkpoints())
    return str(path.relative_to(paths.folder))


def newest(
    paths: RunPaths, fresh: Learner, local_to_global: dict[int, int | None], say: Callable[[str], None] = lambda line: None
) -> RunState | None:
    """The newest checkpoint that can be read; None if there is none. Damaged ones, and those that an older attempt wrote too
    late, are moved aside, and ``say`` gets a line about it.

    Args:
        fresh: a learner of the right shape.

    Raises:
        BadInput: the newest intact one belongs to another run or has another shape.
    """
    run = run_record.find(paths.run_json)

    def restore(record: dict[str, Any]) -> RunState:
        _check_in_time(paths, record, run)
        return _restored(record, fresh, local_to_global)

    return checkpoint_files.newest(
        paths.checkpoints(),
        {"metadata", "experts", "optimiser", "random"},
        restore,
        "move it away to resume from the one before it, or move the run's folder away to train this skill from the start",
        say,
    )


def _set_late_aside(paths: RunPaths, frames: int) -> None:
    """Moves checkpoints of older attempts aside that were written after this one had begun: an attempt only adds frames, so
    its own newest has the most."""
    ahead = [path for path in paths.checkpoints() if paths.frames_of(path) > frames]
    if not ahead or (run := run_record.find(paths.run_json)) is None:
        return
    for path in ahead:
        with contextlib.suppress(OSError, BadInput, KeyError, TypeError):
            _check_in_time(paths, pickles.load(path), run)
            continue
        with contextlib.suppress(OSError):
            path.rename(path.with_name(f"{path.name}.{checkpoint_files.Late.put_aside_as}"))


def _check_in_time(paths: RunPaths, record: dict[str, Any], run: RunRecord | None) -> None:
    """
    Raises:
        Late: an older attempt wrote it when the next one was under way.
    """
    metadata = record["metadata"]
    newer = run.newer_than(metadata.get("attempt", 0), metadata["frames"], paths.is_of_trial) if run else None
    if newer is not None:
        path, older = paths.checkpoint(metadata["frames"]), metadata["attempt"]
        raise checkpoint_files.Late(f"{path} was written by attempt {older} when attempt {newer} had begun")


def _restored(record: dict[str, Any], fresh: Learner, local_to_global: dict[int, int | None]) -> RunState:
    metadata = record["metadata"]
    if record.get("format") != FORMAT or record.get("version") != VERSION:
        raise BadInput(f"format {record.get('format')!r} {record.get('version')!r} is not {FORMAT} {VERSION}")
    if {int(local): _in_the_library(index) for local, index in metadata["local_to_global"].items()} != local_to_global:
        raise BadInput(f"it holds experts {metadata['local_to_global']}, the run has {local_to_global}")
    count = len(local_to_global)
    params = [record["experts"][str(index)]["params"] for index in range(count)]
    states = [
        flax.serialization.from_state_dict(state, record["optimiser"][str(index)])
        for index, state in enumerate(experts.unstack(fresh.optimiser_state, count))
    ]
    learner = Learner(experts.stack(params), experts.stack(states))
    _check_shapes(learner, fresh)
    acted = np.array([metadata["acted_frames"][str(index)] for index in range(count)], np.int64)
    random_key = jax.random.wrap_key_data(jnp.asarray(record["random"]))
    return RunState(learner, metadata["frames"], metadata["updates"], acted, random_key)


def _in_the_library(index: int | None) -> int | None:
    # Earlier versions gave experts that only exist for a trial of rewards an index below 0.
    return None if index is None or index < 0 else index


def _check_shapes(found: Learner, expected: Learner) -> None:
    def check(path, mine, theirs):
        if jnp.shape(mine) != jnp.shape(theirs):
            raise BadInput(f"{jax.tree_util.keystr(path)} has shape {jnp.shape(mine)}, expected {jnp.shape(theirs)}")

    jax.tree_util.tree_map_with_path(check, found, expected)
