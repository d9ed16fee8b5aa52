"""What a run is at any time: the experts as they have learned so far, and how much they have trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from flowrl.training.learning.networks import Params
from flowrl.training.learning.ppo import Learner
from flowrl.training.run.specification import RunSpecification


class RunState(NamedTuple):
    """What an update changes, and a checkpoint keeps."""

    learner: Learner
    """``[K, ...]``; used up by the next update."""
    frames: int
    """Frames trained, all attempts at the run together."""
    updates: int
    acted_frames: np.ndarray
    """int64 ``[num experts]``: the frames in which each expert acted."""
    key: jax.Array
    """What updates draw from; always the same, since each folds its own number in."""


class LocalExpert(NamedTuple):
    """An expert of a run; its place among them is its local index."""

    name: str
    """As metrics have it."""
    global_idx: int | None
    """In the library; None for an expert that is only there while several rewards are on trial."""
    params: Params | None
    """What it starts from; None where training initialises it."""


def library_experts(run: RunSpecification) -> tuple[LocalExpert, ...]:
    """The experts that a run trains, in their local order."""
    return tuple(LocalExpert(expert.skill_name, expert.global_expert_idx, expert.params) for expert in run.experts)


def newest_expert(run: RunSpecification) -> int:
    """The local index of the skill's own expert."""
    return next(e.local_expert_idx for e in run.experts if e.global_expert_idx == run.global_expert_idx)


def global_indices(experts: Sequence[LocalExpert]) -> dict[int, int | None]:
    """By local index, as checkpoints name the experts that they hold."""
    return {local: expert.global_idx for local, expert in enumerate(experts)}
