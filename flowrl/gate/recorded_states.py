"""Recorded states of the real games, on which generated code is tried before it is trained.

States are recorded once for each game, version and set of features, and stored in the user's cache folder. A quarter of
the worlds is played in each of four ways: at random or by the game's script, from a fresh world or from one that the game
has equipped (`GameAdapter.equipped`, `GameAdapter.scripted_action`). What play does not reach is edited in: see
`edited_states`.

``python -m flowrl.gate.recorded_states ENV_NAME FOLDER`` records the states of a game.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock

import flowrl
from flowrl import number_types, pickles
from flowrl.envs.registry import GAMES, game, make_adapter
from flowrl.errors import BadInput
from flowrl.paths import CACHE, given_path
from flowrl.skills.facts import Feature, GameFacts

if TYPE_CHECKING:
    from flowrl.envs.adapter import GameAdapter
    from flowrl.envs.features import Features

FORMAT = "flowrl-recorded-states"
VERSION = 1
NUM_WORLDS = 32
NUM_STEPS = 96


class RecordedStates(NamedTuple):
    """``K`` steps of a game, as plain arrays; features are dicts keyed by name, and the inventory in them by field."""

    env_name: str
    enums: dict[str, dict[str, int]]
    """The game's constants that skill code may use: enum to member to value."""
    before: dict[str, Any]
    """Features before each step, ``[K, ...]``."""
    after: dict[str, Any]
    """Features after each step, ``[K, ...]``."""
    fresh: dict[str, Any]
    """Features of fresh worlds, ``[NUM_WORLDS, ...]``."""


def path_of(env_name: str, folder: Path) -> Path:
    """The file with the recorded states of a game; each version of the game and of this module has its own."""
    package = game(env_name).package
    version = flowrl.__version__ if package == "flowrl" else importlib.metadata.version(package)
    return folder / "recorded_states" / f"{env_name}_{package}_{version}_v{VERSION}.pkl"


def load(env_name: str, folder: Path) -> RecordedStates:
    """Loads recorded states. Needs neither jax nor the game.

    Raises:
        FileNotFoundError: there are none, or they lack a feature that the game declares.
        BadInput: the file contains something else.
    """
    path = path_of(env_name, folder)
    data = pickles.load(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT or set(RecordedStates._fields) - data.keys():
        raise BadInput(f"{path} contains no recorded states; delete it to have them recorded again")
    declared = [feature.name for feature in game(env_name).facts.features if isinstance(feature, Feature)]
    if missing := set(declared) - data["before"].keys():
        raise FileNotFoundError(f"{path} lacks {', '.join(sorted(missing))}")
    rows = {name: {feature: data[name][feature] for feature in declared} for name in ("before", "after", "fresh")}
    return RecordedStates(data["env_name"], data["enums"], **rows)


def ensure(env_name: str, folder: Path) -> None:
    """Records the states of a game if they are missing, one process at a time. Imports jax and the game.

    Raises:
        BadInput: the folder cannot be written.
    """
    path = path_of(env_name, folder)
    if _is_there(env_name, folder):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not _is_there(env_name, folder):
                pickles.dump(path, {"format": FORMAT, **record(env_name)._asdict()})
    except OSError as error:
        raise BadInput(
            f"recorded states of {env_name} cannot be stored in {path.parent} ({error.strerror or error}); "
            f"make it writable, or set {CACHE} to a writable folder"
        ) from error


def _is_there(env_name: str, folder: Path) -> bool:
    try:
        load(env_name, folder)
    except OSError:
        return False
    return True


def record(env_name: str, num_worlds: int = NUM_WORLDS, num_steps: int = NUM_STEPS) -> RecordedStates:
    """Plays a game. Steps that end a world are left out, and the world restarts where it began."""
    import jax
    import numpy as np

    adapter, facts = make_adapter(env_name), game(env_name).facts
    fresh = jax.vmap(lambda key: adapter.reset(key)[1])
    states = _compiled(fresh)(jax.random.split(jax.random.key(0), num_worlds))
    fresh_features = jax.device_get(_compiled(jax.vmap(adapter.features))(states))
    states = begun = adapter.equipped(states)
    step = _compiled(jax.vmap(_Player(adapter).step))
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
    return RecordedStates(env_name, enums, _plain(before, facts), _plain(after, facts), _plain(fresh_features, facts))


class _Player:
    """Plays one world; `step` is vmapped over many."""

    def __init__(self, adapter: GameAdapter):
        self.adapter = adapter

    def step(self, key, state, begun, is_scripted):
        """One step: the next state, the features before and after, and whether the step counts."""
        import jax
        import jax.numpy as jnp

        action_key, random_key, game_key = jax.random.split(key, 3)
        before = self.adapter.features(state)
        at_random = jax.random.randint(random_key, (), 0, self.adapter.num_actions)
        action = jnp.where(is_scripted, self.adapter.scripted_action(action_key, before), at_random)
        _, following, game_over = self.adapter.step(game_key, state, action)
        after = self.adapter.features(following)
        following = jax.tree.map(lambda new, old: jax.lax.select(game_over, old, new), following, begun)
        return following, (before, after, ~game_over)


def _compiled(function):
    import jax

    # Few steps are played, so compiling takes longer than playing; these options shorten it.
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True})


def _plain(features: Features, facts: GameFacts) -> dict[str, Any]:
    import numpy as np

    rows = {name: np.asarray(value) for name, value in features._asdict().items() if name != "inventory"}
    fields = {name: np.asarray(getattr(features.inventory, name)) for name in facts.inventory_fields}
    return rows | ({"inventory": fields} if fields else {})


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
