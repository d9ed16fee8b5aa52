"""A game small enough to be worked out by hand, which draws its states."""

import jax.numpy as jnp

from flowrl.envs.adapter import Renderer
from tests.evaluation.camp import Camp

TILE = 8


class DrawnCamp(Camp):
    """Water as a bar of blue, wood as one of brown below it, 9 cells wide."""

    def renderer(self):
        def draw(state):
            cells = jnp.arange(9)
            bars = jnp.stack([cells < state.water, cells < state.pack.wood])
            colours = jnp.asarray([[40, 90, 220], [140, 90, 40]])
            pixels = jnp.where(bars[..., None], colours[:, None], 0).astype(jnp.uint8)
            return jnp.repeat(jnp.repeat(pixels, TILE, 0), TILE, 1)

        return Renderer(draw, TILE)


def bar(shot, row) -> int:
    """The cells of a bar that are not black."""
    return int(shot.picture[row * TILE, ::TILE].any(-1).sum())
