"""What the gate has to know of a game beside its facts: how a resource is written into recorded steps.

All of it is NumPy, and none of it needs the game or JAX: the probe, which must not start JAX's backend, uses it. A game
that has nothing but an inventory needs no more than `GameSteps`; one that declares families derives from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from flowrl.skills.facts import GameFacts

Rows = dict[str, Any]
"""Features by name, ``[B, ...]`` each; a feature that is a struct, such as the inventory, is such a dict itself."""


class GameSteps:
    """How resources stand in the features of one game.

    Args:
        facts: the game.
    """

    together: Mapping[str, tuple[str, int]] = {}
    """A resource with another that the game gives with it in the same step, and the other's level then: an achievement, say,
    with the tool that it is given for."""

    def __init__(self, facts: GameFacts):
        self.facts = facts

    def write(self, rows: Rows, resource: str, level: int) -> None:
        """Changes rows so that exactly this level of a resource is held in them; of what is held or not, 1 or 0."""
        if resource in self.facts.inventory_fields:
            return self.write_field(rows["inventory"], resource, level)
        raise NotImplementedError(f"{type(self).__name__} does not say how {resource} is written into rows; override `write`")

    def write_field(self, inventory: Rows, name: str, level: int) -> None:
        """Changes one inventory field; a level is spread over the entries of an array."""
        held = inventory[name]
        if held.ndim == 1:
            held[:] = level
            return
        pieces = held.shape[1]
        held[:] = level // pieces + (np.arange(pieces) < level % pieces)

    def with_change(self, held: np.ndarray, name: str, change: int) -> np.ndarray:
        """Rows of one stock, changed within what the game lets a player hold; of an array, its first entry."""
        unit = 1 if held.ndim == 1 else np.eye(1, held.shape[1], dtype=held.dtype)
        return np.clip(held + change * unit, 0, self.facts.stocks[name])

    def add_consequences(self, resource: str, before: Rows, after: Rows, given: Mapping[str, int]) -> None:
        """Changes ``after``, in which a resource has just been gained, as the game would beside that.

        Args:
            before: the rows before the step.
            given: what is gained in the step, by name: it is left alone.
        """

    def conditions(self, before: Rows, after: Rows) -> Iterator[tuple[str, np.ndarray]]:
        """What may have happened in a step, in words, with whether it did (bool ``[B]``): messages name steps by it."""
        for name in self.facts.inventory_fields:
            had, has = (total(rows["inventory"][name]) for rows in (before, after))
            yield f"{name} was gained", has > had
            yield f"{name} was lost", has < had
            yield f"{name} stayed the same", has == had
            yield f"there was no {name}", has == 0
            yield f"there was {name}", has > 0


def total(held: np.ndarray) -> np.ndarray:
    """What rows ``[B, ...]`` of an inventory field count as: the sum of its entries, ``[B]``."""
    return held.reshape(len(held), -1).sum(axis=1)
