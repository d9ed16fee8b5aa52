"""States of the real games, reached by play; each game is compiled once a session."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.registry import make_adapter

CLASSIC, CRAFTAX = "Craftax-Classic-Symbolic-v1", "Craftax-Symbolic-v1"
WORLDS, STEPS, STEPS_A_FLOOR = 3, 100, 12
EQUIPPED_WORLDS, EQUIPPED_STEPS = 36, 20
"""With so many worlds, two are on each floor (see `flowrl.envs.craftax.player.equipped`)."""
NIGHT = 200
"""Steps after which it is dark in both games: then zombies come in numbers."""


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

    def hunted(self) -> list[tuple[np.ndarray, Any]]:
        """Observations and states of equipped worlds, half of them by night, half of them played by the game's script."""
        script = jax.jit(self.adapter.scripted_action)
        found = []
        for number, state in enumerate(self._equipped_worlds()):
            for step in range(EQUIPPED_STEPS):
                script_key, action_key, step_key = jax.random.split(jax.random.fold_in(jax.random.key(number), step), 3)
                at_random = jax.random.randint(action_key, (), 0, self.adapter.num_actions)
                action = script(script_key, self.features(state)) if number // 4 % 2 else at_random
                observation, state, game_over = self.step(step_key, state, action)
                if game_over:
                    break
                found.append((np.asarray(observation), state))
        return found

    def _equipped_worlds(self) -> list[Any]:
        fresh = [self.reset(jax.random.key(1000 + number))[1] for number in range(EQUIPPED_WORLDS)]
        worlds = self.adapter.equipped(jax.tree.map(lambda *leaves: jnp.stack(leaves), *fresh))
        late = worlds.timestep + jnp.asarray(NIGHT * (np.arange(EQUIPPED_WORLDS) % 2), worlds.timestep.dtype)
        worlds = worlds.replace(timestep=late)
        return [jax.tree.map(lambda leaf: leaf[number], worlds) for number in range(EQUIPPED_WORLDS)]

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


def creature_names(env_name: str) -> dict[str, list[str]]:
    """What each type of creature is called in the game, by the field of its state that holds them."""
    if env_name == CLASSIC:
        return {"zombies": ["ZOMBIE"], "cows": ["COW"], "skeletons": ["SKELETON"], "arrows": ["ARROW"]}
    from craftax.craftax import constants

    fields = ("passive_mobs", "melee_mobs", "ranged_mobs")
    deeds = [[constants.Achievement(int(deed)).name for deed in row if deed] for row in constants.MOB_ACHIEVEMENT_MAP]
    names = [[deed.partition("_")[2].replace("SOLIDER", "SOLDIER") for deed in row] for row in deeds]
    return dict(zip(fields, names)) | {"mob_projectiles": [kind.name for kind in constants.ProjectileType]}


def plain(state: Any) -> Any:
    """A state with numpy arrays in place of JAX's (of random keys, their data)."""
    return jax.tree.map(lambda leaf: np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf), state)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
