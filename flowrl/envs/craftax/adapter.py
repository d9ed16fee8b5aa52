"""The common part of the adapters of both Craftax games."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.adapter import GameAdapter, Renderer, State
from flowrl.envs.craftax.creatures import Creatures, creature_cells
from flowrl.envs.craftax.nearest import nearest_blocks, nearest_creatures
from flowrl.envs.craftax.player import equipped, scripted_action
from flowrl.envs.craftax.sampling import quick_choice
from flowrl.envs.craftax.shelter import ways_in
from flowrl.envs.craftax.textures import load_textures
from flowrl.envs.observations import Layout, Observation
from flowrl.paths import cache_folder

NO_TIME_LIMIT = 2**30
"""Steps. The plan's step budgets end an episode, so the game's own limit must never do it first."""


class CraftaxGame(GameAdapter):
    """What Craftax-Classic and Craftax have in common; the two games differ in view, floors and intrinsics."""

    def __init__(self, env_name: str, env: Any, constants: Any, inventory_type: type):
        super().__init__(env_name)
        self._env = env
        self._params = env.default_params.replace(max_timesteps=NO_TIME_LIMIT)
        self._constants = constants
        blocks = constants.BlockType
        self._closed = [int(block) for block in constants.SOLID_BLOCKS] + [
            block.value for block in (blocks.WATER, blocks.LAVA, blocks.OUT_OF_BOUNDS)
        ]
        self.num_actions = env.num_actions
        self.observation_size = env.observation_space(self._params).shape[0]
        own = {"Inventory": inventory_type, "CreatureType": _numbered("CreatureType", self.facts.constants["CreatureType"])}
        named = {name: own[name] if name in own else getattr(constants, name) for name in self.facts.constants}
        self.scope = {"jax": jax, "jnp": jnp, **named}

    @property
    def identity(self):
        if not type(self).__module__.startswith("flowrl.envs."):
            return None  # a class from elsewhere: stored programs do not depend on its code
        return f"{type(self).__qualname__} {self.env_name} {self._params!r} {self._env.static_env_params!r}"

    def reset(self, key):
        with quick_choice():
            observation, state = self._env.reset_env(key, self._params)
        return observation.astype(jnp.float32), _strongly_typed(state)

    def step(self, key, state, action):
        with quick_choice():
            observation, state, _, game_over, _ = self._env.step_env(key, state, action, self._params)
        return observation.astype(jnp.float32), _strongly_typed(state), game_over

    def renderer(self):
        tile = self._constants.BLOCK_PIXEL_SIZE_IMG
        with contextlib.redirect_stdout(None):  # it prints where it found its textures
            load_textures(self._constants, cache_folder())
            draw = self.pixel_renderer(tile)
        return Renderer(lambda state: draw(state).astype(jnp.uint8), tile)

    @abstractmethod
    def pixel_renderer(self, tile: int) -> Callable[[State], jax.Array]:
        """The game's own: pixels from 0 to 255, float ``[height, width, 3]``. Called when its textures are loaded."""

    @property
    def layout(self):
        rows, columns = self._constants.OBS_DIM
        num_columns = rows * columns * self.channels
        num_fields = rows * columns * self.fields_a_cell + self.num_creatures
        return Layout(num_columns, num_fields, self.observation_size - num_columns)

    def observe(self, state):
        layout = self.layout
        # Only the end of the game's own observation is used, so the compiler drops the rest of it.
        scalars = self._env.get_obs(state)[layout.num_columns :]
        cells, visible = self.cell_channels(state)
        places = jnp.arange(visible.size).reshape(visible.shape) * self.channels
        shown = [jnp.where(visible, places + channel, layout.num_columns).reshape(-1) for channel in cells]
        columns = jnp.concatenate([*shown, self._creature_columns(state, visible)])
        return Observation(columns.astype(jnp.uint16), scalars.astype(jnp.float32))

    def _creature_columns(self, state: State, visible: jax.Array) -> jax.Array:
        creatures = self.creatures(state)
        cell, shown = creature_cells(creatures, state.player_position, self._constants.OBS_DIM)
        shown = shown & visible.reshape(-1)[cell]
        return jnp.where(shown, cell * self.channels + creatures.channel, self.layout.num_columns)

    channels: int
    """One-hot columns of each cell in view."""
    fields_a_cell: int
    """How many of them are 1 in a visible cell, apart from creatures."""
    num_creatures: int
    """The number of creatures that a state has places for (on one floor)."""
    creature_channels: np.ndarray
    """int32 ``[C]``: the channel that shows each member of ``CreatureType``."""

    @abstractmethod
    def cell_channels(self, state: State) -> tuple[list[jax.Array], jax.Array]:
        """For each field of a cell its channel (int32 ``[rows, columns]``), and which cells are visible."""

    @abstractmethod
    def creatures(self, state: State) -> Creatures:
        """The creatures around, in the order in which the game draws them."""

    def features(self, state):
        view, visible = self.view(state)
        return self.features_type(
            inventory=jax.tree.map(lambda amount: jnp.asarray(amount, jnp.int32), state.inventory),
            closest_blocks=nearest_blocks(view, visible, len(self._constants.BlockType)),
            closest_creatures=self._nearest_creatures(state, visible),
            facing=self._facing(state, view),
            ways_in=ways_in(view, self._closed),
            light=jnp.asarray(state.light_level, jnp.float32),
            is_sleeping=jnp.asarray(state.is_sleeping, bool),
            achievements=state.achievements.astype(bool),
            **self.own_features(state),
        )

    def _nearest_creatures(self, state: State, visible: jax.Array) -> jax.Array:
        return nearest_creatures(self.creatures(state), self.creature_channels, state.player_position, visible)

    def _facing(self, state: State, view: jax.Array) -> jax.Array:
        row, column = self._constants.DIRECTIONS[state.player_direction]
        rows, columns = view.shape
        return view[rows // 2 + row, columns // 2 + column].astype(jnp.int32)

    def equipped(self, states):
        return equipped(states, self.facts)

    def scripted_action(self, key, features):
        return scripted_action(key, features, self)

    @abstractmethod
    def own_features(self, state: State) -> dict[str, jax.Array]:
        """The features that each game computes in its own way."""

    @abstractmethod
    def view(self, state: State) -> tuple[jax.Array, jax.Array]:
        """Block types around the player (int32 ``[rows, columns]``), and which of them are visible."""

    def window(self, grid: jax.Array, position: jax.Array, outside: Any) -> jax.Array:
        """The part of a map that the player sees; ``outside`` stands for what lies beyond its edge."""
        rows, columns = self._constants.OBS_DIM
        padded = jnp.pad(grid, ((rows // 2, rows // 2), (columns // 2, columns // 2)), constant_values=outside)
        return jax.lax.dynamic_slice(padded, position, (rows, columns))


def stacked(levels: list[Any]) -> jax.Array:
    """Numbers of a state as one array of int32."""
    return jnp.stack([jnp.asarray(level).astype(jnp.int32) for level in levels])


def _numbered(name: str, members: tuple[str, ...]) -> type[Enum]:
    return Enum(name, [(member, number) for number, member in enumerate(members)])


def _strongly_typed(state: State) -> State:
    # A fresh world holds Python numbers, a played one arrays: converted to one type, so that both share one program.
    def strong(leaf):
        leaf = jnp.asarray(leaf)
        return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else jax.lax.convert_element_type(leaf, leaf.dtype)

    return jax.tree.map(strong, state)
