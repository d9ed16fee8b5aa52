"""The games that flowrl knows. To add one: its facts, its adapter, a curriculum, and an entry here."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowrl.envs.craftax.facts_classic import FACTS as CLASSIC
from flowrl.envs.craftax.facts_full import FACTS as CRAFTAX
from flowrl.errors import BadInput
from flowrl.skills.facts import GameFacts

if TYPE_CHECKING:
    from flowrl.envs.adapter import GameAdapter


@dataclass(frozen=True)
class GameEntry:
    """One game: what it is called, what is true of it, and where its code is."""

    env_name: str
    facts: GameFacts
    adapter: str
    """``module:class`` of its adapter; imported only when an adapter is made, for it brings jax."""
    curriculum: str
    """Name of its built-in curriculum, in ``flowrl.proposers.curricula``."""
    observation_size: int
    """Numbers in an observation: experts fit no other size. The same as the adapter's, told without importing it."""
    num_actions: int
    """Actions that an agent chooses from: as many outputs has an expert's actor. The same as the adapter's."""


GAMES = {
    entry.env_name: entry
    for entry in (
        GameEntry(CLASSIC.env_name, CLASSIC, "flowrl.envs.craftax.classic:ClassicAdapter", "craftax_classic", 1345, 17),
        GameEntry(CRAFTAX.env_name, CRAFTAX, "flowrl.envs.craftax.full:CraftaxAdapter", "craftax", 8268, 43),
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
    entry = game(env_name)
    module, _, class_name = entry.adapter.partition(":")
    return getattr(importlib.import_module(module), class_name)(entry.env_name)
