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


class Experience:
    """What is known of each skill's worth while it is played: what was measured before, and tries, old ones less and less.

    Args:
        success, steps: ``[S]``, as measured before.
        trust: tries that the measurement before counts as.
        memory: the share of a try's weight that is left after each rollout.
    """

    def __init__(self, success: np.ndarray, steps: np.ndarray, trust: float = 20.0, memory: float = 0.98):
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
        kept = {skill.name: {"success": _measured(skill), "steps": _guessed(skill)} for skill in library.skills}
    try:
        rows = [(kept[skill.name]["success"], kept[skill.name]["steps"]) for skill in library.skills]
        return Experience(*np.array(rows, np.float32).T)
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{path} does not say how each skill did; remove it to begin with what the trainings measured") from None


def _measured(skill: LibrarySkill) -> float:
    """How often the skill's own task succeeded when it was trained; an expert that was not is taken for good, to be tried."""
    result = skill.result
    if result is None or not result.tasks or not (result.acted_frames or {}).get(str(skill.index)):
        return 1.0
    rate = result.tasks[-1].success_rate
    return 1.0 if rate is None else rate


def _guessed(skill: LibrarySkill) -> float:
    return min(GUESSED_STEPS, skill.own_max_steps)
