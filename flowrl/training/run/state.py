"""The state of a run: its experts as they are now, and how much they have trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from flowrl.training.learning.networks import Params
from flowrl.training.learning.ppo import Learner
from flowrl.training.run.specification import RunSpecification


class RunState(NamedTuple):
    """What an update changes and a checkpoint stores."""

    learner: Learner
    """``[K, ...]``; donated to the next update."""
    frames: int
    """Frames trained, over all attempts at the run."""
    updates: int
    acted_frames: np.ndarray
    """int64 ``[num experts]``: the frames in which each expert acted."""
    key: jax.Array
    """The random key of updates; it never changes, since each update folds its own number in."""


class LocalExpert(NamedTuple):
    """An expert of a run; its place among them is its local index."""

    name: str
    """Its name in metrics."""
    global_idx: int | None
    """Its index in the library; None for an expert that only exists while several rewards are on trial."""
    params: Params | None
    """Its initial parameters; None if training initialises them."""


def library_experts(run: RunSpecification) -> tuple[LocalExpert, ...]:
    """The experts that a run trains, in their local order."""
    return tuple(LocalExpert(expert.skill_name, expert.global_expert_idx, expert.params) for expert in run.experts)


def newest_expert(run: RunSpecification) -> int:
    """The local index of the skill's own expert."""
    return next(e.local_expert_idx for e in run.experts if e.global_expert_idx == run.global_expert_idx)


def global_indices(experts: Sequence[LocalExpert]) -> dict[int, int | None]:
    """Global indices by local index, as checkpoints store them."""
    return {local: expert.global_idx for local, expert in enumerate(experts)}
