"""Breaks where most burns afterwards: the downstream protection value (DPV).

Pais, Carrasco, Elimbi Moudio and Shen (2021), "Downstream protection value: Detecting critical zones for effective
fuel-treatment under wildfire risk", Computers & Operations Research 131, 105252.

The way of a fire is a tree: each cell hangs on the cell that lit it. The DPV of a cell is the value of all cells of its
branch, itself among them, averaged over fires. Where several neighbours reach a cell in the same step, any of them may have
lit it; here each counts as its parent in equal parts, which is the mean over all these trees.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.fire.heuristics.problem import Problem, highest
from flowrl.fire.spread import bits
from flowrl.fire.spread.automaton import NEVER, arrival_steps
from flowrl.fire.spread.directions import OFFSETS, at_source, at_target
from flowrl.fire.spread.passages import Passages

BYTES_PER_CELL = 52
"""Memory of `downstream_values` for each cell of each fire, by XLA's own account."""


@partial(jax.jit, static_argnames="num_steps")
def downstream_values(
    passages: Passages, num_steps: int, breaks: jax.Array | None = None, values: jax.Array | None = None
) -> jax.Array:
    """The downstream protection value of each cell.

    Args:
        num_steps, breaks: as in :func:`~flowrl.fire.spread.automaton.arrival_steps`.
        values: float ``[H, W]``, what each cell is worth; None for one each.

    Returns:
        float ``[H, W]``, the mean over fires; 0 where no fire came.
    """
    arrivals = arrival_steps(passages, num_steps, breaks)
    shares = _parent_shares(passages, arrivals)
    worth = jnp.ones(arrivals.shape[1:]) if values is None else values
    own = jnp.where(arrivals == NEVER, 0.0, worth)

    def hand_on(state):
        """Cells lit in this step hand the value of their branch, complete by now, to those that lit them."""
        total, step = state
        branches = jnp.where(arrivals == step, total, 0.0)
        for direction in range(len(OFFSETS)):
            total = total + at_target(branches * shares[:, direction], direction)
        return total, step - 1

    total, _ = jax.lax.while_loop(lambda state: state[1] > 0, hand_on, (own, jnp.max(arrivals)))
    return jnp.mean(total, axis=0)


def protection_value(problem: Problem) -> np.ndarray:
    """The cells with the highest downstream protection value over the planning fires, all judged without breaks."""
    values = np.asarray(downstream_values(problem.passages, problem.num_steps))
    return highest(values, problem.landscape.burnable, problem.budget)


def sequential_protection_value(problem: Problem) -> np.ndarray:
    """The cell with the highest downstream protection value, again and again: each is judged with the breaks before it."""
    breaks = np.zeros(problem.landscape.shape, bool)
    for _ in range(problem.budget):
        values = np.asarray(downstream_values(problem.passages, problem.num_steps, jnp.asarray(breaks)))
        breaks |= highest(values, problem.landscape.burnable & ~breaks, 1)
    return breaks


def _parent_shares(passages: Passages, arrivals: jax.Array) -> jax.Array:
    """How much of each cell's branch belongs to the neighbour behind it: float ``[N, 8, H, W]``, adding up to 1 or 0."""
    opened = bits.unpack(passages.opened, passages.num_fires)
    earlier = jnp.stack([at_source(arrivals, direction, NEVER) for direction in range(len(OFFSETS))], axis=1)
    lit = opened & (earlier != NEVER) & (earlier == arrivals[:, None] - 1)
    return lit / jnp.maximum(jnp.sum(lit, axis=1, keepdims=True), 1)
