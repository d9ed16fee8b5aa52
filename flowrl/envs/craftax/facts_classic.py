"""Craftax-Classic as data (craftax 1.6.1; a test holds it against the game's own enums and inventory)."""

from flowrl.envs.craftax import facts
from flowrl.skills.facts import Ending, GameFacts

CAP = 9
"""The game cuts every inventory field to this (``cap_inventory``)."""
BLOCKS = tuple(
    """INVALID OUT_OF_BOUNDS GRASS WATER STONE TREE WOOD PATH COAL IRON DIAMOND CRAFTING_TABLE FURNACE SAND LAVA
    PLANT RIPE_PLANT""".split()
)
CREATURES = {"COW": "cows", "ZOMBIE": "zombies", "SKELETON": "skeletons", "ARROW": "arrows"}
"""Each with the field of the game's state that holds its kind."""
ACHIEVEMENTS = tuple(
    """COLLECT_WOOD PLACE_TABLE EAT_COW COLLECT_SAPLING COLLECT_DRINK MAKE_WOOD_PICKAXE MAKE_WOOD_SWORD PLACE_PLANT
    DEFEAT_ZOMBIE COLLECT_STONE PLACE_STONE EAT_PLANT DEFEAT_SKELETON MAKE_STONE_PICKAXE MAKE_STONE_SWORD WAKE_UP
    PLACE_FURNACE COLLECT_COAL COLLECT_IRON COLLECT_DIAMOND MAKE_IRON_PICKAXE MAKE_IRON_SWORD""".split()
)

FACTS = GameFacts(
    env_name="Craftax-Classic-Symbolic-v1",
    stocks=dict.fromkeys(("wood", "stone", "coal", "iron", "diamond", "sapling"), CAP),
    possessions=dict.fromkeys(("wood_pickaxe", "stone_pickaxe", "iron_pickaxe", "wood_sword", "stone_sword", "iron_sword"), 1),
    features=(
        facts.INVENTORY,
        facts.CLOSEST_BLOCKS,
        facts.CLOSEST_CREATURES,
        facts.FACING,
        facts.LIGHT,
        facts.WAYS_IN,
        facts.PLAYER_LEVEL,  # always 0
        facts.PLAYER_INTRINSICS,
        facts.IS_SLEEPING,
        facts.ACHIEVEMENTS,
        facts.HEALTH_PENALTY,
    ),
    families=(facts.near(BLOCKS), facts.unlocked(ACHIEVEMENTS), *facts.shelter()),
    terms=facts.reward_menu(BLOCKS, tuple(CREATURES), facts.INTRINSICS[:4]),
    goals="achievement",
    own_reward=facts.own_reward({}),
    vitals=(*facts.vitals(), facts.safety_from("ZOMBIE", "DEFEAT_ZOMBIE"), facts.SAFETY),
    action_kinds=facts.ACTION_KINDS,
    busy=facts.ASLEEP,
    endings=facts.endings(Ending("lava", "jnp.abs(closest_blocks[BlockType.LAVA.value]).max() == 0")),
    sights=facts.SIGHTS,
    constants={
        "BlockType": BLOCKS,
        "CreatureType": tuple(CREATURES),
        "Achievement": ACHIEVEMENTS,
        "Action": (),
        "Inventory": (),
    },
    lists={
        "Floors from the top down": ("one",),
        "Blocks": BLOCKS,
        "Creatures": tuple(CREATURES),
        "Achievements": ACHIEVEMENTS,
    },
)
