"""How flowrl talks to a game: one small class a game, all of it pure functions of JAX arrays.

docs/add_a_game.md shows a whole one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp

from flowrl.envs.features import Features, features_type
from flowrl.envs.observations import Layout, Observation
from flowrl.skills.facts import GameFacts

State = Any
"""A game's own state: a pytree of arrays, whatever is in it."""


class GameAdapter(ABC):
    """A game as flowrl needs it. All methods are for one environment, and are traced, mapped and compiled by others."""

    facts: GameFacts
    """What is declared of the game."""
    num_actions: int
    observation_size: int
    scope: dict[str, Any]
    """The names that a skill's code may use, beside its parameters: ``jax``, ``jnp`` and the facts' constants. A constant is
    an enum, or any other object with the members that the facts list."""

    def __init__(self, env_name: str):
        """
        Args:
            env_name: the name under which the game is registered.
        """
        self.env_name = env_name

    @property
    def identity(self) -> str | None:
        """All that tells this game from another one made by the same code; None (the default) if that cannot be said.

        With an identity, compiled programs are kept for later runs by flowrl's and the libraries' versions alone:
        give one only where nothing else changes what the game does.
        """
        return None

    @abstractmethod
    def reset(self, key: jax.Array) -> tuple[jax.Array, State]:
        """A fresh world: observation float32 ``[observation_size]`` and state."""

    @abstractmethod
    def step(self, key: jax.Array, state: State, action: jax.Array) -> tuple[jax.Array, State, jax.Array]:
        """One step: observation, state, and whether the game is over (bool scalar; never because time is up)."""

    @abstractmethod
    def observe(self, state: State) -> Observation:
        """The observation of a state, held small; ``layout.expand`` gives what `step` and `reset` return for it."""

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """How observations are made up."""

    @abstractmethod
    def features(self, state: State) -> Features:
        """What a skill's code may know of a state: ``self.features_type`` with a value for each declared `Feature`."""

    @property
    def features_type(self) -> type[Features]:
        """The NamedTuple of the declared features."""
        return features_type(self.facts.features)

    # How the game is played for the gate, which tries code on recorded states.

    def equipped(self, states: State) -> State:
        """The worlds ``[B, ...]`` to record from; as a rule some stay fresh, and some have what play takes long to get."""
        return states

    def scripted_action(self, key: jax.Array, features: Features) -> jax.Array:
        """What a simple player does, int32 scalar: one that brings about more than chance. By default, chance."""
        return jax.random.randint(key, (), 0, self.num_actions, jnp.int32)
