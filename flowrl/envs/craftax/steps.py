"""How both Craftax games store resources in recorded steps, and what changes together in one step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flowrl.envs.craftax.facts import CELLS_IN_REACH, INTRINSICS, MONSTERS_TO_CLEAR, NOT_IN_VIEW
from flowrl.envs.steps import GameSteps
from flowrl.skills.facts import GameFacts

MAX_INTRINSIC = 9
MATERIALS = ("WOOD", "STONE", "IRON", "DIAMOND")
_ALSO = {
    "COLLECT_DRINK": {"drink": 1}, "DRINK_POTION": {"potions": -1}, "EAT_COW": {"food": 6}, "EAT_PLANT": {"food": 4},
    "EAT_BAT": {"food": 6}, "EAT_SNAIL": {"food": 6}, "WAKE_UP": {"energy": 1}, "FIRE_BOW": {"arrows": -1},
    "PLACE_STONE": {"stone": -1}, "PLACE_TORCH": {"torches": -1}, "PLACE_PLANT": {"sapling": -1},
    "PLACE_TABLE": {"wood": -1}, "PLACE_FURNACE": {"stone": -1}, "CAST_FIREBALL": {"mana": -2},
    "CAST_ICEBALL": {"mana": -2},
}  # fmt: skip
"""What else changes in a step that unlocks an achievement."""


class CraftaxSteps(GameSteps):
    """Blocks nearby, creatures, achievements, floors, and monsters killed on them."""

    def __init__(self, facts: GameFacts):
        super().__init__(facts)
        pairs = ((f"achievement:{name}", resource_with(name, facts)) for name in facts.members("achievement"))
        self.together = {name: pair for name, pair in pairs if pair}
        self.creatures = facts.constants["CreatureType"]

    def write(self, rows, resource, level):
        family = self.facts.family_of(resource)
        if family is None:
            return super().write(rows, resource, level)
        index = family.members.index(resource.partition(":")[2])
        match family.name:
            case "near":
                rows["closest_blocks"][:, index] = np.array([[-1], [0]]) if level > 0 else NOT_IN_VIEW
            case "achievement":
                rows["achievements"][:, index] = level > 0
            case "level":
                rows["player_level"][:] = index if level > 0 else index - 1 if index else 1
            case "in":
                rows["ways_in"][:] = 0 if level > 0 else CELLS_IN_REACH
                rows["light"][:] = 0  # it is by night that one goes there
            case "through":
                rows["ways_in"][:] = 0
                rows["light"][:] = level > 0
            case "cleared":
                rows["monsters_killed"][:, index] = MONSTERS_TO_CLEAR - 1 + level

    def add_consequences(self, resource, before, after, given):
        family, _, deed = resource.partition(":")
        if family != "achievement":
            return
        for name, change in _ALSO.get(deed, {}).items():
            if name in INTRINSICS:
                column = INTRINSICS.index(name)
                changed = before["player_intrinsics"][:, column] + change
                after["player_intrinsics"][:, column] = np.clip(changed, 0, MAX_INTRINSIC)
            elif name in self.facts.stocks and name not in given:
                after["inventory"][name] = self.with_change(before["inventory"][name], name, change)
        if deed == "WAKE_UP":
            after["is_sleeping"][:] = False
        if (creature := creature_of(deed)) in self.creatures:  # it was the nearest, and is gone
            after["closest_creatures"][:, self.creatures.index(creature)] = NOT_IN_VIEW
        if deed.startswith("DEFEAT_") and "monsters_killed" in after:
            killed = before["monsters_killed"].copy()
            killed[np.arange(len(killed)), before["player_level"]] += 1
            after["monsters_killed"] = killed

    def conditions(self, before, after) -> Iterator[tuple[str, np.ndarray]]:
        yield from super().conditions(before, after)
        for index, name in enumerate(self.facts.members("achievement")):
            yield f"{name} was unlocked", after["achievements"][:, index] & ~before["achievements"][:, index]
        for feature, names in (("closest_blocks", self.facts.members("near")), ("closest_creatures", self.creatures)):
            for index, name in enumerate(names):
                in_view = np.abs(after[feature][:, index]).sum(axis=(1, 2)) < NOT_IN_VIEW
                yield f"{name} was in view", in_view
                yield f"no {name} was in view", ~in_view
        yield "health was lost", after["player_intrinsics"][:, 0] < before["player_intrinsics"][:, 0]
        yield "the player was asleep", after["is_sleeping"]


def resource_with(achievement: str, facts: GameFacts) -> tuple[str, int] | None:
    """The resource that comes with an achievement, and its level then; None if there is none."""
    deed, _, thing = achievement.partition("_")
    name = thing.lower()
    if deed in ("COLLECT", "FIND") and name in facts.inventory_fields:
        return name, 1
    if deed == "MAKE":
        return _made(thing, facts)
    if deed == "ENTER" and thing in facts.members("level"):
        return f"level:{thing}", 1
    block = {"TABLE": "CRAFTING_TABLE"}.get(thing, thing)
    return (f"near:{block}", 1) if deed == "PLACE" and block in facts.members("near") else None


def creature_of(achievement: str) -> str | None:
    """The creature that is eaten or beaten for an achievement, if it is one; None where nothing is."""
    deed, _, thing = achievement.partition("_")
    return {"ORC_SOLIDER": "ORC_SOLDIER"}.get(thing, thing) if deed in ("EAT", "DEFEAT") else None  # the game's own spelling


def _made(thing: str, facts: GameFacts) -> tuple[str, int] | None:
    material, _, tool = thing.partition("_")
    if thing.lower() in facts.inventory_fields:
        return thing.lower(), 1
    if tool.lower() in facts.possessions:
        return tool.lower(), min(MATERIALS.index(material) + 1, facts.possessions[tool.lower()])
    plurals = {"ARROW": "arrows", "TORCH": "torches"}
    return (plurals[thing], 1) if plurals.get(thing) in facts.inventory_fields else None
