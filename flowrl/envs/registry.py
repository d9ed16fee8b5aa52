"""The games that flowrl knows. To add one, see docs/add_a_game.md.

What is declared of a game is data; importing this brings neither jax nor numpy. The code of a game is named here, and
imported when it is needed.
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
    """One game: what is declared of it, and where its code is."""

    facts: GameFacts
    adapter: str
    """``module:class`` of its adapter; imported only when an adapter is made, for it brings jax."""
    curriculum: str
    """Its built-in curriculum: a module of ``flowrl.proposers.curricula``."""
    observation_size: int
    """Numbers in an observation: experts fit no other size. The same as the adapter's, known without importing it."""
    num_actions: int
    """Actions that an agent chooses from: as many outputs has an expert's actor. The same as the adapter's."""
    steps: str = "flowrl.envs.steps:GameSteps"
    """``module:class`` that says how its resources stand in recorded steps, for the gate."""
    package: str = "flowrl"
    """The distribution that the game is part of. Another version of it may play differently: states are recorded anew."""

    @property
    def env_name(self) -> str:
        """What the game is called on the command line."""
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
        BadInput: there is no such game; lists those that there are.
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
    """How the game's resources stand in recorded steps. This imports numpy, and neither jax nor the game.

    Raises:
        BadInput: there is no such game.
    """
    entry = game(env_name)
    return _named(entry.steps)(entry.facts)


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
