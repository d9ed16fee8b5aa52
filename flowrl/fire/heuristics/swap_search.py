"""Breaks that are improved by moving one cell at a time."""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.fire.heuristics.problem import Problem
from flowrl.fire.heuristics.protection_value import downstream_values, sequential_protection_value
from flowrl.fire.heuristics.row import row_across_the_wind
from flowrl.fire.spread import bits
from flowrl.fire.spread.automaton import burned
from flowrl.fire.spread.passages import Passages, split

MOST_MOVES = 30
FEW_FIRES = 512
"""Fires that a thorough search begins with."""
PLACE_FIRES = 1024
"""Fires that find the places for one move."""
_DISPENSABLE, _PROMISING = 6, 6
"""How many cells are tried for being moved, and how many places for each of them."""


def swap_search(problem: Problem) -> np.ndarray:
    """The better of sequential DPV and the row, each with its cells moved as long as that saves more of the planning fires."""
    found = [improved(problem, start(problem)) for start in (sequential_protection_value, row_across_the_wind)]
    return min(found, key=lambda one: one[1])[0]


def thorough_search(problem: Problem) -> tuple[np.ndarray, float]:
    """The result of `swap_search` with some of the planning fires, improved with all of them: as `improved`."""
    few = problem._replace(passages=split(problem.passages, FEW_FIRES)[0])
    return improved(problem, swap_search(few))


def improved(problem: Problem, breaks: np.ndarray, most_moves: int = MOST_MOVES) -> tuple[np.ndarray, float]:
    """Moves cells of some breaks, one at a time, to where most burns without them, as long as fires burn less by it.

    The cells without which least more burns are tried first; places are the cells with the highest downstream protection
    value once the cell is taken away. If there are many fires, each try finds places with another part of them, and all of
    them judge the move.

    Args:
        breaks: bool ``[H, W]``.
        most_moves: after so many moves it ends in any case.

    Returns:
        breaks with as many cells, and the share that the planning fires burn then.
    """
    share = float(burned_shares(problem, breaks[None])[0])
    parts = itertools.cycle(found := split(problem.passages, PLACE_FIRES))
    moves = failures = 0
    while breaks.any() and moves < most_moves and failures < len(found):
        if better := _one_move(problem, next(parts), breaks, share):
            breaks, share = better
            moves, failures = moves + 1, 0
        else:
            failures += 1
    return breaks, share


def moved_at_random(breaks: np.ndarray, burnable: np.ndarray, num_cells: int, rng: np.random.Generator) -> np.ndarray:
    """Breaks of which some cells stand elsewhere, both bool ``[H, W]``: another start for `improved`."""
    gone = rng.permutation(np.flatnonzero(breaks))[:num_cells]
    new = rng.permutation(np.flatnonzero(burnable & ~breaks))[: len(gone)]
    found = breaks.copy()
    found.flat[gone[: len(new)]] = False
    found.flat[new] = True
    return found


def burned_shares(problem: Problem, breaks: np.ndarray) -> np.ndarray:
    """The share that the planning fires burn, for each of some breaks: float ``[K]`` from bool ``[K, H, W]``."""
    counts = np.asarray(_burned_counts(problem.passages, problem.num_steps, breaks))
    return counts / (problem.passages.num_fires * int(problem.landscape.burnable.sum()))


def _one_move(problem: Problem, few: Passages, breaks: np.ndarray, share: float) -> tuple[np.ndarray, float] | None:
    cells = np.flatnonzero(breaks)
    without = _with_cells(breaks, cells, False)
    for number in np.argsort(burned_shares(problem, without), kind="stable")[:_DISPENSABLE]:
        rest = without[number]
        allowed = problem.landscape.burnable & ~breaks
        worth = np.asarray(downstream_values(few, problem.num_steps, jnp.asarray(rest)))
        places = np.argsort(-np.where(allowed, worth, -np.inf), axis=None, kind="stable")[: min(_PROMISING, allowed.sum())]
        moved = _with_cells(rest, places, True)
        if not len(moved):
            return None
        shares = burned_shares(problem, moved)
        if shares.min() < share:
            return moved[shares.argmin()], float(shares.min())
    return None


def _with_cells(breaks: np.ndarray, cells: np.ndarray, value: bool) -> np.ndarray:
    """Copies of some breaks, each with another cell set: ``[len(cells), H, W]``."""
    copies = np.repeat(breaks[None], len(cells), axis=0)
    copies.reshape(len(cells), breaks.size)[np.arange(len(cells)), cells] = value
    return copies


@partial(jax.jit, static_argnames="num_steps")
def _burned_counts(passages: Passages, num_steps: int, breaks: jax.Array) -> jax.Array:
    # One after the other: together they would fill more memory than the processor keeps near.
    return jax.lax.map(lambda one: jnp.sum(bits.count(burned(passages, num_steps, one))), breaks)
