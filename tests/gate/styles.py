"""Good skills in the styles of language models: type hints, imports inside, helpers, ternaries, loops over constants."""

from __future__ import annotations

from tests.gate.corpus import CRAFTAX, WOOD, Case


def both(name, text, gains=WOOD, **others):
    """A skill whose two functions are in one text, separated by a line of dashes."""
    done, _, reward = text.partition("\n----\n")
    return Case(name, done=done.strip("\n") + "\n", reward=reward, gains=gains, **others)


def once(*resources):
    return {resource: {"fixed": 1} for resource in resources}


STYLES = [
    both("hints_and_docstring", '''
def task_is_done(inventory: "Inventory", n: int) -> bool:
    """
    Done when the player holds enough wood.

    Args:
        inventory: the inventory after the step.
        n: how many pieces.
    """
    # Check the amount
    return inventory.wood >= n
----
def task_reward(inventory_diff: "Inventory", health_penalty: float) -> float:
    """Reward for collecting wood."""
    wood_reward: float = 1.0 * inventory_diff.wood
    """Plus the penalty."""
    return wood_reward + health_penalty
'''),
    both("imports_inside", '''
def task_is_done(inventory, n):
    import jax.numpy as jnp
    return jnp.greater_equal(inventory.wood, n)
----
def task_reward(inventory_diff):
    import jax
    from jax import numpy as jnp

    return jnp.maximum(inventory_diff.wood, 0).astype(jnp.float32)
'''),
    both("imports_above", '''
import jax
import jax.numpy as jnp

def task_is_done(inventory, n):
    return inventory.wood >= n
----
from jax import numpy as jnp


def task_reward(inventory_diff, closest_blocks):
    tree = closest_blocks[BlockType.TREE.value]
    return inventory_diff.wood * 1.0 - 0.001 * jnp.minimum(jnp.abs(tree).sum(), 20)
'''),
    both("spelled_out", '''
def task_is_done(inventory, n):
    return jax.numpy.logical_and(inventory.wood >= n, n > 0)
----
def task_reward(inventory_diff, closest_blocks, closest_blocks_prev):
    before = jax.numpy.sum(jax.numpy.abs(closest_blocks_prev[BlockType.TREE.value]))
    after = jax.numpy.sum(jax.numpy.abs(closest_blocks[BlockType.TREE.value]))
    return jax.numpy.where(inventory_diff.wood > 0, 1.0, 0.0) + 0.02 * jax.numpy.clip(before - after, -1.0, 1.0)
'''),
    both("alias_as_a_line", '''
def task_is_done(inventory, n):
    jnp = jax.numpy
    return jnp.all(jnp.array([inventory.wood >= n]))
----
jnp = jax.numpy

def task_reward(inventory_diff):
    return jnp.float32(inventory_diff.wood)
'''),
    both("fenced", '''
```python
def task_is_done(inventory, n):
    return inventory.wood >= n
```
----
Here is the reward function:

```python
import jax.numpy as jnp

def task_reward(inventory_diff):
    """One for each piece."""
    return 1.0 * inventory_diff.wood
```
It pays for wood only.
'''),
    both("euclidean_distance", '''
def task_is_done(closest_blocks, achievements):
    table = closest_blocks[BlockType.CRAFTING_TABLE.value, :, 0]
    return jnp.max(jnp.abs(table)) <= 1
----
def task_reward(achievements_diff, closest_blocks, closest_blocks_prev):
    dist = jnp.linalg.norm(closest_blocks[BlockType.CRAFTING_TABLE.value].astype(jnp.float32))
    dist_prev = jnp.linalg.norm(closest_blocks_prev[BlockType.CRAFTING_TABLE.value].astype(jnp.float32))
    placed = achievements_diff[Achievement.PLACE_TABLE.value].astype(jnp.float32)
    return 2.0 * placed + 0.05 * jnp.clip(dist_prev - dist, -1.0, 1.0)
''', once("near:CRAFTING_TABLE"), requires={"wood": {"fixed": 2}}),
    both("ternary", '''
def task_is_done(inventory, n):
    return True if inventory.wood >= n else False
----
def task_reward(inventory_diff, health_penalty):
    reward = 1.0 if inventory_diff.wood > 0 else (-0.5 if inventory_diff.wood < 0 else 0.0)
    return reward + health_penalty
'''),
    both("and_or_not", '''
def task_is_done(inventory, n):
    return inventory.wood >= n and not (inventory.wood < n or n <= 0)
----
def task_reward(inventory_diff, inventory, n):
    gained = inventory_diff.wood > 0
    needed = not (inventory.wood > 3 * n)
    return jnp.where(gained and needed, 1.0, 0.0) + 0.1 * inventory_diff.wood
'''),
    both("chained_comparison", '''
def task_is_done(inventory, n):
    return 0 < n <= inventory.wood
----
def task_reward(inventory_diff, closest_blocks):
    d = jnp.abs(closest_blocks[BlockType.TREE.value]).sum()
    bonus = 0.05 if 1 <= d <= 3 else 0.0
    return inventory_diff.wood + bonus * (inventory_diff.wood > 0)
'''),
    both("lax_cond", '''
def task_is_done(inventory, n):
    return jax.lax.cond(inventory.wood >= n, lambda: True, lambda: False)
----
def task_reward(inventory_diff):
    return jax.lax.cond(
        inventory_diff.wood > 0,
        lambda x: 1.0 * x,
        lambda x: 0.1 * x,
        inventory_diff.wood,
    )
'''),
    both("lax_cond_with_an_operand", '''
def task_is_done(inventory, n):
    return inventory.wood >= n
----
def task_reward(inventory_diff, health_penalty):
    base = jax.lax.cond(inventory_diff.wood >= 1, lambda _: 1.0, lambda _: 0.0, operand=None)
    return base + health_penalty
'''),
    both("select", '''
def task_is_done(inventory, n):
    return inventory.wood >= n
----
def task_reward(inventory_diff):
    gained = inventory_diff.wood
    return jnp.select([gained > 1, gained == 1, gained < 0], [2.0, 1.0, -1.0], default=0.0)
'''),
    both("select_of_named_lists", '''
def task_is_done(inventory, n):
    conditions = [inventory.wood >= n, inventory.wood < n]
    return jnp.select(conditions, [True, False], default=False)
----
def task_reward(inventory_diff, closest_blocks):
    near = jnp.abs(closest_blocks[BlockType.TREE.value]).max() <= 1
    conditions = [inventory_diff.wood > 0, near]
    values = [1.0, 0.01]
    return jnp.select(conditions, values)
'''),
    both("helper_beside", '''
def task_is_done(inventory, n):
    return inventory.wood >= n
----
def distance(blocks, block):
    """Steps to the nearest one."""
    offset = blocks[block.value]
    return jnp.sum(jnp.abs(offset))


def task_reward(inventory_diff, closest_blocks, closest_blocks_prev):
    closer = distance(closest_blocks_prev, BlockType.TREE) - distance(closest_blocks, BlockType.TREE)
    return 1.0 * inventory_diff.wood + 0.02 * jnp.clip(closer, -1, 1)
'''),
    both("helper_inside", '''
def task_is_done(inventory, n):
    def has(amount, needed=1):
        return amount >= needed
    return has(inventory.wood, n)
----
def task_reward(inventory_diff, closest_blocks, closest_blocks_prev):
    def _closeness(offsets: jnp.ndarray, scale: float = 0.1) -> jnp.ndarray:
        d = jnp.abs(offsets[BlockType.TREE.value]).sum()
        return jnp.maximum(1.0 - scale * d, 0.0)

    return inventory_diff.wood + 0.1 * (_closeness(closest_blocks) - _closeness(closest_blocks_prev))
'''),
    both("helpers_of_helpers", '''
def task_is_done(inventory, n):
    return inventory.wood >= n
----
def _l1(v):
    return jnp.abs(v).sum()

def _is_near(blocks, index):
    return _l1(blocks[index]) <= 2

def task_reward(inventory_diff, closest_blocks):
    near_tree = _is_near(closest_blocks, BlockType.TREE.value)
    return 1.0 * inventory_diff.wood + (0.02 if near_tree else 0.0)
'''),
    both("loop_over_blocks", '''
def task_is_done(inventory, n):
    return inventory.wood >= n
----
def task_reward(inventory_diff, closest_blocks):
    penalty = 0.0
    for block in (BlockType.LAVA, BlockType.WATER):
        d = jnp.abs(closest_blocks[block.value]).sum()
        penalty += jnp.where(d <= 1, 0.05, 0.0)
    return 1.0 * inventory_diff.wood - penalty
'''),
    both("loop_over_weighted_pairs", '''
def task_is_done(inventory, n):
    done = True
    for held, needed in ((inventory.wood, 2), (inventory.stone, 1)):
        done = jnp.logical_and(done, held >= needed * n)
    return done
----
def task_reward(inventory_diff):
    total = 0.0
    weights = [(inventory_diff.wood, 0.5), (inventory_diff.stone, 1.0)]
    for change, weight in weights:
        total = total + weight * jnp.clip(change, -1, 1)
    return total
''', {"wood": {"per": 2}, "stone": {"per": 1}}),
    both("loop_over_a_range", '''
def task_is_done(achievements):
    found = achievements[Achievement.COLLECT_SAPLING.value]
    return jnp.array(found, dtype=bool)
----
def task_reward(achievements_diff, player_intrinsics_diff):
    comfort = 0.0
    for i in range(4):
        comfort += 0.01 * player_intrinsics_diff[i]
    return 3.0 * achievements_diff[Achievement.COLLECT_SAPLING.value] + comfort
''', once("achievement:COLLECT_SAPLING")),
    both("loop_with_enumerate", '''
def task_is_done(inventory, n):
    return inventory.stone >= n
----
def task_reward(inventory_diff, player_intrinsics_diff):
    reward = 1.0 * inventory_diff.stone
    for i, w in enumerate([0.02, 0.01, 0.01]):
        reward += w * jnp.minimum(player_intrinsics_diff[i], 0)
    return reward
''', {"stone": {"per": 1}}, requires=once("wood_pickaxe")),
    both("float_casts", '''
def task_is_done(inventory, n):
    return (inventory.coal.astype(jnp.int32) >= n).astype(bool)
----
def task_reward(inventory_diff, n):
    diff = jnp.asarray(inventory_diff.coal, dtype=jnp.float32)
    scale = jnp.array(n, jnp.float32)
    return diff / jnp.maximum(scale, 1.0)
''', {"coal": {"per": 1}}, requires=once("wood_pickaxe")),
    both("at_set", '''
def task_is_done(inventory, n):
    return inventory.iron >= n
----
def task_reward(inventory_diff, closest_blocks):
    weights = jnp.zeros(3)
    weights = weights.at[0].set(2.0)
    weights = weights.at[1].add(-0.1)
    is_near = jnp.abs(closest_blocks[BlockType.IRON.value]).max() <= 1
    values = jnp.array([inventory_diff.iron * 1.0, 0.0, 0.0]).at[2].set(jnp.where(is_near, 0.01, 0.0))
    return jnp.dot(weights, values) + values[2]
''', {"iron": {"per": 1}}, requires=once("stone_pickaxe")),
    both("booleans_as_numbers", '''
def task_is_done(achievements, inventory):
    made = achievements[Achievement.MAKE_STONE_PICKAXE.value]
    return made and inventory.stone_pickaxe > 0
----
def task_reward(achievements_diff, inventory_diff):
    made = achievements_diff[Achievement.MAKE_STONE_PICKAXE.value]
    return made * 1.0 + float(1) * inventory_diff.stone_pickaxe
''', once("stone_pickaxe", "achievement:MAKE_STONE_PICKAXE")),
    both("zombie", '''
def task_is_done(achievements: jax.Array) -> jax.Array:
    return achievements[Achievement.DEFEAT_ZOMBIE.value] == True
----
def task_reward(achievements_diff: jax.Array, player_intrinsics: jax.Array, health_penalty: float):
    defeated = achievements_diff[Achievement.DEFEAT_ZOMBIE.value]
    health = player_intrinsics[0]
    caution = 0.5 if health < 3 else 1.0
    return jnp.where(defeated, 5.0, 0.0) + caution * health_penalty
''', once("achievement:DEFEAT_ZOMBIE")),
    both("drink_when_thirsty", '''
def task_is_done(achievements):
    drank: bool = achievements[Achievement.COLLECT_DRINK.value]
    return drank
----
def task_reward(achievements_diff, player_intrinsics_diff, closest_blocks, closest_blocks_prev):
    WATER = BlockType.WATER.value
    drink_gain = jnp.maximum(player_intrinsics_diff[2], 0)
    now, prev = jnp.abs(closest_blocks[WATER]).sum(), jnp.abs(closest_blocks_prev[WATER]).sum()
    visible = now < 30 and prev < 30
    shaping = 0.02 * (prev - now) if visible else 0.0
    return drink_gain + 2.0 * achievements_diff[Achievement.COLLECT_DRINK.value] + shaping
''', once("achievement:COLLECT_DRINK")),
    both("furnace", '''
def task_is_done(closest_blocks):
    dx, dy = closest_blocks[BlockType.FURNACE.value, 0, 0], closest_blocks[BlockType.FURNACE.value, 1, 0]
    return -1 <= dx <= 1 and -1 <= dy <= 1
----
def task_reward(achievements_diff, inventory_diff):
    placed = achievements_diff[Achievement.PLACE_FURNACE.value]
    stone_used = jnp.maximum(-inventory_diff.stone, 0)
    return 3.0 if placed else -0.01 * stone_used
''', once("near:FURNACE"), requires={"stone": {"fixed": 1}, "near:CRAFTING_TABLE": {"fixed": 1}}),
    both("sapling_on_grass", '''
def task_is_done(inventory, n):
    """Hold n saplings."""
    target = n
    return inventory.sapling >= target
----
def task_reward(inventory_diff, closest_blocks):
    """Small bonus near grass, main reward for the sapling."""
    grass_near = jnp.any(jnp.abs(closest_blocks[BlockType.GRASS.value]) <= 1)
    r = 0.0
    r += 1.0 * inventory_diff.sapling
    r += 0.001 * grass_near
    return r
''', {"sapling": {"per": 1}}),
    both("iron_tools", '''
def task_is_done(inventory):
    required = [inventory.iron_pickaxe, inventory.iron_sword]
    result = True
    for tool in [inventory.iron_pickaxe, inventory.iron_sword]:
        result = result & (tool >= 1)
    return result
----
def task_reward(inventory_diff, achievements_diff):
    new = 0.0
    for goal in [Achievement.MAKE_IRON_PICKAXE, Achievement.MAKE_IRON_SWORD]:
        new = new + achievements_diff[goal.value].astype(jnp.float32)
    return 5.0 * new + 1.0 * (inventory_diff.iron_pickaxe + inventory_diff.iron_sword)
''', once("iron_pickaxe", "iron_sword")),
    both("diamonds_by_distance", '''
def task_is_done(inventory, n):
    return jnp.greater_equal(inventory.diamond, n)
----
def task_reward(inventory_diff, closest_blocks, closest_blocks_prev, health_penalty):
    DIAMOND = BlockType.DIAMOND.value

    def manhattan(cb):
        rel = cb[DIAMOND, :, 0]
        return jnp.abs(rel[0]) + jnp.abs(rel[1])

    prev_d, d = manhattan(closest_blocks_prev), manhattan(closest_blocks)
    progress = jnp.clip(prev_d - d, -1, 1) * 0.05
    progress = progress if d < 30 else 0.0
    return 10.0 * inventory_diff.diamond + progress + health_penalty
''', {"diamond": {"per": 1}}, requires=once("iron_pickaxe")),
    both("full_descend", '''
def task_is_done(player_level: jnp.ndarray) -> jnp.ndarray:
    return player_level >= 1 and player_level < 2
----
def task_reward(player_level_diff, player_level, health_penalty, closest_blocks):
    went_down = player_level_diff > 0
    went_up = player_level_diff < 0
    return (1.0 if went_down else (-1.0 if went_up else 0.0)) + 0.5 * health_penalty
''', once("level:DUNGEON"), env_name=CRAFTAX),
    both("full_sapphire", '''
def task_is_done(inventory, n):
    return inventory.sapphire >= n
----
```python
import jax
import jax.numpy as jnp

def gem_distance(closest_blocks: jax.Array, block_id: int) -> jax.Array:
    return jnp.linalg.norm(closest_blocks[block_id, :, 0] * 1.0)

def task_reward(inventory_diff, closest_blocks, closest_blocks_prev) -> jax.Array:
    d0 = gem_distance(closest_blocks_prev, BlockType.SAPPHIRE.value)
    d1 = gem_distance(closest_blocks, BlockType.SAPPHIRE.value)
    return 2.0 * inventory_diff.sapphire + 0.01 * jnp.clip(d0 - d1, -1.0, 1.0)
```
''', {"sapphire": {"per": 1}}, requires={"pickaxe": {"fixed": 4}}, env_name=CRAFTAX),
    both("full_armour_sum", '''
def task_is_done(inventory):
    total = 0
    for i in range(4):
        total = total + inventory.armour[i]
    return total >= 2
----
def task_reward(inventory_diff):
    return jnp.sum(jax.numpy.asarray(inventory_diff.armour, dtype=jnp.float32))
''', {"armour": {"fixed": 2}}, env_name=CRAFTAX),
    both("full_torches_and_arrows", '''
def task_is_done(inventory, n):
    return jnp.logical_and(inventory.torches >= 2 * n, inventory.arrows >= n)
----
def task_reward(inventory_diff):
    r = 0.0
    for amount, weight in zip([inventory_diff.torches, inventory_diff.arrows], [0.25, 0.5]):
        r = r + weight * amount
    return r
''', {"torches": {"per": 2}, "arrows": {"per": 1}}, env_name=CRAFTAX),
    both("full_gnomes", '''
def task_is_done(monsters_killed):
    MINES = 2
    return monsters_killed[MINES] >= 8
----
def task_reward(monsters_killed_diff, player_level, health_penalty):
    in_mines = player_level == 2
    kills = jnp.where(in_mines, monsters_killed_diff[2], 0)
    return 0.5 * kills + 0.25 * monsters_killed_diff[2] + health_penalty
''', once("cleared:GNOMISH_MINES"), requires=once("level:GNOMISH_MINES"), env_name=CRAFTAX),
    both("full_bow_from_a_chest", '''
def task_is_done(inventory, achievements):
    return inventory.bow > 0 or achievements[Achievement.FIND_BOW.value]
----
def task_reward(inventory_diff, achievements_diff):
    found = achievements_diff[Achievement.FIND_BOW.value]
    opened = achievements_diff[Achievement.OPEN_CHEST.value]
    return (5.0 if found or inventory_diff.bow > 0 else 0.0) + 0.5 * opened
''', once("bow"), env_name=CRAFTAX),
    both("full_iron_pickaxe_level", '''
def task_is_done(inventory):
    level: int = 3
    return inventory.pickaxe >= level
----
def task_reward(inventory_diff, inventory, achievements_diff):
    upgraded = inventory_diff.pickaxe > 0 and inventory.pickaxe >= 3
    reward = 5.0 * upgraded
    reward += 1.0 * achievements_diff[Achievement.MAKE_IRON_PICKAXE.value]
    return reward
''', {"pickaxe": {"fixed": 3}}, env_name=CRAFTAX),
    both("full_potions", '''
def task_is_done(inventory, n):
    return sum([inventory.potions[0], inventory.potions[1], inventory.potions[2], inventory.potions[3],
                inventory.potions[4], inventory.potions[5]]) >= n
----
def task_reward(inventory_diff, player_intrinsics_diff):
    total = 0
    for i in range(6):
        total += inventory_diff.potions[i]
    mana = player_intrinsics_diff[4]
    return 1.0 * total + (0.01 * mana if mana > 0 else 0.0)
''', {"potions": {"per": 1}}, env_name=CRAFTAX),
]  # fmt: skip
