"""Edits recorded steps: a resource is held, is not held, or is gained in the step.

Play does not reach everything, but a skill's code has to be tried on what it declares. What the game gives together is
edited together. Everything is NumPy over many rows at once; the game defines how a resource is stored in them
(`flowrl.envs.steps`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flowrl.envs.steps import GameSteps, Rows


class Editor:
    """Edits rows of features of one game.

    Args:
        steps: how the game stores resources in the rows.
    """

    def __init__(self, steps: GameSteps):
        self.facts = steps.facts
        self.steps = steps

    def gained(self, before: Rows, after: Rows, levels: Mapping[str, int]) -> tuple[Rows, Rows, Rows]:
        """Three versions of the rows: before the step, after it with ``levels`` just reached, and after it without them.

        Everything else that the recorded step changed stays as it was.
        """
        short = {resource: level - 1 for resource, level in levels.items()}
        before, without = self.holding(before, short), self.holding(after, short)
        full = self.holding(without, levels)
        for resource in levels:
            self._add_companion(resource, before, full, levels)
            self.steps.add_consequences(resource, before, full, levels)
        return before, full, without

    def holding(self, rows: Rows, levels: Mapping[str, int]) -> Rows:
        """The rows with exactly these levels, and with the resources that the game gives together with them set to match."""
        rows = copied(rows)
        for resource, level in levels.items():
            self.steps.write(rows, resource, level)
        for resource, (other, level) in self.steps.together.items():
            if other in levels and resource not in levels:
                self.steps.write(rows, resource, int(levels[other] >= level))
        return rows

    def _add_companion(self, resource: str, before: Rows, after: Rows, levels: Mapping[str, int]) -> None:
        """Adds what the game gives in the same step as a resource."""
        other, level = self.steps.together.get(resource, (None, 0))
        if other is None or other in levels:
            return
        if other in self.facts.stocks:
            after["inventory"][other] = self.steps.with_change(before["inventory"][other], other, 1)
        else:
            self.steps.write(after, other, level)


def copied(rows: Rows) -> Rows:
    """A writable copy of rows."""
    return {name: copied(value) if isinstance(value, dict) else np.array(value) for name, value in rows.items()}


def taken(rows: Rows, places: np.ndarray) -> Rows:
    """Some of the rows."""
    return {name: taken(value, places) if isinstance(value, dict) else value[places] for name, value in rows.items()}


def joined(parts: list[Rows]) -> Rows:
    """The rows of all parts, concatenated."""
    joined_rows = {}
    for name, first in parts[0].items():
        values = [part[name] for part in parts]
        joined_rows[name] = joined(values) if isinstance(first, dict) else np.concatenate(values)
    return joined_rows


def count(rows: Rows) -> int:
    """How many rows there are."""
    first = next(iter(rows.values()))
    return count(first) if isinstance(first, dict) else len(first)
