"""What Craftax-Classic and Craftax have in common, as data: features, families of resources, the reward menu."""

import math

from flowrl.skills.facts import Ending, Family, Feature, Kind, OverStep, Penalty, RewardTerm, Sights, Vital

INTRINSICS = ("health", "food", "drink", "energy", "mana")
"""The entries of ``player_intrinsics``; the last one only if the game has it."""
CELLS_IN_REACH = 40
"""`shelter.ways_in` in the open."""
SHELTERED = "(ways_in <= 1)"
"""Walled in, with room to turn."""
BY_DAY = "(light > 0.45)"
"""In the dark many more zombies come, and they find whoever is in the open."""
MONSTERS_TO_CLEAR = 8
"""Monsters to beat on a floor before its ladder down opens (Craftax: ``MONSTERS_KILLED_TO_CLEAR_LEVEL``)."""
HEALTH_WEIGHT = 0.1
"""Penalty for each point of health lost in a step (the game's own reward uses the same weight)."""
NOT_IN_VIEW = 30
"""Row and column offset of a block type or a creature that is nowhere in view."""

INVENTORY = Feature(
    "inventory",
    "the game's inventory after the step; its fields are the stocks and possessions, as in inventory.wood",
    over_step=OverStep.CHANGE,
    step_meaning="the same fields, as their change over the step",
)
CLOSEST_BLOCKS = Feature(
    "closest_blocks",
    f"row and column offset of the nearest block of each type in view, {NOT_IN_VIEW} where none is",
    shape="[number of blocks, 2, 1]",
    over_step=OverStep.BEFORE,
    step_meaning="the same before the step",
)
CLOSEST_CREATURES = Feature(
    "closest_creatures",
    f"row and column offset of the nearest living creature of each type in view, {NOT_IN_VIEW} where none is",
    shape="[number of creatures, 2, 1]",
    over_step=OverStep.BEFORE,
    step_meaning="the same before the step",
)
FACING = Feature(
    "facing",
    "the block type in front of the player, as BlockType.TREE.value; OUT_OF_BOUNDS beyond the edge of the map. A creature may "
    "stand on it",
)
LIGHT = Feature(
    "light",
    "daylight, from 0 in the middle of the night to 1 by day",
    over_step=OverStep.CHANGE,
    step_meaning="its change over the step",
)
WAYS_IN = Feature(
    "ways_in",
    "cells from which something could walk up to the player within four steps: 40 in the open, 0 where it is walled in",
    over_step=OverStep.CHANGE,
    step_meaning="its change over the step",
)
IS_SLEEPING = Feature("is_sleeping", "true while the player is asleep")
PLAYER_LEVEL = Feature(
    "player_level",
    "the floor that the player stands on, 0 is the first",
    over_step=OverStep.CHANGE,
    step_meaning="its change over the step",
)
MONSTERS_KILLED = Feature(
    "monsters_killed",
    "monsters beaten on each floor",
    shape="[number of floors]",
    over_step=OverStep.CHANGE,
    step_meaning="its change over the step",
)
PLAYER_INTRINSICS = Feature(
    "player_intrinsics",
    "health, food, drink, energy (and mana, where the game has it), 0 to 9",
    over_step=OverStep.CHANGE,
    step_meaning="its change over the step",
)
ACHIEVEMENTS = Feature(
    "achievements",
    "true where unlocked in this episode",
    shape="[number of achievements]",
    over_step=OverStep.CHANGE,
    step_meaning="true where unlocked by this step",
)
HEALTH_PENALTY = Penalty(
    "health_penalty",
    f"{HEALTH_WEIGHT:g} for each point of health lost in the step, as a negative number",
    feature="player_intrinsics",
    entry=INTRINSICS.index("health"),
    weight=HEALTH_WEIGHT,
)


def near(blocks: tuple[str, ...]) -> Family:
    """``near:BLOCK``: both offsets are at most 1. Of equally distant blocks, the first in view counts."""
    beside = "(jnp.abs({offsets}[BlockType.{{member}}.value]).max() <= 1)"
    now, before = beside.format(offsets="closest_blocks"), beside.format(offsets="closest_blocks_prev")
    return Family("near", Kind.NEARNESS, blocks, held=now, gained=f"(1.0 * {now} - 1.0 * {before})")


def shelter() -> tuple[Family, Family]:
    """``in:SHELTER``: nothing can walk up to the player. ``through:NIGHT``: it is light, and the player is still there."""
    came_through = f"({SHELTERED} & {BY_DAY})"
    return (
        Family("in", Kind.NEARNESS, ("SHELTER",), held=SHELTERED, gained=_gained(SHELTERED)),
        Family("through", Kind.NEARNESS, ("NIGHT",), held=came_through, gained=_gained(came_through)),
    )


def _gained(held: str) -> str:
    before = held.replace("ways_in", "ways_in - ways_in_diff").replace("light", "light - light_diff")
    return f"(1.0 * {held} - 1.0 * {before})"


def unlocked(achievements: tuple[str, ...]) -> Family:
    """``achievement:NAME``: it has been unlocked in this episode."""
    return Family(
        "achievement",
        Kind.POSSESSION,
        achievements,
        held="achievements[Achievement.{member}.value]",
        gained="achievements_diff[Achievement.{member}.value]",
    )


def on_floor(floors: tuple[str, ...]) -> Family:
    """``level:FLOOR``: the player stands on it."""
    return Family(
        "level",
        Kind.PLACE,
        floors,
        held="player_level == {index}",
        gained="(1.0 * (player_level == {index}) - 1.0 * (player_level - player_level_diff == {index}))",
    )


def cleared(floors: tuple[str, ...]) -> Family:
    """``cleared:FLOOR``: enough monsters are beaten there for its ladder down to be open.

    Each monster pays 0.5: a fight costs more health than an eighth of the reward would make up for.
    """
    return Family(
        "cleared",
        Kind.POSSESSION,
        floors,
        held=f"monsters_killed[{{index}}] >= {MONSTERS_TO_CLEAR}",
        gained="0.5 * monsters_killed_diff[{index}]",
        is_at_places=True,
    )


def reward_menu(blocks: tuple[str, ...], creatures: tuple[str, ...], intrinsics: tuple[str, ...]) -> tuple[RewardTerm, ...]:
    """``approach`` a block or a creature, ``recover`` an intrinsic, ``avoid_damage``."""
    return (
        # Pays up to the weight for getting close, a tenth of it for each step; 0 while none is in view. The potential is
        # max(0, 1 - distance / 10), with the distance in steps (L1) to the nearest block in view. When that one is
        # collected the next is further away, so the weight stays below that of the gain.
        RewardTerm(
            "approach",
            f"({_closeness('closest_blocks')} - {_closeness('closest_blocks_prev')})",
            blocks,
            weight=0.5,
            meaning='up to weight for getting close to the block or creature "target" (without near:), such as TREE or COW',
        ),
        # The same for creatures. One that walks up to the player pays as well, and one that is beaten takes back what coming
        # close to it has paid.
        RewardTerm(
            "approach",
            f"({_closeness('closest_creatures', 'CreatureType')} - {_closeness('closest_creatures_prev', 'CreatureType')})",
            creatures,
            weight=0.5,
        ),
        # The weight for each point by which it rises; the same is lost when it falls.
        RewardTerm(
            "recover",
            "player_intrinsics_diff[{index}]",
            intrinsics,
            weight=0.1,
            meaning=f'weight for each point of {", ".join(intrinsics[:-1])} or {intrinsics[-1]} ("target") that is recovered',
        ),
        # The weight for all of the way from the open to being walled in; the same is lost when a way is opened.
        RewardTerm(
            "wall_in",
            f"{-1 / CELLS_IN_REACH:g} * ways_in_diff",
            meaning='up to weight for closing the ways from which something could walk up to the player ("target" null)',
        ),
        RewardTerm(
            "rest_sheltered",
            f"{SHELTERED} * jnp.maximum(player_intrinsics_diff[{INTRINSICS.index('energy')}], 0)",
            weight=0.2,
            meaning='weight for each point of energy that is recovered while nothing can walk up ("target" null)',
        ),
        # The weight times the game's own penalty.
        RewardTerm(
            "avoid_damage",
            "health_penalty",
            is_in_every_reward=True,
            meaning='weight times the game\'s penalty for lost health ("target" null)',
        ),
    )


def _closeness(offsets: str, constant: str = "BlockType") -> str:
    return f"jnp.maximum(1.0 - 0.1 * jnp.abs({offsets}[{constant}.{{target}}.value]).sum(), 0.0)"


SIGHTS = (
    Sights("closest_blocks", "BlockType", NOT_IN_VIEW),
    Sights("closest_creatures", "CreatureType", NOT_IN_VIEW),
)
"""What can be in view: blocks and creatures."""
RESTORED_BY = {"food": ("EAT_COW", "EAT_PLANT"), "drink": ("COLLECT_DRINK",), "energy": ("WAKE_UP",)}
"""Health is restored by itself while the others are not empty."""
RESTORED_LATE = {"energy": 2.0}
"""Who sleeps in the open is found: energy that falls from morning lasts until the next one."""
ASLEEP = "is_sleeping"
ACTION_KINDS = {
    "move": ("LEFT", "RIGHT", "UP", "DOWN", "ASCEND", "DESCEND"),
    "use": ("DO",),
    "place": ("PLACE_",),
    "make": ("MAKE_",),
    "rest": ("NOOP", "SLEEP", "REST"),
}


WITHIN_REACH = 2
"""Steps (L1) to a creature that is about to attack."""
SAFETY = Vital("safety", f"jnp.where({BY_DAY}, 9, 0)", restored_with=("through:NIGHT",), pays=0.0)
"""It is gone by night: most deaths are by attack then. A skill that spends the night restores it."""


def safety_from(creature: str, goal: str) -> Vital:
    """It is gone while a creature of a kind that attacks is within reach; a skill that beats it restores it.

    That pays nothing by itself: whoever is paid for it steps back again and again, and never beats the creature.

    Args:
        goal: the achievement that is unlocked by beating one.
    """
    distance = f"jnp.abs(closest_creatures[CreatureType.{creature}.value]).sum()"
    return Vital(f"safety from {creature}", f"jnp.where({distance} <= {WITHIN_REACH}, 0, 9)", (goal,), pays=0.0)


def vitals(more: dict[str, tuple[str, ...]] | None = None) -> tuple[Vital, ...]:
    """The player's intrinsics without which it dies.

    Args:
        more: what else restores them.
    """
    return tuple(
        Vital(
            name,
            f"player_intrinsics[{INTRINSICS.index(name)}]",
            (*RESTORED_BY.get(name, ()), *(more or {}).get(name, ())),
            low=RESTORED_LATE.get(name, math.inf),
        )
        for name in ("health", *RESTORED_BY)
    )


def endings(*first: Ending) -> tuple[Ending, ...]:
    """Why a game is over: the health is gone by hunger, thirst or exhaustion, else by an attack.

    The game does not record which damage was the last: an empty level drains health all the time, so it counts first.

    Args:
        first: reasons of the game's own.
    """
    drained = {"hunger": "food", "thirst": "drink", "exhaustion": "energy"}
    return (
        *first,
        *(Ending(name, f"player_intrinsics[{INTRINSICS.index(level)}] <= 0") for name, level in drained.items()),
        Ending("attack", f"player_intrinsics[{INTRINSICS.index('health')}] <= 0"),
    )


def own_reward(values: dict[str, float]) -> str:
    """The game's own reward (``game_logic.craftax_step``): what each achievement is worth, and a tenth of the change of health.

    Args:
        values: of the achievements that are worth more than 1.
    """
    # A sum of truth values would be a truth value: each is multiplied first.
    extra = [f"{value - 1:g} * achievements_diff[Achievement.{name}.value]" for name, value in values.items()]
    health = f"{HEALTH_WEIGHT:g} * player_intrinsics_diff[{INTRINSICS.index('health')}]"
    return " + ".join(["achievements_diff.sum()", *extra, health])
