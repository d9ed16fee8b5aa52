"""The tries at the last task of a plan: the features with which each began, and with which it ended."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.features import Features
from flowrl.training.playing.environments import Playing
from flowrl.training.playing.rollout import StepOutcome


class Tries(NamedTuple):
    """``E`` tries at a task, on the host; none: ``begun`` and ``ended`` are None."""

    begun: Features | None
    """``[E, ...]``: as the task began."""
    ended: Features | None
    """``[E, ...]``: after the step that ended it."""
    success: np.ndarray
    """bool ``[E]``."""
    steps: np.ndarray
    """int32 ``[E]``: of each try."""


class TryLog:
    """Notes the tries at a plan's last task while an evaluation is played.

    Where a task began is kept on the device, by a program that depends on no skill's code. Nothing is fetched for steps that
    end no try, and nothing is read off the features: that costs more than a test, and most tests are of no further use.
    """

    def __init__(self, last_task: int):
        self._last_task = last_task
        self._begun: Features | None = None
        self._queued: list[tuple[Features, Features, jax.Array]] = []
        self._tries: list[Tries] = []

    def queue(self, playing: Playing, features: Features) -> None:
        """Queues a step: the environments before it, and the features ``[B, ...]`` after it."""
        before = playing.scene.features
        self._begun = before if self._begun is None else _keep()(self._begun, before, playing.progress.steps)
        self._queued.append((self._begun, features, playing.progress.steps))

    def add(self, number: int, step: StepOutcome, counting: np.ndarray) -> None:
        """Takes in the outcome of the queued step ``number``; ``counting``, bool ``[B]``, says whose episodes count."""
        of_task = counting & step.ended & (step.task == self._last_task)
        if of_task.any():
            begun, ended, before = jax.tree.map(lambda leaf: leaf[of_task], jax.device_get(self._queued[number]))
            self._tries.append(Tries(begun, ended, step.success[of_task], before + 1))

    def clear(self) -> None:
        """Forgets the queued steps, once all of them were added."""
        self._queued.clear()

    def tries(self) -> Tries:
        """What was added so far."""
        if not self._tries:
            return Tries(None, None, np.zeros(0, bool), np.zeros(0, np.int32))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *self._tries)


@cache
def _keep():
    """The program ``(begun, before, steps in the task) -> begun``: the features before the step where a task begins."""

    def keep(begun, before, steps):
        def chosen(old, new):
            return jnp.where((steps == 0).reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return jax.tree.map(chosen, begun, before)

    return jax.jit(keep)
