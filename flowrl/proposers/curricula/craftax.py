"""Craftax: from the overworld down to the dungeon and the Gnomish Mines.

What each skill requires and consumes is the game's own rule (craftax 1.6.1, ``craftax/game_logic.py``), and a test
plays every one of them. A skill names the first floor on which what it needs is plentiful: trees, grass and cows on
the overworld, chests and orcs in the dungeon, gems in the mines. It may not be the only one: a few diamonds are on the
overworld, and stone, coal and iron, for which no floor is named, are in the mines as well. A test looks for all of
these in worlds that the game generates. The game's ``pickaxe`` and ``sword`` are levels: 1 wood, 2 stone, 3 iron, 4
diamond.
"""

from flowrl.proposers.curricula import RARE_STEPS, WITHOUT_FEAR
from flowrl.skills.menu import Approach, Recipe, Recover, each, once

OVERWORLD = {"level:OVERWORLD": once(1)}
DUNGEON = {"level:DUNGEON": once(1)}
MINES = {"level:GNOMISH_MINES": once(1)}
TABLE = {"near:CRAFTING_TABLE": once(1)}
TABLE_AND_FURNACE = {**TABLE, "near:FURNACE": once(1)}
TO_TABLE = (Approach("CRAFTING_TABLE"),)
TO_TABLE_AND_FURNACE = (Approach("CRAFTING_TABLE", 0.25), Approach("FURNACE", 0.25))


def collect(name, resource, description, requires, blocks, without=()):
    """Hold ``n`` of what a block gives; ``without`` terms of the reward if the block is rare."""
    return Recipe(
        name=name,
        description=description,
        requires=requires,
        gains={resource: each(1)},
        also_gains=(f"achievement:{name.upper()}",),
        reward=tuple(Approach(block) for block in blocks),
        without=without,
        max_task_steps=RARE_STEPS if without else None,
    )


def make(name, resource, level, materials, near=TABLE, approach=TO_TABLE):
    """Turn materials into a tool of some level, beside a table or a table and a furnace."""
    return Recipe(
        name=name,
        description=f"{name.replace('_', ' ').capitalize()} from {', '.join(materials)}.",
        requires={**materials, **near},
        consumes=materials,
        gains={resource: once(level)},
        also_gains=(f"achievement:{name.upper()}",),
        reward=approach,
    )


def achieve(name, achievement, description, requires, *reward, max_task_steps=None):
    """Unlock an achievement that uses nothing up."""
    gains = {f"achievement:{achievement}": once(1)}
    return Recipe(name, description, gains, requires, reward=reward, max_task_steps=max_task_steps)


def hunt(name, achievement, creature, description, requires, *reward):
    """Beat a creature, or eat it."""
    gains = {f"achievement:{achievement}": once(1)}
    to_creature = (Approach(creature, 0.3), *reward)
    return Recipe(name, description, gains, requires, reward=to_creature, without=WITHOUT_FEAR, max_task_steps=RARE_STEPS)


SMELTING = {"wood": once(1), "stone": once(1), "coal": once(1), "iron": once(1)}

SKILLS = [
    collect("Collect_Wood", "wood", "Hold n pieces of wood, from trees.", OVERWORLD, ["TREE"]),
    achieve("Collect_Drink", "COLLECT_DRINK", "Drink water.", {}, Approach("WATER")),
    Recipe(
        name="Place_Table",
        description="Stand beside a crafting table, placing one from two pieces of wood.",
        requires={"wood": once(2)},
        consumes={"wood": once(2)},
        gains=TABLE,
        also_gains=("achievement:PLACE_TABLE",),
    ),
    hunt("Eat_Cow", "EAT_COW", "COW", "Hit a cow until it is eaten.", OVERWORLD),
    make("Make_Wood_Pickaxe", "pickaxe", 1, {"wood": once(1)}),
    make("Make_Wood_Sword", "sword", 1, {"wood": once(1)}),
    collect("Collect_Sapling", "sapling", "Hold n saplings, found in grass once in ten tries.", OVERWORLD, []),
    Recipe(
        name="Place_Plant",
        description="Stand beside a plant, placing a sapling on grass.",
        requires={"sapling": once(1), **OVERWORLD},
        consumes={"sapling": once(1)},
        gains={"near:PLANT": once(1)},
        also_gains=("achievement:PLACE_PLANT",),
    ),
    achieve("Wake_Up", "WAKE_UP", "Sleep until awake: energy has to have fallen first.", {}, Recover("energy", 0.2)),
    collect("Collect_Stone", "stone", "Hold n pieces of stone.", {"pickaxe": once(1)}, ["STONE"]),
    Recipe(
        name="Place_Stone",
        description="Place a stone.",
        requires={"stone": once(1)},
        consumes={"stone": once(1)},
        gains={"achievement:PLACE_STONE": once(1)},
    ),
    make("Make_Stone_Pickaxe", "pickaxe", 2, {"wood": once(1), "stone": once(1)}),
    make("Make_Stone_Sword", "sword", 2, {"wood": once(1), "stone": once(1)}),
    hunt("Defeat_Zombie", "DEFEAT_ZOMBIE", "ZOMBIE", "Beat a zombie: more of them roam at night.", OVERWORLD),
    collect("Collect_Coal", "coal", "Hold n pieces of coal.", {"pickaxe": once(1)}, ["COAL"], WITHOUT_FEAR),
    Recipe(
        name="Place_Furnace",
        description="Stand beside a furnace, placing one from a piece of stone.",
        requires={"stone": once(1)},
        consumes={"stone": once(1)},
        gains={"near:FURNACE": once(1)},
        also_gains=("achievement:PLACE_FURNACE",),
    ),
    collect("Collect_Iron", "iron", "Hold n pieces of iron.", {"pickaxe": once(2)}, ["IRON"], WITHOUT_FEAR),
    Recipe(
        name="Make_Torch",
        description="Hold 4 n torches, four made at a time.",
        requires={"wood": each(1), "coal": each(1), **TABLE},
        consumes={"wood": each(1), "coal": each(1)},
        gains={"torches": each(4)},
        also_gains=("achievement:MAKE_TORCH",),
        reward=TO_TABLE,
    ),
    Recipe(
        name="Place_Torch",
        description="Place a torch on the ground.",
        requires={"torches": once(1)},
        consumes={"torches": once(1)},
        gains={"achievement:PLACE_TORCH": once(1)},
    ),
    Recipe(
        name="Make_Arrow",
        description="Hold 2 n arrows, two made at a time.",
        requires={"wood": each(1), "stone": each(1), **TABLE},
        consumes={"wood": each(1), "stone": each(1)},
        gains={"arrows": each(2)},
        also_gains=("achievement:MAKE_ARROW",),
        reward=TO_TABLE,
    ),
    make("Make_Iron_Pickaxe", "pickaxe", 3, SMELTING, TABLE_AND_FURNACE, TO_TABLE_AND_FURNACE),
    make("Make_Iron_Sword", "sword", 3, SMELTING, TABLE_AND_FURNACE, TO_TABLE_AND_FURNACE),
    make("Make_Iron_Armour", "armour", 1, {"iron": once(3), "coal": once(3)}, TABLE_AND_FURNACE, TO_TABLE_AND_FURNACE),
    hunt("Defeat_Skeleton", "DEFEAT_SKELETON", "SKELETON", "Beat a skeleton in a cave.", OVERWORLD, Approach("PATH", 0.2)),
    Recipe(
        name="Enter_Dungeon",
        description="Find the overworld's ladder, which is open, and climb down to the dungeon.",
        requires=OVERWORLD,
        gains=DUNGEON,
        also_gains=("achievement:ENTER_DUNGEON",),
    ),
    achieve("Open_Chest", "OPEN_CHEST", "Open a chest in the dungeon.", DUNGEON, Approach("CHEST")),
    Recipe(
        name="Find_Bow",
        description="Open the dungeon's first chest, which always holds a bow.",
        requires=DUNGEON,
        gains={"bow": once(1)},
        also_gains=("achievement:FIND_BOW", "achievement:OPEN_CHEST"),
        reward=(Approach("CHEST"),),
    ),
    Recipe(
        name="Fire_Bow",
        description="Shoot an arrow.",
        requires={"bow": once(1), "arrows": once(1)},
        consumes={"arrows": once(1)},
        gains={"achievement:FIRE_BOW": once(1)},
    ),
    Recipe(
        name="Collect_Potion",
        description="Hold n potions of any colour: every other chest has one or two.",
        requires=DUNGEON,
        gains={"potions": each(1)},
        also_gains=("achievement:OPEN_CHEST",),
        reward=(Approach("CHEST"),),
    ),
    Recipe(
        name="Drink_Potion",
        description="Drink a potion; what its colour does is new in every world.",
        requires={"potions": once(1)},
        consumes={"potions": once(1)},
        gains={"achievement:DRINK_POTION": once(1)},
    ),
    hunt("Eat_Snail", "EAT_SNAIL", "SNAIL", "Hit a snail until it is eaten.", DUNGEON),
    hunt("Defeat_Orc_Soldier", "DEFEAT_ORC_SOLIDER", "ORC_SOLDIER", "Beat an orc soldier in the dungeon.", DUNGEON),
    hunt("Defeat_Orc_Mage", "DEFEAT_ORC_MAGE", "ORC_MAGE", "Beat an orc mage in the dungeon.", DUNGEON),
    Recipe(
        name="Clear_Dungeon",
        description="Beat eight monsters in the dungeon, which opens its ladder down.",
        requires=DUNGEON,
        gains={"cleared:DUNGEON": once(1)},
    ),
    Recipe(
        name="Enter_Gnomish_Mines",
        description="Find the dungeon's open ladder and climb down to the Gnomish Mines.",
        requires={"cleared:DUNGEON": once(1), **DUNGEON},
        gains=MINES,
        also_gains=("achievement:ENTER_GNOMISH_MINES",),
    ),
    hunt("Eat_Bat", "EAT_BAT", "BAT", "Hit a bat until it is eaten.", MINES),
    hunt("Defeat_Gnome_Warrior", "DEFEAT_GNOME_WARRIOR", "GNOME_WARRIOR", "Beat a gnome warrior in the mines.", MINES),
    hunt("Defeat_Gnome_Archer", "DEFEAT_GNOME_ARCHER", "GNOME_ARCHER", "Beat a gnome archer in the mines.", MINES),
    collect("Collect_Diamond", "diamond", "Hold n diamonds.", {"pickaxe": once(3), **MINES}, ["DIAMOND"], WITHOUT_FEAR),
    make("Make_Diamond_Pickaxe", "pickaxe", 4, {"wood": once(1), "diamond": once(3)}),
    make("Make_Diamond_Sword", "sword", 4, {"wood": once(1), "diamond": once(2)}),
    collect("Collect_Sapphire", "sapphire", "Hold n sapphires.", {"pickaxe": once(4), **MINES}, ["SAPPHIRE"], WITHOUT_FEAR),
    collect("Collect_Ruby", "ruby", "Hold n rubies.", {"pickaxe": once(4), **MINES}, ["RUBY"], WITHOUT_FEAR),
    achieve(
        "Eat_Plant",
        "EAT_PLANT",
        "Stay by a plant until it is ripe, which takes 600 steps, and eat it.",
        {"near:PLANT": once(1), **OVERWORLD},
        Approach("PLANT", 0.2),
        Approach("RIPE_PLANT"),
        max_task_steps=800,
    ),
]
