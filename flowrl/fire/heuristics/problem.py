"""What a heuristic is asked: where to put a number of break cells in a landscape."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from flowrl.errors import BadInput
from flowrl.fire.landscapes.landscape import Landscape
from flowrl.fire.spread.fires import FIRE_WINDS, WindClimate, draw_fires
from flowrl.fire.spread.passages import Passages, draw_passages
from flowrl.fire.spread.probabilities import ALEXANDRIDIS_2008, Constants


class Problem(NamedTuple):
    """A landscape, what is known of its fires, and a budget.

    Attributes:
        landscape: where breaks are placed.
        passages: fires to plan with. Those that breaks are judged by are others.
        num_steps: how long a fire burns.
        climate: its winds.
        budget: cells of break.
        seed: for what is random in a heuristic.
    """

    landscape: Landscape
    passages: Passages
    num_steps: int
    climate: WindClimate
    budget: int
    seed: int = 0


Heuristic = Callable[[Problem], np.ndarray]
"""Breaks for a problem: bool ``[H, W]``, at most ``budget`` cells, each of them burnable."""


def make_problem(
    landscape: Landscape,
    key: jax.Array,
    *,
    num_fires: int = 1024,
    num_steps: int = 60,
    climate: WindClimate = FIRE_WINDS,
    budget_share: float = 0.05,
    seed: int = 0,
    constants: Constants = ALEXANDRIDIS_2008,
) -> Problem:
    """A problem whose planning fires are drawn from ``key``.

    Raises:
        BadInput: the budget is impossible.
    """
    budget = budget_cells(landscape, budget_share)
    fires = draw_fires(key, landscape.burnable, num_fires, climate)
    return Problem(landscape, draw_passages(landscape, fires, constants), num_steps, climate, budget, seed)


def budget_cells(landscape: Landscape, share: float) -> int:
    """The cells of break that a share of the burnable cells comes to, rounded, but at least one unless the share is 0.

    Raises:
        BadInput: the share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise BadInput(f"a budget is a share of what burns, from 0 to 1, but {share} was given")
    burnable = int(np.sum(landscape.burnable))
    return max(1, round(share * burnable)) if share > 0 else 0


def highest(scores: np.ndarray, allowed: np.ndarray, num_cells: int) -> np.ndarray:
    """The cells with the highest scores; of equal ones the more northern, then the more western.

    Args:
        scores: ``[H, W]``.
        allowed: bool ``[H, W]``, the cells to choose among.

    Returns:
        bool ``[H, W]``, ``num_cells`` cells, or all that are allowed if they are fewer.
    """
    order = np.argsort(-np.where(allowed, scores, -np.inf), axis=None, kind="stable")
    chosen = np.zeros(allowed.size, bool)
    chosen[order[: min(num_cells, int(allowed.sum()))]] = True
    return chosen.reshape(allowed.shape)
