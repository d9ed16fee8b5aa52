"""The cellular automaton: fires spread through their open passages, a neighbourhood each step.

A cell burns for one step and never again. Breaks are cells that do not burn; a fire that would start in one does not start.
All functions work on one landscape, and under ``jax.vmap`` on batches of landscapes, of fires and of breaks.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flowrl.fire.landscapes.landscape import Landscape
from flowrl.fire.spread import bits
from flowrl.fire.spread.directions import OFFSETS, at_source
from flowrl.fire.spread.fires import Fires
from flowrl.fire.spread.passages import Passages, draw_passages
from flowrl.fire.spread.probabilities import ALEXANDRIDIS_2008, Constants

NEVER = -1
"""The arrival step of a cell that a fire does not reach."""
_NOBODY = jnp.uint32(0)
_EVERYBODY = jnp.uint32(0xFFFFFFFF)


class Front(NamedTuple):
    """The state of ``N`` fires at one step, a bit for each, ``G = ceil(N / 32)``.

    Attributes:
        burning: uint32 ``[G, H, W]``, cells that burn.
        intact: uint32 ``[G, H, W]``, cells that could still catch fire: neither burning, burned nor a break.
    """

    burning: jax.Array
    intact: jax.Array


def start(passages: Passages, breaks: jax.Array | None = None) -> Front:
    """The state in which the fires begin.

    Args:
        breaks: bool ``[H, W]``, cells that do not burn; None for no breaks.
    """
    free = jnp.full(passages.starts.shape[-2:], _EVERYBODY) if breaks is None else jnp.where(breaks, _NOBODY, _EVERYBODY)
    burning = passages.starts & free
    return Front(burning, free & ~burning)


def step(passages: Passages, front: Front) -> Front:
    """One step of all fires: each burning cell tries its eight neighbours, and has burned."""
    reached = jnp.zeros_like(front.burning)
    for direction in range(len(OFFSETS)):
        reached |= at_source(front.burning, direction) & passages.opened[:, direction]
    caught = reached & front.intact
    return Front(caught, front.intact & ~caught)


@jax.jit
def burned(passages: Passages, num_steps: int, breaks: jax.Array | None = None) -> jax.Array:
    """What has burned, or burns, after some steps.

    Args:
        num_steps: the most steps; it ends earlier once nothing burns.
        breaks: bool ``[H, W]``, or None.

    Returns:
        uint32 ``[G, H, W]``, a bit for each fire: :func:`~flowrl.fire.spread.bits.unpack` makes it bool ``[N, H, W]``.
    """
    first = start(passages, breaks)

    def more(state):
        front, steps = state
        return (steps < num_steps) & jnp.any(front.burning != 0)

    last, _ = jax.lax.while_loop(more, lambda state: (step(passages, state[0]), state[1] + 1), (first, 0))
    return (first.burning | first.intact) & ~last.intact


@partial(jax.jit, static_argnames="num_steps")
def arrival_steps(passages: Passages, num_steps: int, breaks: jax.Array | None = None) -> jax.Array:
    """When each cell catches fire.

    Args:
        num_steps, breaks: as in :func:`burned`.

    Returns:
        int32 ``[N, H, W]``: 0 where a fire starts, 1 to ``num_steps`` where it comes later, :data:`NEVER` elsewhere.
    """
    # The number of the step is kept as bits too: plane b holds bit b of it for 32 fires in each word.
    digits = jnp.arange(max(1, num_steps.bit_length()), dtype=jnp.uint32)
    first = start(passages, breaks)
    planes = jnp.zeros((len(digits), *first.burning.shape), jnp.uint32)

    def more(state):
        front, steps, _ = state
        return (steps < num_steps) & jnp.any(front.burning != 0)

    def advance(state):
        front, steps, planes = state
        front = step(passages, front)
        digit = (steps + 1) >> digits & 1
        return front, steps + 1, planes | jnp.where(digit[:, None, None, None] == 1, front.burning, _NOBODY)

    last, _, planes = jax.lax.while_loop(more, advance, (first, jnp.uint32(0), planes))
    reached = bits.unpack((first.burning | first.intact) & ~last.intact, passages.num_fires)
    values = jnp.stack([bits.unpack(plane, passages.num_fires).astype(jnp.int32) for plane in planes])
    steps = jnp.sum(values << digits.astype(jnp.int32)[:, None, None, None], axis=0)
    return jnp.where(reached, steps, NEVER)


@jax.jit
def simulate(
    landscape: Landscape,
    fires: Fires,
    num_steps: int,
    breaks: jax.Array | None = None,
    constants: Constants = ALEXANDRIDIS_2008,
) -> jax.Array:
    """Lets fires burn in a landscape.

    To compare several sets of breaks, draw the passages once and use :func:`burned`: drawing takes most of the time.

    Returns:
        bool ``[N, H, W]``, what each fire has burned.
    """
    passages = draw_passages(landscape, fires, constants)
    return bits.unpack(burned(passages, num_steps, breaks), fires.num_fires)
