"""What is known of each skill's worth while it is played: what was known before, and tries, old ones less and less."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from flowrl.errors import BadInput
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.files import read_json
from flowrl.rehearsal.rollout import Rehearsed

GUESSED_STEPS = 60.0
"""Of a task, before any was seen."""
MEASURED, GUESSED = 20.0, 2.0
"""Tries that a skill's success rate counts as, if it was measured, and if it is taken for good to be tried: a few failures
then show that it is not."""


class Experience:
    """What is known of each skill's worth while it is played: what was measured before, and tries, old ones less and less.

    Args:
        success, steps: ``[S]``, as measured or guessed before.
        trust: tries that each counts as, ``[S]`` or the same for all.
        memory: the share of a try's weight that is left after each rollout.
    """

    def __init__(self, success: np.ndarray, steps: np.ndarray, trust: np.ndarray | float = MEASURED, memory: float = 0.98):
        self._prior = np.stack([np.ones(len(success)), success, steps]) * trust
        self._recent = np.zeros_like(self._prior)
        self._memory = memory

    def add(self, rollout: Iterable[Rehearsed]) -> None:
        """Counts the tries of a rollout."""
        self._recent *= self._memory
        for step in rollout:
            tried = step.tried
            for total, value in zip(self._recent, (np.ones_like(step.steps), step.task_done, step.steps)):
                np.add.at(total, step.skill[tried], value[tried])

    @property
    def success(self) -> np.ndarray:
        """float32 ``[S]``."""
        tries, successes, _ = self._prior + self._recent
        return (successes / tries).astype(np.float32)

    @property
    def steps(self) -> np.ndarray:
        """float32 ``[S]``: of a try, for each unit of ``n``."""
        tries, _, steps = self._prior + self._recent
        return np.maximum(steps / tries, 1).astype(np.float32)

    def to_data(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Plain values by skill, as the rehearsal's folder keeps them; ``names`` in the order of the arrays."""
        pairs = zip(self.success.tolist(), self.steps.tolist())
        return {name: {"success": success, "steps": steps} for name, (success, steps) in zip(names, pairs, strict=True)}


def found(path: Path, library: Library) -> Experience:
    """What an earlier attempt has seen of the library's skills, else what their trainings measured.

    Raises:
        BadInput: the file is damaged.
    """
    try:
        kept = read_json(path)
    except FileNotFoundError:
        return _of_trainings(library)
    try:
        rows = [(kept[skill.name]["success"], kept[skill.name]["steps"]) for skill in library.skills]
        return Experience(*np.array(rows, np.float32).T)
    except (KeyError, TypeError, ValueError):
        raise BadInput(
            f"{path} lacks the success rates of some skills; remove it to begin with the rates of their trainings"
        ) from None


def _of_trainings(library: Library) -> Experience:
    measured = [_measured(skill) for skill in library.skills]
    return Experience(
        np.array([1.0 if rate is None else rate for rate in measured], np.float32),
        np.array([_guessed(skill) for skill in library.skills], np.float32),
        np.array([GUESSED if rate is None else MEASURED for rate in measured], np.float32),
    )


def _measured(skill: LibrarySkill) -> float | None:
    """How often the skill's own task succeeded when it was trained; None for an expert that was not."""
    result = skill.result
    if result is None or not result.tasks or not (result.acted_frames or {}).get(str(skill.index)):
        return None
    return result.tasks[-1].success_rate


def _guessed(skill: LibrarySkill) -> float:
    return min(GUESSED_STEPS, skill.own_max_steps)
