"""What a skill's own expert tries: the kinds of its actions, and how often it does what has brought success.

An expert that hardly ever tries the decisive action cannot learn that it pays. So its pane, its metrics and the report show
what it does, and a run that is given up says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from flowrl.envs.adapter import GameAdapter
from flowrl.records.tried import Tried
from flowrl.training.playing.rollout import StepOutcome

OTHER = "other"
"""The kind of the actions that the game puts into no kind."""
MEMORY = 0.9
"""The share of an action's weight that is left after each update."""
OFTEN = 0.5
"""Of the successes, at least so many came with the decisive action."""


class ActionWatch:
    """Follows the actions of one expert.

    Args:
        names: of the actions, by number.
        kinds: for each kind its actions, by number.
        expert: the local index of the skill's own expert.
        last_task: the place of the skill's own task in the plan.
    """

    def __init__(self, names: Sequence[str], kinds: Mapping[str, Sequence[int]], expert: int, last_task: int):
        self._names, self._kinds, self._expert, self._last_task = names, kinds, expert, last_task
        self._recent = np.zeros(len(names))
        self._successes = np.zeros(len(names), np.int64)

    def add(self, outcomes: Iterable[StepOutcome], actions: Iterable[np.ndarray]) -> None:
        """Counts the steps of a rollout; ``actions`` int ``[B]`` of each step."""
        self._recent *= MEMORY
        for step, action in zip(outcomes, actions, strict=True):
            own = step.expert == self._expert
            self._recent += np.bincount(action[own], minlength=len(self._names))
            done = step.task_done & (step.task == self._last_task)
            self._successes += np.bincount(action[done], minlength=len(self._names))

    @property
    def tried(self) -> Tried | None:
        """None before the expert has acted."""
        total = self._recent.sum()
        if not total:
            return None
        shares = self._recent / total
        decisive = self._decisive()
        return Tried(
            {kind: float(shares[list(actions)].sum()) for kind, actions in self._kinds.items()},
            {kind: _entropy(shares[list(actions)]) for kind, actions in self._kinds.items() if len(actions) > 1},
            None if decisive is None else self._names[decisive],
            None if decisive is None else float(shares[decisive]),
        )

    def _decisive(self) -> int | None:
        most = int(np.argmax(self._successes))
        is_clear = self._successes[most] and self._successes[most] >= OFTEN * self._successes.sum()
        return most if is_clear else None


def watch_of(adapter: GameAdapter, expert: int, last_task: int) -> ActionWatch | None:
    """Follows the actions of a game's player; None where the game does not say what its actions are."""
    actions = adapter.scope.get("Action")
    if not adapter.facts.action_kinds or actions is None:
        return None
    names = {member.value: name for name, member in actions.__members__.items()}
    ordered = [names.get(number, str(number)) for number in range(adapter.num_actions)]
    return ActionWatch(ordered, numbers_of(ordered, adapter.facts.action_kinds), expert, last_task)


def numbers_of(names: Sequence[str], kinds: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """The actions of each kind, by number; a name that ends in ``_`` stands for all that begin with it."""
    found = {kind: [number for number, name in enumerate(names) if _is_one_of(name, known)] for kind, known in kinds.items()}
    placed = {number for numbers in found.values() for number in numbers}
    found[OTHER] = [number for number in range(len(names)) if number not in placed]
    return {kind: numbers for kind, numbers in found.items() if numbers}


def _is_one_of(name: str, known: Sequence[str]) -> bool:
    return any(name == one or (one.endswith("_") and name.startswith(one)) for one in known)


def _entropy(shares: np.ndarray) -> float:
    total = shares.sum()
    return -sum(share / total * math.log(share / total) for share in shares if share > 0) if total else 0.0
