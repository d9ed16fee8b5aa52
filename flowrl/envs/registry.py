"""The games that flowrl knows. To add one, see docs/add_a_game.md.

A game's declarations are data; importing this module imports neither jax nor numpy. The code of a game is named here,
and imported when it is needed.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowrl.envs.craftax.facts_classic import FACTS as CLASSIC
from flowrl.envs.craftax.facts_full import FACTS as CRAFTAX
from flowrl.errors import BadInput
from flowrl.skills.facts import GameFacts

if TYPE_CHECKING:
    from flowrl.envs.adapter import GameAdapter
    from flowrl.envs.steps import GameSteps


@dataclass(frozen=True)
class GameEntry:
    """One game: its declarations, and where its code is."""

    facts: GameFacts
    adapter: str
    """``module:class`` of its adapter; imported only when an adapter is made, since it imports jax."""
    curriculum: str
    """Its built-in curriculum: a module of ``flowrl.proposers.curricula``."""
    observation_size: int
    """The size of an observation: experts fit no other. The same as the adapter's, known without importing it."""
    num_actions: int
    """The number of actions, and of outputs of an expert's actor. The same as the adapter's."""
    steps: str = "flowrl.envs.steps:GameSteps"
    """``module:class`` that knows how recorded steps store its resources, for the gate."""
    package: str = "flowrl"
    """The Python distribution with the game. Another version may play differently, so states are recorded again for it."""

    @property
    def env_name(self) -> str:
        """The game's name on the command line."""
        return self.facts.env_name


CRAFTAX_GAME = {"steps": "flowrl.envs.craftax.steps:CraftaxSteps", "package": "craftax"}
GAMES = {
    entry.env_name: entry
    for entry in (
        GameEntry(CLASSIC, "flowrl.envs.craftax.classic:ClassicAdapter", "craftax_classic", 1345, 17, **CRAFTAX_GAME),
        GameEntry(CRAFTAX, "flowrl.envs.craftax.full:CraftaxAdapter", "craftax", 8268, 43, **CRAFTAX_GAME),
    )
}


def game(env_name: str) -> GameEntry:
    """The entry of a game.

    Raises:
        BadInput: there is no such game; lists the known ones.
    """
    if env_name not in GAMES:
        raise BadInput(f"unknown environment {env_name!r}; choose one of {', '.join(GAMES)}")
    return GAMES[env_name]


def make_adapter(env_name: str) -> GameAdapter:
    """A game's adapter. This imports jax and the game.

    Raises:
        BadInput: there is no such game.
    """
    return _named(game(env_name).adapter)(env_name)


def make_steps(env_name: str) -> GameSteps:
    """How recorded steps store the game's resources. This imports numpy, but neither jax nor the game.

    Raises:
        BadInput: there is no such game.
    """
    entry = game(env_name)
    return _named(entry.steps)(entry.facts)


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
