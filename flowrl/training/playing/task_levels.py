"""How much of each resource the player held when the last task of a plan began, and when it ended."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.adapter import GameAdapter
from flowrl.envs.features import Features
from flowrl.envs.readings import make_reader
from flowrl.training.playing.environments import Playing
from flowrl.training.playing.rollout import StepOutcome


class TaskLevels(NamedTuple):
    """Levels in ``E`` tries at a task, of ``R`` resources."""

    before: np.ndarray
    """float32 ``[E, R]``: when the task began."""
    after: np.ndarray
    """float32 ``[E, R]``: after the step that ended it."""
    success: np.ndarray
    """bool ``[E]``."""


class LevelReader:
    """Reads the levels of all resources that a game declares; its program depends on no skill's code."""

    def __init__(self, adapter: GameAdapter):
        self.resources = tuple(adapter.facts.resources())
        self.note = jax.jit(make_note(adapter, self.resources))


def make_note(adapter: GameAdapter, resources: tuple[str, ...]):
    """The program ``(begun, features before a step, after it, steps in the task before it) -> begun, now``: the levels
    ``[B, R]`` when the task at hand began, and those after the step."""
    read = make_reader(adapter, resources)
    read_both = jax.vmap(jax.vmap(lambda features: read(features).levels))

    def note(begun, before, after, steps):
        earlier, now = read_both(jax.tree.map(lambda *two: jnp.stack(two), before, after))
        return jnp.where((steps == 0)[:, None], earlier, begun), now

    return note


class TaskLevelLog:
    """The levels in the tries at a plan's last task, while an evaluation is played."""

    def __init__(self, reader: LevelReader, num_envs: int, last_task: int):
        self._reader, self._last_task = reader, last_task
        self._begun: jax.Array | np.ndarray = np.zeros((num_envs, len(reader.resources)), np.float32)
        self._pending: list[tuple[jax.Array, jax.Array]] = []
        self._before: list[np.ndarray] = []
        self._after: list[np.ndarray] = []
        self._success: list[np.ndarray] = []

    def queue(self, playing: Playing, features: Features) -> None:
        """Queues the reading of a step: the environments before it, and the features after it."""
        self._begun, now = self._reader.note(self._begun, playing.scene.features, features, playing.progress.steps)
        self._pending.append((self._begun, now))

    def add(self, number: int, step: StepOutcome, counting: np.ndarray) -> None:
        """Takes in the outcome of the queued step ``number``; ``counting``, bool ``[B]``, says whose episodes count."""
        of_task = counting & step.ended & (step.task == self._last_task)
        if of_task.any():
            before, after = jax.device_get(self._pending[number])
            self._before.append(before[of_task])
            self._after.append(after[of_task])
            self._success.append(step.success[of_task])

    def clear(self) -> None:
        """Forgets the queued steps, once all of them were added."""
        self._pending.clear()

    def levels(self) -> TaskLevels:
        """What was added so far."""
        nothing = np.zeros((0, len(self._reader.resources)), np.float32)
        return TaskLevels(
            np.concatenate([nothing, *self._before]),
            np.concatenate([nothing, *self._after]),
            np.concatenate([np.zeros(0, bool), *self._success]),
        )
