"""A straight row across the wind."""

from __future__ import annotations

import numpy as np

from flowrl.fire.heuristics.problem import Problem
from flowrl.fire.spread.outcomes import burned_share


def row_across_the_wind(problem: Problem) -> np.ndarray:
    """One straight row at a right angle to the prevailing wind, where it saves most of the planning fires.

    Rows at every distance from the landscape's edge are tried. A row is filled from its middle; cells that do not burn cost
    nothing, and what is left of the budget begins the next row downwind. A row is closed: fire does not slip through between
    two cells that touch only at a corner.
    """
    along, across = _coordinates(problem.landscape.shape, problem.climate.from_deg)
    bands = _bands(along, problem.climate.from_deg)
    candidates = [_filled(problem, bands, across, first) for first in range(bands.min(), bands.max() + 1)]
    burned = [
        float(burned_share(problem.passages, problem.landscape.burnable, problem.num_steps, breaks).mean)
        for breaks in candidates
    ]
    return candidates[int(np.argmin(burned))]


def _coordinates(shape: tuple[int, int], from_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """How far each cell lies downwind and to the side of the landscape's middle, in cells: two float ``[H, W]``."""
    rows, columns = np.indices(shape, dtype=float)
    north, east = (shape[0] - 1) / 2 - rows, columns - (shape[1] - 1) / 2
    towards = np.deg2rad(from_deg + 180)
    return north * np.cos(towards) + east * np.sin(towards), east * np.cos(towards) - north * np.sin(towards)


def _bands(along: np.ndarray, from_deg: float) -> np.ndarray:
    """Rows across the wind, numbered downwind: int ``[H, W]``.

    A band as wide as a step between neighbours goes downwind, ``|cos| + |sin|`` of the wind's direction, is connected along
    sides of cells, so that no fire passes diagonally.
    """
    angle = np.deg2rad(from_deg)
    # Rounded first: cells of one row must not fall into two bands by the last digit of a sine.
    return np.floor(np.round(along / (abs(np.cos(angle)) + abs(np.sin(angle))), 6) + 0.5).astype(int)


def _filled(problem: Problem, bands: np.ndarray, across: np.ndarray, first: int) -> np.ndarray:
    order = np.lexsort((np.abs(across).ravel(), bands.ravel()))
    usable = problem.landscape.burnable.ravel()[order] & (bands.ravel()[order] >= first)
    breaks = np.zeros(bands.size, bool)
    breaks[order[usable][: problem.budget]] = True
    return breaks.reshape(bands.shape)
