"""Steps of a recording, edited: a resource is there, is not there, or comes by this step.

Play does not reach diamonds, and a skill's code has to be tried on what it declares. What the game gives together is
edited together: who gains a wood pickaxe unlocks its achievement, who is rewarded for drinking has drunk. Everything is
NumPy over many rows at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flowrl.envs.features import NOT_IN_VIEW
from flowrl.skills.facts import GameFacts
from flowrl.skills.menu import INTRINSICS, MONSTERS_TO_CLEAR

Rows = dict[str, Any]
"""Features by field, ``[B, ...]`` each; the inventory is such a dict itself."""

MAX_INTRINSIC = 9
MATERIALS = ("WOOD", "STONE", "IRON", "DIAMOND")
_ALSO = {
    "COLLECT_DRINK": {"drink": 1}, "DRINK_POTION": {"potions": -1}, "EAT_COW": {"food": 6}, "EAT_PLANT": {"food": 4},
    "EAT_BAT": {"food": 6}, "EAT_SNAIL": {"food": 6}, "WAKE_UP": {"energy": 1}, "FIRE_BOW": {"arrows": -1},
    "PLACE_STONE": {"stone": -1}, "PLACE_TORCH": {"torches": -1}, "PLACE_PLANT": {"sapling": -1},
    "PLACE_TABLE": {"wood": -1}, "PLACE_FURNACE": {"stone": -1}, "CAST_FIREBALL": {"mana": -2},
    "CAST_ICEBALL": {"mana": -2},
}  # fmt: skip
"""What else changes in the step that unlocks an achievement."""


def together(achievement: str, facts: GameFacts) -> tuple[str, int] | None:
    """The resource that comes with an achievement, and its level then; None where there is none."""
    deed, _, thing = achievement.partition("_")
    name = thing.lower()
    fields = facts.stocks | facts.possessions
    if deed in ("COLLECT", "FIND") and name in fields:
        return name, 1
    if deed == "MAKE":
        material, _, tool = thing.partition("_")
        if name in fields:
            return name, 1
        if tool.lower() in facts.possessions:
            return tool.lower(), min(MATERIALS.index(material) + 1, facts.possessions[tool.lower()])
        plurals = {"ARROW": "arrows", "TORCH": "torches"}
        return (plurals[thing], 1) if plurals.get(thing) in fields else None
    if deed == "ENTER" and thing in facts.levels:
        return f"level:{thing}", 1
    block = {"TABLE": "CRAFTING_TABLE"}.get(thing, thing)
    return (f"near:{block}", 1) if deed == "PLACE" and block in facts.blocks else None


class Editor:
    """Edits rows of features of one game.

    Args:
        facts: the game.
        enums: its constants: enum to member to value.
    """

    def __init__(self, facts: GameFacts, enums: Mapping[str, Mapping[str, int]]):
        self.facts = facts
        self.enums = enums
        pairs = ((name, together(name, facts)) for name in facts.achievements)
        self.pairs = {name: pair for name, pair in pairs if pair}

    def gained(self, before: Rows, after: Rows, levels: Mapping[str, int]) -> tuple[Rows, Rows, Rows]:
        """One step in three states: before it, after it with all of ``levels`` just reached, and after it without.

        Whatever else the recorded step changed stays as it was.
        """
        short = {resource: level - 1 for resource, level in levels.items()}
        before, without = self.holding(before, short), self.holding(after, short)
        full = self.holding(without, levels)
        for resource in levels:
            if resource.startswith("achievement:"):
                full = self._with_deed(before, full, resource.partition(":")[2], levels)
        return before, full, without

    def holding(self, rows: Rows, levels: Mapping[str, int]) -> Rows:
        """The rows with exactly these levels, and with the achievements that go with them or do not yet."""
        rows = copied(rows)
        for resource, level in levels.items():
            self._set(rows, resource, level)
        for name, (resource, level) in self.pairs.items():
            if resource in levels and f"achievement:{name}" not in levels:
                rows["achievements"][:, self.enums["Achievement"][name]] = levels[resource] >= level
        return rows

    def _set(self, rows: Rows, resource: str, level: int) -> None:
        family, _, member = resource.partition(":")
        if family == "near":
            place = np.array([[-1], [0]]) if level > 0 else NOT_IN_VIEW
            rows["closest_blocks"][:, self.enums["BlockType"][member]] = place
        elif family == "achievement":
            rows["achievements"][:, self.enums["Achievement"][member]] = level > 0
        elif family == "level":
            floor = self.facts.levels.index(member)
            rows["player_level"][:] = floor if level > 0 else floor - 1 if floor else 1
        elif family == "cleared":
            rows["monsters_killed"][:, self.facts.levels.index(member)] = MONSTERS_TO_CLEAR - 1 + level
        else:
            self._set_field(rows["inventory"], resource, level)

    def _set_field(self, inventory: Rows, name: str, level: int) -> None:
        held = inventory[name]
        if held.ndim == 1:
            held[:] = level
            return
        pieces = held.shape[1]
        held[:] = level // pieces + (np.arange(pieces) < level % pieces)

    def _with_deed(self, before: Rows, after: Rows, achievement: str, levels: Mapping[str, int]) -> Rows:
        """What changes in the world when an achievement is unlocked."""
        after = copied(after)
        resource, level = self.pairs.get(achievement, (None, 0))
        if resource in self.facts.stocks and resource not in levels:
            after["inventory"][resource] = self._changed(before["inventory"][resource], resource, 1)
        elif resource is not None and resource not in levels:
            self._set(after, resource, level)
        for name, change in _ALSO.get(achievement, {}).items():
            if name in INTRINSICS:
                column = INTRINSICS.index(name)
                after["player_intrinsics"][:, column] = np.clip(before["player_intrinsics"][:, column] + change, 0, MAX_INTRINSIC)
            elif name in self.facts.stocks and name not in levels:
                after["inventory"][name] = self._changed(before["inventory"][name], name, change)
        if achievement.startswith("DEFEAT_") and after["monsters_killed"].shape[1]:
            rows = np.arange(len(after["player_level"]))
            killed = before["monsters_killed"].copy()
            killed[rows, before["player_level"]] += 1
            after["monsters_killed"] = killed
        return after

    def _changed(self, held: np.ndarray, name: str, change: int) -> np.ndarray:
        unit = 1 if held.ndim == 1 else np.eye(1, held.shape[1], dtype=held.dtype)
        return np.clip(held + change * unit, 0, self.facts.stocks[name])


def copied(rows: Rows) -> Rows:
    """Rows that can be written into."""
    return {name: copied(value) if isinstance(value, dict) else np.array(value) for name, value in rows.items()}


def taken(rows: Rows, places: np.ndarray) -> Rows:
    """Some of the rows."""
    return {name: taken(value, places) if isinstance(value, dict) else value[places] for name, value in rows.items()}


def joined(parts: list[Rows]) -> Rows:
    """Rows one below the other."""
    first = parts[0]
    return {
        name: joined([part[name] for part in parts]) if isinstance(first[name], dict) else np.concatenate([part[name] for part in parts])
        for name in first
    }


def count(rows: Rows) -> int:
    """How many rows there are."""
    return len(rows["player_level"])
