"""What fires did, in numbers: burned shares and burn probabilities."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flowrl.fire.spread import bits
from flowrl.fire.spread.automaton import burned
from flowrl.fire.spread.passages import Passages


class Estimate(NamedTuple):
    """A mean over fires, and its standard error, both ``[]``."""

    mean: jax.Array
    standard_error: jax.Array


@partial(jax.jit, static_argnames="num_fires")
def burned_cells(words: jax.Array, num_fires: int) -> jax.Array:
    """How many cells each fire burned: int32 ``[N]`` from uint32 ``[G, H, W]``."""
    return jnp.sum(bits.unpack(words, num_fires), axis=(1, 2), dtype=jnp.int32)


def burn_probability(words: jax.Array, num_fires: int) -> jax.Array:
    """The share of fires that burned each cell: float ``[H, W]`` from uint32 ``[G, H, W]``."""
    return bits.count(words) / num_fires


@jax.jit
def burned_share(passages: Passages, burnable: jax.Array, num_steps: int, breaks: jax.Array | None = None) -> Estimate:
    """The share of a landscape that fires burn, over all fires.

    It is a share of what could burn without breaks, so that a break does not look better for what it takes away itself.

    Args:
        burnable: bool ``[H, W]`` of the landscape.
        num_steps, breaks: as in :func:`~flowrl.fire.spread.automaton.burned`.
    """
    cells = burned_cells(burned(passages, num_steps, breaks), passages.num_fires)
    shares = cells / jnp.sum(jnp.asarray(burnable))
    error = jnp.std(shares, ddof=1) / jnp.sqrt(passages.num_fires) if passages.num_fires > 1 else jnp.nan
    return Estimate(jnp.mean(shares), jnp.asarray(error))
