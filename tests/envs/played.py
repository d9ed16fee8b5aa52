"""States of the real games, reached by random play; each game is compiled once a session."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.registry import make_adapter

CLASSIC, CRAFTAX = "Craftax-Classic-Symbolic-v1", "Craftax-Symbolic-v1"
WORLDS, STEPS, STEPS_A_FLOOR = 3, 100, 12


class PlayedGame:
    """One game: its adapter, its compiled programs (for one environment), and states that were reached."""

    def __init__(self, env_name: str):
        self.adapter = make_adapter(env_name)
        self.reset = jax.jit(self.adapter.reset)
        self.step = jax.jit(self.adapter.step)
        self.features = jax.jit(self.adapter.features)
        self.constants = self.adapter.scope
        self.states: list[Any] = []
        self.observations: list[np.ndarray] = []
        self.is_fresh: list[bool] = []
        """Whether a state is a new world, as yet unplayed."""
        for world in range(WORLDS):
            self._play(world)

    def _play(self, world: int) -> None:
        observation, state = self.reset(jax.random.key(world))
        self._keep(observation, state, is_fresh=True)
        state = self._wander(state, STEPS, jax.random.key(100 + world))
        for floor in range(self.num_floors):
            moved = state.replace(player_level=jnp.int32(floor), player_position=state.up_ladders[floor])
            state = self._wander(moved, STEPS_A_FLOOR, jax.random.key(1000 * world + floor))
        for corner in self.corners(state):
            moved = state.replace(player_position=jnp.asarray(corner, state.player_position.dtype))
            self._wander(moved, 1, jax.random.key(world))

    @property
    def num_floors(self) -> int:
        return 9 if self.adapter.env_name == CRAFTAX else 0

    def corners(self, state: Any) -> list[tuple[int, int]]:
        last = state.map.shape[-1] - 1
        return [(0, 0), (0, last), (last, 0), (last, last), (1, last // 2), (last // 2, last - 1)]

    def _wander(self, state: Any, steps: int, key: jax.Array) -> Any:
        for step in range(steps):
            action_key, step_key = jax.random.split(jax.random.fold_in(key, step))
            action = jax.random.randint(action_key, (), 0, self.adapter.num_actions)
            observation, state, game_over = self.step(step_key, state, action)
            self._keep(observation, state)
            if game_over:
                _, state = self.reset(step_key)
        return state

    def _keep(self, observation: jax.Array, state: Any, is_fresh: bool = False) -> None:
        self.is_fresh.append(is_fresh)
        self.observations.append(np.asarray(observation))
        self.states.append(state)


@functools.cache
def played_game(env_name: str) -> PlayedGame:
    """A game, compiled and played when it is asked for first."""
    return PlayedGame(env_name)


def plain(state: Any) -> Any:
    """A state with numpy arrays in place of JAX's (of random keys, their data)."""
    return jax.tree.map(lambda leaf: np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf), state)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
