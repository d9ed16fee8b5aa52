"""Craftax-Classic: its 22 achievements as skills, and two with which a player survives the night.

What each requires and consumes is the game's own rule (craftax 1.6.1, ``craftax_classic/game_logic.py``), and a test
plays every one of them. Nothing is declared that would merely help, such as a sword against zombies.
"""

from flowrl.proposers.curricula import RARE_STEPS, WITHOUT_FEAR
from flowrl.skills.menu import Approach, Pay, Recipe, Recover, each, once

TABLE = {"near:CRAFTING_TABLE": once(1)}
TABLE_AND_FURNACE = {**TABLE, "near:FURNACE": once(1)}
WOOD = {"wood": once(1)}
WOOD_AND_STONE = {**WOOD, "stone": once(1)}
SMELTING = {**WOOD_AND_STONE, "coal": once(1), "iron": once(1)}
TO_TABLE = (Approach("CRAFTING_TABLE"),)
TO_TABLE_AND_FURNACE = (Approach("CRAFTING_TABLE", 0.25), Approach("FURNACE", 0.25))

COLLECT_WOOD = Recipe(
    name="Collect_Wood",
    description="Hold n pieces of wood, from trees.",
    gains={"wood": each(1)},
    also_gains=("achievement:COLLECT_WOOD",),
    reward=(Approach("TREE"),),
)
COLLECT_DRINK = Recipe(
    name="Collect_Drink",
    description="Drink water.",
    gains={"achievement:COLLECT_DRINK": once(1)},
    reward=(Approach("WATER"),),
)
PLACE_TABLE = Recipe(
    name="Place_Table",
    description="Stand beside a crafting table, placing one from two pieces of wood.",
    requires={"wood": once(2)},
    consumes={"wood": once(2)},
    gains=TABLE,
    also_gains=("achievement:PLACE_TABLE",),
)
EAT_COW = Recipe(
    name="Eat_Cow",
    description="Hit a cow until it is eaten.",
    gains={"achievement:EAT_COW": once(1)},
    reward=(Approach("COW", 0.3),),
    without=WITHOUT_FEAR,
    max_task_steps=RARE_STEPS,
)
MAKE_WOOD_PICKAXE = Recipe(
    name="Make_Wood_Pickaxe",
    description="Make a wood pickaxe at a crafting table.",
    requires={**WOOD, **TABLE},
    consumes=WOOD,
    gains={"wood_pickaxe": once(1)},
    also_gains=("achievement:MAKE_WOOD_PICKAXE",),
    reward=TO_TABLE,
)
MAKE_WOOD_SWORD = Recipe(
    name="Make_Wood_Sword",
    description="Make a wood sword at a crafting table.",
    requires={**WOOD, **TABLE},
    consumes=WOOD,
    gains={"wood_sword": once(1)},
    also_gains=("achievement:MAKE_WOOD_SWORD",),
    reward=TO_TABLE,
)
COLLECT_SAPLING = Recipe(
    name="Collect_Sapling",
    description="Hold n saplings, found in grass once in ten tries.",
    gains={"sapling": each(1)},
    also_gains=("achievement:COLLECT_SAPLING",),
)
PLACE_PLANT = Recipe(
    name="Place_Plant",
    description="Stand beside a plant, placing a sapling on grass.",
    requires={"sapling": once(1)},
    consumes={"sapling": once(1)},
    gains={"near:PLANT": once(1)},
    also_gains=("achievement:PLACE_PLANT",),
)
WAKE_UP = Recipe(
    name="Wake_Up",
    description="Sleep until awake: energy has to have fallen first.",
    gains={"achievement:WAKE_UP": once(1)},
    reward=(Recover("energy", 0.2),),
)
COLLECT_STONE = Recipe(
    name="Collect_Stone",
    description="Hold n pieces of stone, mined with a wood pickaxe.",
    requires={"wood_pickaxe": once(1)},
    gains={"stone": each(1)},
    also_gains=("achievement:COLLECT_STONE",),
    reward=(Approach("STONE"),),
)
PLACE_STONE = Recipe(
    name="Place_Stone",
    description="Place a stone.",
    requires={"stone": once(1)},
    consumes={"stone": once(1)},
    gains={"achievement:PLACE_STONE": once(1)},
)
TAKE_SHELTER = Recipe(
    name="Take_Shelter",
    description="Be walled in: dig into stone and close the way, or put stones on all sides.",
    requires={"stone": once(3)},
    consumes={"stone": once(3)},
    gains={"in:SHELTER": once(1)},
    reward=(Pay("wall_in"),),
    max_task_steps=RARE_STEPS,
)
SPEND_NIGHT = Recipe(
    name="Spend_Night",
    description="Stay in the shelter until it is light, asleep as far as energy has fallen.",
    requires={"in:SHELTER": once(1)},
    gains={"through:NIGHT": once(1)},
    reward=(Pay("wall_in", weight=4.0), Pay("rest_sheltered")),
    max_task_steps=250,
)
MAKE_STONE_PICKAXE = Recipe(
    name="Make_Stone_Pickaxe",
    description="Make a stone pickaxe at a crafting table.",
    requires={**WOOD_AND_STONE, **TABLE},
    consumes=WOOD_AND_STONE,
    gains={"stone_pickaxe": once(1)},
    also_gains=("achievement:MAKE_STONE_PICKAXE",),
    reward=TO_TABLE,
)
MAKE_STONE_SWORD = Recipe(
    name="Make_Stone_Sword",
    description="Make a stone sword at a crafting table.",
    requires={**WOOD_AND_STONE, **TABLE},
    consumes=WOOD_AND_STONE,
    gains={"stone_sword": once(1)},
    also_gains=("achievement:MAKE_STONE_SWORD",),
    reward=TO_TABLE,
)
DEFEAT_ZOMBIE = Recipe(
    name="Defeat_Zombie",
    description="Beat a zombie: they roam the grass, more of them at night.",
    gains={"achievement:DEFEAT_ZOMBIE": once(1)},
    reward=(Approach("ZOMBIE", 0.3),),
    without=WITHOUT_FEAR,
    max_task_steps=RARE_STEPS,
)
COLLECT_COAL = Recipe(
    name="Collect_Coal",
    description="Hold n pieces of coal, mined with a wood pickaxe.",
    requires={"wood_pickaxe": once(1)},
    gains={"coal": each(1)},
    also_gains=("achievement:COLLECT_COAL",),
    reward=(Approach("COAL"),),
    without=WITHOUT_FEAR,
    max_task_steps=RARE_STEPS,
)
PLACE_FURNACE = Recipe(
    name="Place_Furnace",
    description="Stand beside a furnace, placing one from a piece of stone.",
    requires={"stone": once(1)},
    consumes={"stone": once(1)},
    gains={"near:FURNACE": once(1)},
    also_gains=("achievement:PLACE_FURNACE",),
)
COLLECT_IRON = Recipe(
    name="Collect_Iron",
    description="Hold n pieces of iron, mined with a stone pickaxe.",
    requires={"stone_pickaxe": once(1)},
    gains={"iron": each(1)},
    also_gains=("achievement:COLLECT_IRON",),
    reward=(Approach("IRON"),),
    without=WITHOUT_FEAR,
    max_task_steps=RARE_STEPS,
)
DEFEAT_SKELETON = Recipe(
    name="Defeat_Skeleton",
    description="Beat a skeleton: they live on the paths of dark caves.",
    gains={"achievement:DEFEAT_SKELETON": once(1)},
    reward=(Approach("SKELETON", 0.3), Approach("PATH", 0.2)),
    without=WITHOUT_FEAR,
    max_task_steps=RARE_STEPS,
)
MAKE_IRON_PICKAXE = Recipe(
    name="Make_Iron_Pickaxe",
    description="Make an iron pickaxe at a crafting table and a furnace.",
    requires={**SMELTING, **TABLE_AND_FURNACE},
    consumes=SMELTING,
    gains={"iron_pickaxe": once(1)},
    also_gains=("achievement:MAKE_IRON_PICKAXE",),
    reward=TO_TABLE_AND_FURNACE,
)
MAKE_IRON_SWORD = Recipe(
    name="Make_Iron_Sword",
    description="Make an iron sword at a crafting table and a furnace.",
    requires={**SMELTING, **TABLE_AND_FURNACE},
    consumes=SMELTING,
    gains={"iron_sword": once(1)},
    also_gains=("achievement:MAKE_IRON_SWORD",),
    reward=TO_TABLE_AND_FURNACE,
)
COLLECT_DIAMOND = Recipe(
    name="Collect_Diamond",
    description="Hold n diamonds, mined with an iron pickaxe.",
    requires={"iron_pickaxe": once(1)},
    gains={"diamond": each(1)},
    also_gains=("achievement:COLLECT_DIAMOND",),
    reward=(Approach("DIAMOND"),),
    without=WITHOUT_FEAR,
    max_task_steps=RARE_STEPS,
)
EAT_PLANT = Recipe(
    name="Eat_Plant",
    description="Stay by a plant until it is ripe, which takes 600 steps, and eat it.",
    requires={"near:PLANT": once(1)},
    gains={"achievement:EAT_PLANT": once(1)},
    reward=(Approach("PLANT", 0.2), Approach("RIPE_PLANT")),
    max_task_steps=800,
)

SKILLS = [
    COLLECT_WOOD,
    COLLECT_DRINK,
    PLACE_TABLE,
    MAKE_WOOD_PICKAXE,
    MAKE_WOOD_SWORD,
    COLLECT_STONE,
    PLACE_STONE,
    MAKE_STONE_PICKAXE,
    MAKE_STONE_SWORD,
    COLLECT_SAPLING,
    PLACE_PLANT,
    WAKE_UP,
    COLLECT_COAL,
    PLACE_FURNACE,
    COLLECT_IRON,
    EAT_COW,
    DEFEAT_ZOMBIE,
    DEFEAT_SKELETON,
    MAKE_IRON_PICKAXE,
    MAKE_IRON_SWORD,
    COLLECT_DIAMOND,
    EAT_PLANT,
    TAKE_SHELTER,
    SPEND_NIGHT,
]
"""In the order in which they are proposed: the demo's six first, those without a dense reward late."""
