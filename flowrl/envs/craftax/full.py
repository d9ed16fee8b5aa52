"""Craftax (Matthews et al. 2024, https://arxiv.org/abs/2402.16801): nine floors from the overworld to the boss."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from craftax.craftax import constants
from craftax.craftax.craftax_state import Inventory
from craftax.craftax.envs.craftax_symbolic_env import CraftaxSymbolicEnvNoAutoReset

from flowrl.envs.craftax.adapter import CraftaxGame, stacked
from flowrl.envs.craftax.creatures import Creatures
from flowrl.envs.craftax.facts_full import FACTS, MOBS

VISIBLE_LIGHT = 0.05
"""Cells with less light are dark: the game's own observation uses the same threshold."""


class CraftaxAdapter(CraftaxGame):
    """Floors, mana, a count of monsters killed, and darkness that hides blocks."""

    facts = FACTS
    kinds = ("melee_mobs", "passive_mobs", "ranged_mobs", "mob_projectiles", "player_projectiles")
    types_a_kind = 8
    channels = len(constants.BlockType) + len(constants.ItemType) + len(kinds) * types_a_kind + 1  # the last: it is lit
    fields_a_cell = 3

    def __init__(self, env_name: str = "Craftax-Symbolic-v1"):
        super().__init__(env_name, CraftaxSymbolicEnvNoAutoReset(), constants, Inventory)
        limits = self._env.static_env_params
        projectiles = limits.max_mob_projectiles + limits.max_player_projectiles
        self.num_creatures = limits.max_melee_mobs + limits.max_passive_mobs + limits.max_ranged_mobs + projectiles
        channels = [self._first_channel(field) + type_id for field, names in MOBS.items() for type_id in range(len(names))]
        self.creature_channels = np.array(channels, np.int32)

    def _first_channel(self, kind: str) -> int:
        return len(constants.BlockType) + len(constants.ItemType) + self.kinds.index(kind) * self.types_a_kind

    def pixel_renderer(self, tile):
        from craftax.craftax.renderer import make_craftax_pixel_renderer

        return make_craftax_pixel_renderer(tile)

    def view(self, state):
        floor, position = state.player_level, state.player_position
        blocks = self.window(state.map[floor], position, constants.BlockType.OUT_OF_BOUNDS.value)
        light = self.window(state.light_map[floor], position, 0.0)
        return blocks, light > VISIBLE_LIGHT

    def cell_channels(self, state):
        view, visible = self.view(state)
        items = self.window(state.item_map[state.player_level], state.player_position, constants.ItemType.NONE.value)
        return [view, len(constants.BlockType) + items, jnp.full(view.shape, self.channels - 1)], visible

    def creatures(self, state):
        kinds = [jax.tree.map(lambda leaf: leaf[state.player_level], getattr(state, kind)) for kind in self.kinds]
        channels = [self._first_channel(name) + kind.type_id for name, kind in zip(self.kinds, kinds)]
        position = jnp.concatenate([kind.position for kind in kinds])
        return Creatures(position, jnp.concatenate([kind.mask for kind in kinds]), jnp.concatenate(channels))

    def own_features(self, state):
        levels = [state.player_health, state.player_food, state.player_drink, state.player_energy, state.player_mana]
        return {
            "player_level": jnp.asarray(state.player_level, jnp.int32),
            "monsters_killed": state.monsters_killed.astype(jnp.int32),
            "player_intrinsics": stacked(levels),
        }
