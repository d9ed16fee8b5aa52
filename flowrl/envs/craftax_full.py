"""Craftax (Matthews et al. 2024, https://arxiv.org/abs/2402.16801): nine floors from the overworld to the boss."""

from __future__ import annotations

import jax.numpy as jnp
from craftax.craftax import constants
from craftax.craftax.craftax_state import Inventory
from craftax.craftax.envs.craftax_symbolic_env import CraftaxSymbolicEnvNoAutoReset

from flowrl.envs.adapter import CraftaxFamily

VISIBLE_LIGHT = 0.05
"""Cells with less light are dark: the game's own observation leaves them out at the same level."""


class CraftaxAdapter(CraftaxFamily):
    """Floors, mana, a count of monsters killed, and darkness that hides blocks."""

    enums = ("BlockType", "Achievement", "Action", "ItemType")

    def __init__(self, env_name: str = "Craftax-Symbolic-v1"):
        super().__init__(env_name, CraftaxSymbolicEnvNoAutoReset(), constants, Inventory)

    def view(self, state):
        floor, position = state.player_level, state.player_position
        blocks = self.window(state.map[floor], position, constants.BlockType.OUT_OF_BOUNDS.value)
        light = self.window(state.light_map[floor], position, 0.0)
        return blocks, light > VISIBLE_LIGHT

    def player_level(self, state):
        return jnp.asarray(state.player_level, jnp.int32)

    def monsters_killed(self, state):
        return state.monsters_killed.astype(jnp.int32)

    def player_intrinsics(self, state):
        levels = [state.player_health, state.player_food, state.player_drink, state.player_energy, state.player_mana]
        return jnp.stack([jnp.asarray(level).astype(jnp.int32) for level in levels])
