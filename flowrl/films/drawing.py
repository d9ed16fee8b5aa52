"""Draws moments of some environments of a batch, with what the players hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from flowrl.envs.adapter import GameAdapter, State
from flowrl.envs.features import Features
from flowrl.errors import BadInput

_AT_ONCE = 16
"""Pictures that are drawn by one call: few enough for the memory, many enough for the processor."""


class Moment(NamedTuple):
    """Some environments at one moment."""

    states: State
    """The game's own, ``[R, ...]``."""
    inventory: Any
    """The game's own, each field ``[R, ...]``; an empty tuple if it has none."""


class Drawn(NamedTuple):
    """One environment at one moment."""

    picture: np.ndarray
    """uint8 ``[height, width, 3]``: what the game draws."""
    held: dict[str, int]
    """What the player holds, as far as it is not nothing."""


class Drawer:
    """Keeps moments of chosen environments, and draws them.

    Raises:
        BadInput: the game draws no pictures.
    """

    def __init__(self, adapter: GameAdapter, tile: int):
        """
        Args:
            tile: pixels on a side of one cell of the game.
        """
        renderer = adapter.renderer()
        if renderer is None:
            raise BadInput(f"{adapter.env_name} draws no pictures; its adapter's renderer() can add that (docs/add_a_game.md)")
        self._draw, self._factor = jax.jit(jax.vmap(renderer.draw)), tile / renderer.tile
        self._things = adapter.facts.inventory_fields

    def looker(self, rows: np.ndarray) -> Callable[[State, Features], Moment]:
        """The function that copies the environments ``rows`` of a batch, whose states the next step donates."""
        return jax.jit(lambda state, features: Moment(*jax.tree.map(lambda leaf: leaf[rows], (state, _inventory(features)))))

    def draw(self, moments: Sequence[Moment], place: int) -> list[Drawn]:
        """One of the chosen environments at each moment.

        Args:
            place: its number among the chosen ones.
        """
        drawn = []
        for start in range(0, len(moments), _AT_ONCE):
            chunk = moments[start : start + _AT_ONCE]
            padded = [*chunk, *[chunk[-1]] * (_AT_ONCE - len(chunk))]  # one shape, so that one program serves all
            own = jax.tree.map(lambda *leaves: jnp.stack([leaf[place] for leaf in leaves]), *padded)
            held = amounts(jax.device_get(own.inventory), self._things)
            for number, picture in enumerate(np.asarray(self._draw(own.states))[: len(chunk)]):
                held_now = {name: int(amount[number]) for name, amount in held.items() if amount[number]}
                drawn.append(Drawn(_scaled(picture, self._factor), held_now))
        return drawn


def _inventory(features: Features) -> Any:
    return getattr(features, "inventory", ())


def amounts(inventory: Any, things: Sequence[str]) -> dict[str, np.ndarray]:
    """What each environment holds of each thing, tools included, int ``[R]``. A field that is an array counts as its sum.

    Args:
        inventory: the game's own, each field ``[R, ...]``.
        things: the fields that count.
    """
    fields = {name: np.asarray(getattr(inventory, name)) for name in things}
    return {name: field.reshape(len(field), -1).sum(axis=1) for name, field in fields.items()}


def _scaled(picture: np.ndarray, factor: float) -> np.ndarray:
    if factor == 1:
        return picture
    height, width = (max(1, round(side * factor)) for side in picture.shape[:2])
    how = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(picture).resize((width, height), how))
