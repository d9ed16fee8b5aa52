"""Recorded steps, edited: a resource is there, is not there, or comes by this step.

Play does not reach everything, and a skill's code has to be tried on what it declares. What the game gives together is
edited together. Everything is NumPy over many rows at once; how a resource stands in them is the game's to say
(`flowrl.envs.steps`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flowrl.envs.steps import GameSteps, Rows


class Editor:
    """Edits rows of features of one game.

    Args:
        steps: how resources stand in the rows.
    """

    def __init__(self, steps: GameSteps):
        self.facts = steps.facts
        self.steps = steps

    def gained(self, before: Rows, after: Rows, levels: Mapping[str, int]) -> tuple[Rows, Rows, Rows]:
        """One step in three states: before it, after it with all of ``levels`` just reached, and after it without.

        Whatever else the recorded step changed stays as it was.
        """
        short = {resource: level - 1 for resource, level in levels.items()}
        before, without = self.holding(before, short), self.holding(after, short)
        full = self.holding(without, levels)
        for resource in levels:
            self._add_companion(resource, before, full, levels)
            self.steps.add_consequences(resource, before, full, levels)
        return before, full, without

    def holding(self, rows: Rows, levels: Mapping[str, int]) -> Rows:
        """The rows with exactly these levels, and with what the game gives together with them, or does not give yet."""
        rows = copied(rows)
        for resource, level in levels.items():
            self.steps.write(rows, resource, level)
        for resource, (other, level) in self.steps.together.items():
            if other in levels and resource not in levels:
                self.steps.write(rows, resource, int(levels[other] >= level))
        return rows

    def _add_companion(self, resource: str, before: Rows, after: Rows, levels: Mapping[str, int]) -> None:
        """Adds what the game gives in the step in which a resource is gained."""
        other, level = self.steps.together.get(resource, (None, 0))
        if other is None or other in levels:
            return
        if other in self.facts.stocks:
            after["inventory"][other] = self.steps.with_change(before["inventory"][other], other, 1)
        else:
            self.steps.write(after, other, level)


def copied(rows: Rows) -> Rows:
    """Rows that can be written into."""
    return {name: copied(value) if isinstance(value, dict) else np.array(value) for name, value in rows.items()}


def taken(rows: Rows, places: np.ndarray) -> Rows:
    """Some of the rows."""
    return {name: taken(value, places) if isinstance(value, dict) else value[places] for name, value in rows.items()}


def joined(parts: list[Rows]) -> Rows:
    """Rows one below the other."""
    joined_rows = {}
    for name, first in parts[0].items():
        values = [part[name] for part in parts]
        joined_rows[name] = joined(values) if isinstance(first, dict) else np.concatenate(values)
    return joined_rows


def count(rows: Rows) -> int:
    """How many rows there are."""
    first = next(iter(rows.values()))
    return count(first) if isinstance(first, dict) else len(first)
