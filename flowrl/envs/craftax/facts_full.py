"""Craftax as data (craftax 1.6.1; a test holds it against the game's own enums and inventory).

``armour`` (four pieces, 1 iron, 2 diamond) and ``potions`` (six colours) are arrays in the inventory; as resources
they are the sum of their entries. Each world draws the colours' effects again, so colours are not distinguished.
"""

from flowrl.envs.craftax import facts
from flowrl.skills.facts import Ending, GameFacts

CAP = 99
"""The game cuts every inventory entry to this (``clip_inventory_and_intrinsics``)."""
BLOCKS = tuple(
    """INVALID OUT_OF_BOUNDS GRASS WATER STONE TREE WOOD PATH COAL IRON DIAMOND CRAFTING_TABLE FURNACE SAND LAVA
    PLANT RIPE_PLANT WALL DARKNESS WALL_MOSS STALAGMITE SAPPHIRE RUBY CHEST FOUNTAIN FIRE_GRASS ICE_GRASS GRAVEL
    FIRE_TREE ICE_SHRUB ENCHANTMENT_TABLE_FIRE ENCHANTMENT_TABLE_ICE NECROMANCER GRAVE GRAVE2 GRAVE3
    NECROMANCER_VULNERABLE""".split()
)
MOBS = {
    "passive_mobs": tuple("COW BAT SNAIL".split()),
    "melee_mobs": tuple("ZOMBIE GNOME_WARRIOR ORC_SOLDIER LIZARD KNIGHT TROLL PIGMAN FROST_TROLL".split()),
    "ranged_mobs": tuple("SKELETON GNOME_ARCHER ORC_MAGE KOBOLD ARCHER DEEP_THING FIRE_ELEMENTAL ICE_ELEMENTAL".split()),
    "mob_projectiles": tuple("ARROW DAGGER FIREBALL ICEBALL ARROW2 SLIMEBALL FIREBALL2 ICEBALL2".split()),
}
"""Fields of the game's state, each with the creatures that it holds by their ``type_id``. What the player shoots is none."""
CREATURES = tuple(name for names in MOBS.values() for name in names)
ACHIEVEMENTS = tuple(
    """COLLECT_WOOD PLACE_TABLE EAT_COW COLLECT_SAPLING COLLECT_DRINK MAKE_WOOD_PICKAXE MAKE_WOOD_SWORD PLACE_PLANT
    DEFEAT_ZOMBIE COLLECT_STONE PLACE_STONE EAT_PLANT DEFEAT_SKELETON MAKE_STONE_PICKAXE MAKE_STONE_SWORD WAKE_UP
    PLACE_FURNACE COLLECT_COAL COLLECT_IRON COLLECT_DIAMOND MAKE_IRON_PICKAXE MAKE_IRON_SWORD MAKE_ARROW
    MAKE_TORCH PLACE_TORCH MAKE_DIAMOND_SWORD MAKE_IRON_ARMOUR MAKE_DIAMOND_ARMOUR ENTER_GNOMISH_MINES
    ENTER_DUNGEON ENTER_SEWERS ENTER_VAULT ENTER_TROLL_MINES ENTER_FIRE_REALM ENTER_ICE_REALM ENTER_GRAVEYARD
    DEFEAT_GNOME_WARRIOR DEFEAT_GNOME_ARCHER DEFEAT_ORC_SOLIDER DEFEAT_ORC_MAGE DEFEAT_LIZARD DEFEAT_KOBOLD
    DEFEAT_TROLL DEFEAT_DEEP_THING DEFEAT_PIGMAN DEFEAT_FIRE_ELEMENTAL DEFEAT_FROST_TROLL DEFEAT_ICE_ELEMENTAL
    DAMAGE_NECROMANCER DEFEAT_NECROMANCER EAT_BAT EAT_SNAIL FIND_BOW FIRE_BOW COLLECT_SAPPHIRE LEARN_FIREBALL
    CAST_FIREBALL LEARN_ICEBALL CAST_ICEBALL COLLECT_RUBY MAKE_DIAMOND_PICKAXE OPEN_CHEST DRINK_POTION
    ENCHANT_SWORD ENCHANT_ARMOUR DEFEAT_KNIGHT DEFEAT_ARCHER""".split()
)
BEATEN = {name: f"DEFEAT_{name}" for name in MOBS["melee_mobs"]} | {"ORC_SOLDIER": "DEFEAT_ORC_SOLIDER"}
"""Creatures that come up to the player, and what beating one unlocks."""
FLOORS = tuple("OVERWORLD DUNGEON GNOMISH_MINES SEWERS VAULT TROLL_MINES FIRE_REALM ICE_REALM GRAVEYARD".split())
"""From the top down, a ``player_level`` each; an episode starts on the first."""
WORTH = {
    3: """COLLECT_SAPPHIRE COLLECT_RUBY MAKE_DIAMOND_PICKAXE MAKE_DIAMOND_SWORD MAKE_IRON_ARMOUR MAKE_DIAMOND_ARMOUR
    ENTER_GNOMISH_MINES ENTER_DUNGEON DEFEAT_GNOME_WARRIOR DEFEAT_GNOME_ARCHER DEFEAT_ORC_SOLIDER DEFEAT_ORC_MAGE EAT_BAT
    EAT_SNAIL FIND_BOW FIRE_BOW OPEN_CHEST DRINK_POTION""",
    5: """ENTER_SEWERS ENTER_VAULT ENTER_TROLL_MINES DEFEAT_LIZARD DEFEAT_KOBOLD DEFEAT_KNIGHT DEFEAT_ARCHER DEFEAT_TROLL
    DEFEAT_DEEP_THING LEARN_FIREBALL CAST_FIREBALL LEARN_ICEBALL CAST_ICEBALL ENCHANT_SWORD ENCHANT_ARMOUR""",
    8: """ENTER_FIRE_REALM ENTER_ICE_REALM ENTER_GRAVEYARD DEFEAT_PIGMAN DEFEAT_FIRE_ELEMENTAL DEFEAT_FROST_TROLL
    DEFEAT_ICE_ELEMENTAL DAMAGE_NECROMANCER DEFEAT_NECROMANCER""",
}
VALUES = {name: float(value) for value, names in WORTH.items() for name in names.split()}
"""Of the achievements for which the game's own reward pays more than 1 (``ACHIEVEMENT_REWARD_MAP``)."""

FACTS = GameFacts(
    env_name="Craftax-Symbolic-v1",
    stocks=dict.fromkeys("""wood stone coal iron diamond sapling arrows torches ruby sapphire potions books""".split(), CAP),
    possessions={"pickaxe": 4, "sword": 4, "bow": 1, "armour": 8},
    arrays=frozenset({"armour", "potions"}),
    features=(
        facts.INVENTORY,
        facts.CLOSEST_BLOCKS,
        facts.CLOSEST_CREATURES,
        facts.FACING,
        facts.LIGHT,
        facts.WAYS_IN,
        facts.PLAYER_LEVEL,
        facts.MONSTERS_KILLED,
        facts.PLAYER_INTRINSICS,
        facts.IS_SLEEPING,
        facts.ACHIEVEMENTS,
        facts.HEALTH_PENALTY,
    ),
    families=(
        *facts.shelter(),
        facts.near(BLOCKS),
        facts.unlocked(ACHIEVEMENTS),
        facts.on_floor(FLOORS),
        facts.cleared(FLOORS),
    ),
    terms=facts.reward_menu(BLOCKS, CREATURES, facts.INTRINSICS),
    goals="achievement",
    goal_values=VALUES,
    own_reward=facts.own_reward(VALUES),
    vitals=(
        *facts.vitals({"food": ("EAT_BAT", "EAT_SNAIL")}),
        *(facts.safety_from(name, goal) for name, goal in BEATEN.items()),
    ),
    action_kinds=facts.ACTION_KINDS,
    busy=facts.ASLEEP,
    endings=facts.endings(Ending("beat the necromancer", "achievements[Achievement.DEFEAT_NECROMANCER.value]")),
    sights=facts.SIGHTS,
    constants={
        "BlockType": BLOCKS,
        "CreatureType": CREATURES,
        "Achievement": ACHIEVEMENTS,
        "Action": (),
        "ItemType": (),
        "Inventory": (),
    },
    lists={"Floors from the top down": FLOORS, "Blocks": BLOCKS, "Creatures": CREATURES, "Achievements": ACHIEVEMENTS},
)
