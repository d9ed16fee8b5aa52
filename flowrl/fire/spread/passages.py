"""Where a fire would pass from cell to cell, drawn once for each fire.

A cell burns for one step, so it tries each of its neighbours once. Whether the fire would pass can therefore be drawn before
the fire burns: a passage from a cell to its neighbour is open with probability ``p``. A cell with several burning neighbours
then catches fire with ``1 - prod(1 - p)``, as in the automaton. Drawing beforehand has three uses:

- It takes eight random numbers for each cell, however many steps follow.
- The same passages serve every set of breaks, so that breaks are compared on the same fires, and a further break never
  makes one of these fires larger.
- A passage is one bit, and 32 fires spread together in the bits of one word.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from flowrl.fire.landscapes.landscape import Landscape
from flowrl.fire.spread import bits
from flowrl.fire.spread.directions import OFFSETS
from flowrl.fire.spread.fires import Fires
from flowrl.fire.spread.probabilities import ALEXANDRIDIS_2008, Constants, calm_probabilities, wind_factors


@struct.dataclass
class Passages:
    """What ``N`` fires would do in a landscape without breaks; ``G = ceil(N / 32)``.

    Attributes:
        opened: uint32 ``[G, 8, H, W]``, into each cell, for each direction that a fire may come in: a bit for each fire.
        starts: uint32 ``[G, H, W]``, the cells where they start.
        num_fires: ``N``.
    """

    opened: jax.Array
    starts: jax.Array
    num_fires: int = struct.field(pytree_node=False)


def split(passages: Passages, num_fires: int) -> list[Passages]:
    """The same fires in parts of ``num_fires``, a multiple of 32; the last part may be smaller."""
    words = num_fires // bits.WORD
    return [
        Passages(
            passages.opened[first : first + words],
            passages.starts[first : first + words],
            min(num_fires, passages.num_fires - first * bits.WORD),
        )
        for first in range(0, len(passages.opened), words)
    ]


@jax.jit
def draw_passages(landscape: Landscape, fires: Fires, constants: Constants = ALEXANDRIDIS_2008) -> Passages:
    """Draws the passages of fires in one landscape.

    A passage is open where ``jax.random.uniform(key, [8, H, W])`` of the fire's key is below its probability: the draws of
    a fire do not depend on the other fires, nor on what grows in the landscape.

    Under ``jax.vmap`` it takes landscapes and fires in batches.
    """
    calm, winds = calm_probabilities(landscape, constants), wind_factors(fires.wind_speed_m_s, fires.wind_from_deg, constants)
    words = bits.num_words(fires.num_fires)

    def add_bit(opened, place):
        bit, keys, factors = place
        # Drawn in one row, which gives the same numbers as the shape itself: XLA takes a quarter of the time to compile it.
        uniform = jax.vmap(lambda key: jax.random.uniform(key, (calm.size,)))(keys).reshape(-1, *calm.shape)
        passes = uniform < jnp.clip(calm * factors[:, :, None, None], 0.0, 1.0)
        return opened | (passes.astype(jnp.uint32) << bit), None

    # One bit of all words at a time: the random numbers of all bits at once would not fit in the processor's cache.
    keys, factors = _by_bit(fires.key, words), _by_bit(winds, words)
    places = (jnp.arange(len(factors), dtype=jnp.uint32), keys, factors)
    opened, _ = jax.lax.scan(add_bit, jnp.zeros((words, len(OFFSETS), *landscape.shape), jnp.uint32), places)
    return Passages(opened, _starts(landscape, fires), fires.num_fires)


def _by_bit(values: jax.Array, words: int) -> jax.Array:
    """``[N, ...]`` as ``[32, G, ...]``, or ``[N, 1, ...]`` for fewer than 32 fires.

    The last fire stands where there is none in the last word; it has no start there, so it never burns.
    """
    fires = jnp.minimum(jnp.arange(words * bits.WORD), values.shape[0] - 1)
    return values[fires.reshape(words, bits.WORD).T][: min(bits.WORD, values.shape[0])]


def _starts(landscape: Landscape, fires: Fires) -> jax.Array:
    rows, columns = jnp.arange(landscape.shape[0]), jnp.arange(landscape.shape[1])
    here = (fires.row[:, None] == rows)[:, :, None] & (fires.column[:, None] == columns)[:, None, :]
    return bits.pack(here & jnp.asarray(landscape.burnable))
