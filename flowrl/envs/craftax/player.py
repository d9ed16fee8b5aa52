"""A player that achieves much in a few steps; it plays the games that the gate records.

It walks to a visible block and uses it, and tries to craft. It is not a trained policy, but it gathers, places, crafts
and fights, under the game's own rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.craftax.facts import NOT_IN_VIEW
from flowrl.envs.features import Features
from flowrl.skills.facts import GameFacts

if TYPE_CHECKING:
    from flowrl.envs.adapter import GameAdapter

HELD = 9
"""The amount of each material in a world that is equipped by hand."""
EQUIPMENT = """wood stone coal iron diamond sapling arrows torches ruby sapphire wood_pickaxe stone_pickaxe iron_pickaxe
    wood_sword stone_sword iron_sword pickaxe sword bow""".split()
SOUGHT = "TREE TREE WATER STONE STONE COAL IRON DIAMOND GRASS CRAFTING_TABLE CHEST SAPPHIRE RUBY PLANT".split()
"""Blocks that the player walks to; those needed most often appear more than once."""
MOVES = ("UP", "DOWN", "LEFT", "RIGHT")
OFTEN_USED, OFTEN_SOUGHT = 0.4, 0.75


def equipped(states: Any, facts: GameFacts) -> Any:
    """Worlds ``[B, ...]``; those with index 2 or 3 modulo 4 have tools and materials.

    If the game has floors, these are on different floors.
    """
    chosen = np.arange(len(states.player_position)) % 4 >= 2
    held = {name: _equipped(states.inventory, name, chosen, facts) for name in EQUIPMENT if hasattr(states.inventory, name)}
    states = states.replace(inventory=states.inventory.replace(**held))
    floors = facts.members("level")
    if not floors:
        return states
    floor = jnp.where(chosen, np.arange(len(chosen)) // 4 % len(floors), 0)
    ladders = jnp.take_along_axis(states.up_ladders, floor[:, None, None], axis=1)[:, 0]
    position = jnp.where((floor > 0)[:, None], ladders, states.player_position)
    return states.replace(
        player_level=floor.astype(states.player_level.dtype),
        player_position=position.astype(states.player_position.dtype),
    )


def _equipped(inventory: Any, name: str, chosen: np.ndarray, facts: GameFacts) -> jax.Array:
    held = getattr(inventory, name)
    # Tools are one level below the best, so that there is something left to make.
    most = HELD if name in facts.stocks else max(1, facts.possessions[name] - 1)
    return jnp.where(chosen, most, held).astype(held.dtype)


def scripted_action(key: jax.Array, features: Features, adapter: GameAdapter) -> jax.Array:
    """Half of the time walks to a block in view, or uses it when next to it; otherwise crafts, places or acts at random."""
    actions, blocks = adapter.scope["Action"], adapter.facts.members("near")
    sought = [blocks.index(name) for name in SOUGHT if name in blocks]
    block_key, kind_key, other_key = jax.random.split(key, 3)
    offsets = features.closest_blocks[jnp.asarray(sought), :, 0]
    in_view = jnp.abs(offsets).sum(axis=1) < NOT_IN_VIEW
    row, column = offsets[jax.random.categorical(block_key, jnp.where(in_view, 0.0, -1e9))]
    kind = jax.random.uniform(kind_key)
    is_beside = jnp.abs(row) + jnp.abs(column) <= 1
    seeking = jnp.where(is_beside & (kind < OFTEN_USED), actions["DO"].value, _towards(row, column, actions))
    anything = jax.random.randint(other_key, (), 0, adapter.num_actions)
    return jnp.where((kind < OFTEN_SOUGHT) & in_view.any(), seeking, anything)


def _towards(row: jax.Array, column: jax.Array, actions: Any) -> jax.Array:
    up, down, left, right = (actions[name].value for name in MOVES)
    return jnp.where(jnp.abs(row) >= jnp.abs(column), jnp.where(row < 0, up, down), jnp.where(column < 0, left, right))
