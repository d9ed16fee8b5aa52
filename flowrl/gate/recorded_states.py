"""Recorded states of the real games: what generated code is tried on before it is trained.

A recording is made once for each game and version of Craftax, and kept in the user's cache folder. A quarter of its
worlds is played by each of four ways: at random or by script, from a fresh world or from one that was equipped by hand
(tools, materials and, where the game has floors, somewhere down below). The script walks to a block that it can see
and uses it, and tries to craft; it is no trained policy, but it gathers, places, crafts and fights, and it meets the
game's own rules in every step. What even so is not seen is edited: see `edited_states`.

``python -m flowrl.gate.recorded_states ENV_NAME FOLDER`` makes a recording.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from flowrl import number_types, pickles
from flowrl.envs.registry import GAMES
from flowrl.errors import BadInput
from flowrl.paths import CACHE, given_path

FORMAT = "flowrl-recorded-states"
VERSION = 1
NUM_WORLDS = 32
NUM_STEPS = 96
HELD = 9
"""Of each material, where a world is equipped by hand."""
EQUIPMENT = """wood stone coal iron diamond sapling arrows torches ruby sapphire wood_pickaxe stone_pickaxe iron_pickaxe
    wood_sword stone_sword iron_sword pickaxe sword bow""".split()
SOUGHT = "TREE TREE WATER STONE STONE COAL IRON DIAMOND GRASS CRAFTING_TABLE CHEST SAPPHIRE RUBY PLANT".split()
"""Blocks that the script walks to, the ones most often needed more than once."""
MOVES = ("UP", "DOWN", "LEFT", "RIGHT")


class Recording(NamedTuple):
    """``K`` steps of a game, as plain arrays; features are dicts, by field, and so is the inventory in them."""

    env_name: str
    enums: dict[str, dict[str, int]]
    """The game's constants that skill code may name: enum to member to value."""
    before: dict[str, Any]
    """Features before each step, ``[K, ...]``."""
    after: dict[str, Any]
    """Features after each step, ``[K, ...]``."""
    fresh: dict[str, Any]
    """Features of worlds in which nothing has happened yet, ``[NUM_WORLDS, ...]``."""


def path_of(env_name: str, folder: Path) -> Path:
    """Where the recording of a game lies: another version of Craftax or of this module has another."""
    craftax = importlib.metadata.version("craftax")
    return folder / "recorded_states" / f"{env_name}_craftax_{craftax}_v{VERSION}.pkl"


def load(env_name: str, folder: Path) -> Recording:
    """A recording that was made before. Needs neither jax nor the game.

    Raises:
        FileNotFoundError: there is none.
        BadInput: the file holds something else.
    """
    path = path_of(env_name, folder)
    data = pickles.load(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT or set(Recording._fields) - data.keys():
        raise BadInput(f"{path} holds no recorded states; delete it, and it is made anew")
    return Recording(**{name: data[name] for name in Recording._fields})


def ensure(env_name: str, folder: Path) -> None:
    """Makes the recording of a game unless it is there. One process at a time; this imports jax and the game.

    Raises:
        BadInput: the folder cannot be written.
    """
    path = path_of(env_name, folder)
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                pickles.dump(path, {"format": FORMAT, **record(env_name)._asdict()})
    except OSError as error:
        raise BadInput(
            f"recorded states of {env_name} cannot be kept in {path.parent} ({error.strerror or error}); "
            f"make it writable, or set {CACHE} to a folder that can be written"
        ) from error


def record(env_name: str, num_worlds: int = NUM_WORLDS, num_steps: int = NUM_STEPS) -> Recording:
    """Plays a game. Steps that end a world are left out: the world goes on from where it began."""
    import jax
    import numpy as np

    from flowrl.envs.registry import game, make_adapter

    adapter, facts = make_adapter(env_name), game(env_name).facts
    player = _Player(adapter, facts)
    fresh = jax.vmap(lambda key: adapter.reset(key)[1])
    states = _compiled(fresh)(jax.random.split(jax.random.key(0), num_worlds))
    fresh_features = jax.device_get(_compiled(jax.vmap(adapter.features))(states))
    states = begun = player.equip(states)
    step = _compiled(jax.vmap(player.step))
    scripted = np.arange(num_worlds) % 2 == 1
    steps = []
    for key in jax.random.split(jax.random.key(1), num_steps):
        states, played = step(jax.random.split(key, num_worlds), states, begun, scripted)
        steps.append(jax.device_get(played))
    before, after, kept = jax.tree.map(lambda *parts: np.concatenate(parts), *steps)
    before, after = (jax.tree.map(lambda values: values[kept], features) for features in (before, after))
    enums = {
        name: {member.name: int(member.value) for member in adapter.scope[name]}
        for name in facts.constants
        if hasattr(adapter.scope[name], "__members__")
    }
    return Recording(env_name, enums, _plain(before, facts), _plain(after, facts), _plain(fresh_features, facts))


class _Player:
    """Plays one world; `step` is mapped over many."""

    def __init__(self, adapter, facts):
        self.adapter, self.facts = adapter, facts
        self.actions = adapter.scope["Action"]
        self.sought = [adapter.scope["BlockType"][name].value for name in SOUGHT if name in facts.blocks]

    def equip(self, states):
        """Every world whose number leaves 2 or 3 when divided by 4 begins equipped, and on one floor or another."""
        import jax.numpy as jnp
        import numpy as np

        equipped = np.arange(len(states.player_position)) % 4 >= 2
        inventory = states.inventory.replace(
            **{name: self._equipped(states.inventory, name, equipped) for name in EQUIPMENT if hasattr(states.inventory, name)}
        )
        states = states.replace(inventory=inventory)
        if not self.facts.levels:
            return states
        floor = jnp.where(equipped, np.arange(len(equipped)) // 4 % len(self.facts.levels), 0)
        ladders = jnp.take_along_axis(states.up_ladders, floor[:, None, None], axis=1)[:, 0]
        position = jnp.where((floor > 0)[:, None], ladders, states.player_position)
        return states.replace(player_level=floor.astype(states.player_level.dtype), player_position=position.astype(states.player_position.dtype))

    def _equipped(self, inventory, name, equipped):
        import jax.numpy as jnp

        held = getattr(inventory, name)
        # Tools stay one level below the best, so that there is something left to make.
        most = HELD if name in self.facts.stocks else max(1, self.facts.possessions[name] - 1)
        return jnp.where(equipped, most, held).astype(held.dtype)

    def step(self, key, state, begun, is_scripted):
        """One step: the next state, and features before and after with whether the step counts."""
        import jax
        import jax.numpy as jnp

        action_key, random_key, game_key = jax.random.split(key, 3)
        before = self.adapter.features(state)
        at_random = jax.random.randint(random_key, (), 0, self.adapter.num_actions)
        action = jnp.where(is_scripted, self._scripted(action_key, before), at_random)
        _, following, game_over = self.adapter.step(game_key, state, action)
        after = self.adapter.features(following)
        following = jax.tree.map(lambda new, old: jax.lax.select(game_over, old, new), following, begun)
        return following, (before, after, ~game_over)

    def _scripted(self, key, features):
        """Half of the time towards a block in view, or using it when beside it; else crafting, placing or anything."""
        import jax
        import jax.numpy as jnp

        block_key, kind_key, other_key = jax.random.split(key, 3)
        offsets = features.closest_blocks[jnp.asarray(self.sought), :, 0]
        in_view = jnp.abs(offsets).sum(axis=1) < 30
        chances = jnp.where(in_view, 0.0, -1e9)
        row, column = offsets[jax.random.categorical(block_key, chances)]
        up, down, left, right = (self.actions[name].value for name in MOVES)
        towards = jnp.where(
            jnp.abs(row) >= jnp.abs(column), jnp.where(row < 0, up, down), jnp.where(column < 0, left, right)
        )
        kind = jax.random.uniform(kind_key)
        is_beside = jnp.abs(row) + jnp.abs(column) <= 1
        seeking = jnp.where(is_beside & (kind < 0.4), self.actions["DO"].value, towards)
        anything = jax.random.randint(other_key, (), 0, self.adapter.num_actions)
        return jnp.where((kind < 0.75) & in_view.any(), seeking, anything)


def _compiled(function):
    import jax

    # Few steps are played: compiling takes longer than playing, and less of it so.
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True})


def _plain(features, facts) -> dict[str, Any]:
    import numpy as np

    inventory = {name: np.asarray(getattr(features.inventory, name)) for name in (*facts.stocks, *facts.possessions)}
    return {**{name: np.asarray(value) for name, value in features._asdict().items() if name != "inventory"}, "inventory": inventory}


def main(arguments: list[str]) -> int:
    """Runs the command line; returns its exit code."""
    try:
        if len(arguments) != 2 or arguments[0] not in GAMES:
            raise BadInput(f"expected a game and a folder: ENV_NAME FOLDER, with ENV_NAME one of {', '.join(GAMES)}")
        number_types.keep_to_defaults()
        ensure(arguments[0], given_path(arguments[1], "FOLDER"))
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
