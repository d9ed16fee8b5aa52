"""Craftax-Classic (Matthews et al. 2024, https://arxiv.org/abs/2402.16801): Crafter's world, in JAX."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from craftax.craftax_classic import constants
from craftax.craftax_classic.envs.craftax_state import Inventory
from craftax.craftax_classic.envs.craftax_symbolic_env import CraftaxClassicSymbolicEnvNoAutoReset

from flowrl.envs.craftax.adapter import CraftaxGame, stacked
from flowrl.envs.craftax.creatures import Creatures
from flowrl.envs.craftax.facts_classic import CREATURES, FACTS


class ClassicAdapter(CraftaxGame):
    """One floor, four intrinsics, nothing hidden by the dark."""

    facts = FACTS
    kinds = ("zombies", "cows", "skeletons", "arrows")
    channels = len(constants.BlockType) + len(kinds)
    fields_a_cell = 1

    def __init__(self, env_name: str = "Craftax-Classic-Symbolic-v1"):
        super().__init__(env_name, CraftaxClassicSymbolicEnvNoAutoReset(), constants, Inventory)
        limits = self._env.static_env_params
        self.num_creatures = limits.max_zombies + limits.max_cows + limits.max_skeletons + limits.max_arrows
        first = len(constants.BlockType)
        self.creature_channels = np.array([first + self.kinds.index(field) for field in CREATURES.values()], np.int32)

    def pixel_renderer(self, tile):
        from craftax.craftax_classic.renderer import make_craftax_pixel_renderer

        return make_craftax_pixel_renderer(tile)

    def view(self, state):
        view = self.window(state.map, state.player_position, constants.BlockType.OUT_OF_BOUNDS.value)
        return view, jnp.ones(view.shape, bool)

    def cell_channels(self, state):
        view, visible = self.view(state)
        return [view], visible

    def creatures(self, state):
        kinds = [getattr(state, kind) for kind in self.kinds]
        first = len(constants.BlockType)
        channel = np.concatenate([np.full(len(kind.mask), first + number) for number, kind in enumerate(kinds)])
        position = jnp.concatenate([kind.position for kind in kinds])
        return Creatures(position, jnp.concatenate([kind.mask for kind in kinds]), channel)

    def own_features(self, state):
        levels = [state.player_health, state.player_food, state.player_drink, state.player_energy]
        return {"player_level": jnp.int32(0), "player_intrinsics": stacked(levels)}
