"""How flowrl talks to a game: one small class for each game, with pure functions of JAX arrays.

docs/add_a_game.md shows a complete one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flowrl.envs.features import Features, features_type
from flowrl.envs.observations import Layout, Observation
from flowrl.skills.facts import GameFacts

State = Any
"""A game's own state: any pytree of arrays."""


class Renderer(NamedTuple):
    """How a game draws its states."""

    draw: Callable[[State], jax.Array]
    """The picture of a state, uint8 ``[height, width, 3]``; traced, mapped and compiled by the callers."""
    tile: int
    """Pixels on a side of one cell of that picture."""


class GameAdapter(ABC):
    """A game as flowrl needs it. All methods are for one environment; the callers trace, map and compile them."""

    facts: GameFacts
    """What is declared of the game."""
    num_actions: int
    observation_size: int
    scope: dict[str, Any]
    """The names that a skill's code may use besides its parameters: ``jax``, ``jnp`` and the facts' constants. A
    constant is an enum, or any other object with the members that the facts list."""

    def __init__(self, env_name: str):
        """
        Args:
            env_name: the name under which the game is registered.
        """
        self.env_name = env_name

    @property
    def identity(self) -> str | None:
        """Distinguishes this game from others made by the same code; None (the default) if that is not possible.

        With an identity, compiled programs are stored for later runs with the same versions of flowrl and the
        libraries: give one only if nothing else changes what the game does.
        """
        return None

    @abstractmethod
    def reset(self, key: jax.Array) -> tuple[jax.Array, State]:
        """A fresh world: observation float32 ``[observation_size]`` and state."""

    @abstractmethod
    def step(self, key: jax.Array, state: State, action: jax.Array) -> tuple[jax.Array, State, jax.Array]:
        """One step: observation, state, and whether the game is over (bool scalar; a time limit does not count)."""

    def renderer(self) -> Renderer | None:
        """What draws a state; None (the default) if the game draws no pictures."""
        return None

    @abstractmethod
    def observe(self, state: State) -> Observation:
        """The observation of a state in compact form; ``layout.expand`` restores what `step` and `reset` return for it."""

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """The layout of observations."""

    @abstractmethod
    def features(self, state: State) -> Features:
        """What a skill's code may know about a state: ``self.features_type`` with a value for each declared `Feature`."""

    @property
    def features_type(self) -> type[Features]:
        """The NamedTuple of the declared features."""
        return features_type(self.facts.features)

    # How the game is played for the gate, which tries code on recorded states.

    def equipped(self, states: State) -> State:
        """The worlds ``[B, ...]`` to record from; usually some stay fresh, and some hold what takes long to get by
        playing."""
        return states

    def scripted_action(self, key: jax.Array, features: Features) -> jax.Array:
        """The action of a simple player that achieves more than chance, int32 scalar. By default, a random one."""
        return jax.random.randint(key, (), 0, self.num_actions, jnp.int32)
