"""What the gate needs to know about a game besides its facts: how to write a resource into recorded steps.

It uses NumPy only, and needs neither the game nor JAX, because the probe must not start JAX's backend. A game that only
has an inventory can use `GameSteps`; one that declares families derives from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from flowrl.skills.facts import GameFacts

Rows = dict[str, Any]
"""Features by name, ``[B, ...]`` each; a feature that is a struct, such as the inventory, is such a dict itself."""


class GameSteps:
    """How the features of one game store resources.

    Args:
        facts: the game.
    """

    together: Mapping[str, tuple[str, int]] = {}
    """Pairs of resources that the game gives in the same step, with the second one's level: for example an achievement
    and the tool that it rewards."""

    def __init__(self, facts: GameFacts):
        self.facts = facts

    def write(self, rows: Rows, resource: str, level: int) -> None:
        """Changes rows so that they hold exactly this level of a resource; 1 or 0 for what is either held or not."""
        if resource in self.facts.inventory_fields:
            return self.write_field(rows["inventory"], resource, level)
        raise NotImplementedError(f"{type(self).__name__} does not say how {resource} is written into rows; override `write`")

    def write_field(self, inventory: Rows, name: str, level: int) -> None:
        """Changes one inventory field; in an array, spreads the level over the entries."""
        held = inventory[name]
        if held.ndim == 1:
            held[:] = level
            return
        pieces = held.shape[1]
        held[:] = level // pieces + (np.arange(pieces) < level % pieces)

    def with_change(self, held: np.ndarray, name: str, change: int) -> np.ndarray:
        """Changes one stock in rows, within what the game lets a player hold; in an array, changes the first entry."""
        unit = 1 if held.ndim == 1 else np.eye(1, held.shape[1], dtype=held.dtype)
        return np.clip(held + change * unit, 0, self.facts.stocks[name])

    def add_consequences(self, resource: str, before: Rows, after: Rows, given: Mapping[str, int]) -> None:
        """Makes the other changes in ``after`` that the game would make when a resource is gained.

        Args:
            before: the rows before the step.
            given: names of what is gained in the step; these are not changed.
        """

    def conditions(self, before: Rows, after: Rows) -> Iterator[tuple[str, np.ndarray]]:
        """Events that may happen in a step, in words, and whether each did (bool ``[B]``): messages name steps by them."""
        for name in self.facts.inventory_fields:
            had, has = (total(rows["inventory"][name]) for rows in (before, after))
            yield f"{name} was gained", has > had
            yield f"{name} was lost", has < had
            yield f"{name} stayed the same", has == had
            yield f"there was no {name}", has == 0
            yield f"there was {name}", has > 0


def total(held: np.ndarray) -> np.ndarray:
    """The level of an inventory field in rows ``[B, ...]``: the sum of its entries, ``[B]``."""
    return held.reshape(len(held), -1).sum(axis=1)
