"""Where and how each skill of the built-in curricula is played."""

from tests.skills.stages import Scene, hollow, hunted_at_dawn, ladder_down, seven_killed, tired

DO = ("DO",)
FIGHT = DO * 10
SEARCH = DO * 60

#: Scenes of both games.
COMMON = {
    "Collect_Wood": Scene(DO * 2, front="TREE"),
    "Collect_Drink": Scene(DO, front="WATER"),
    "Place_Table": Scene(("PLACE_TABLE",)),
    "Make_Wood_Pickaxe": Scene(("MAKE_WOOD_PICKAXE",)),
    "Make_Wood_Sword": Scene(("MAKE_WOOD_SWORD",)),
    "Collect_Sapling": Scene(SEARCH, front="GRASS"),
    "Place_Plant": Scene(("PLACE_PLANT",), front="GRASS"),
    "Wake_Up": Scene(("SLEEP", *("NOOP",) * 20), setup=tired),
    "Collect_Stone": Scene(DO * 2, front="STONE"),
    "Place_Stone": Scene(("PLACE_STONE",)),
    "Make_Stone_Pickaxe": Scene(("MAKE_STONE_PICKAXE",)),
    "Make_Stone_Sword": Scene(("MAKE_STONE_SWORD",)),
    "Collect_Coal": Scene(DO * 2, front="COAL"),
    "Place_Furnace": Scene(("PLACE_FURNACE",)),
    "Collect_Iron": Scene(DO * 2, front="IRON"),
    "Make_Iron_Pickaxe": Scene(("MAKE_IRON_PICKAXE",)),
    "Make_Iron_Sword": Scene(("MAKE_IRON_SWORD",)),
    "Collect_Diamond": Scene(DO * 2, front="DIAMOND"),
    "Eat_Plant": Scene((*("NOOP",) * 12, "DO")),
}

CLASSIC = COMMON | {
    "Eat_Cow": Scene(FIGHT, mob=("cow", 0)),
    "Defeat_Zombie": Scene(FIGHT, mob=("zombie", 0)),
    "Defeat_Skeleton": Scene(FIGHT, mob=("skeleton", 0)),
    "Take_Shelter": Scene(("PLACE_STONE", "RIGHT", "PLACE_STONE", "LEFT", "PLACE_STONE"), setup=hollow),
    "Spend_Night": Scene(("NOOP",) * 40, setup=hunted_at_dawn),
}

#: A mob's type is the row of the game's MOB_ACHIEVEMENT_MAP.
CRAFTAX = COMMON | {
    "Eat_Cow": Scene(FIGHT, mob=("passive", 0)),
    "Eat_Bat": Scene(FIGHT, mob=("passive", 1)),
    "Eat_Snail": Scene(FIGHT, mob=("passive", 2)),
    "Defeat_Zombie": Scene(FIGHT, mob=("melee", 0)),
    "Defeat_Gnome_Warrior": Scene(FIGHT, mob=("melee", 1)),
    "Defeat_Orc_Soldier": Scene(FIGHT, mob=("melee", 2)),
    "Defeat_Skeleton": Scene(FIGHT, mob=("ranged", 0)),
    "Defeat_Gnome_Archer": Scene(FIGHT, mob=("ranged", 1)),
    "Defeat_Orc_Mage": Scene(FIGHT, mob=("ranged", 2)),
    "Clear_Dungeon": Scene(FIGHT, mob=("melee", 2), setup=seven_killed),
    "Make_Torch": Scene(("MAKE_TORCH",) * 2),
    "Place_Torch": Scene(("PLACE_TORCH",)),
    "Make_Arrow": Scene(("MAKE_ARROW",) * 2),
    "Make_Iron_Armour": Scene(("MAKE_IRON_ARMOUR",)),
    "Make_Diamond_Pickaxe": Scene(("MAKE_DIAMOND_PICKAXE",)),
    "Make_Diamond_Sword": Scene(("MAKE_DIAMOND_SWORD",)),
    "Collect_Sapphire": Scene(DO * 2, front="SAPPHIRE"),
    "Collect_Ruby": Scene(DO * 2, front="RUBY"),
    "Enter_Dungeon": Scene(("DESCEND",), setup=ladder_down),
    "Enter_Gnomish_Mines": Scene(("DESCEND",), setup=ladder_down),
    "Open_Chest": Scene(DO, front="CHEST", loot=True),
    "Find_Bow": Scene(DO, front="CHEST", loot=True),
    "Fire_Bow": Scene(("SHOOT_ARROW",)),
    "Collect_Potion": Scene(DO * 12, front="CHEST", loot=True),
    "Drink_Potion": Scene(("DRINK_POTION_RED",)),
}
