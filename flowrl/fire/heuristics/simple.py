"""Breaks that take no thought: none, and random cells."""

from __future__ import annotations

import numpy as np

from flowrl.fire.heuristics.problem import Problem, highest


def no_breaks(problem: Problem) -> np.ndarray:
    """Nothing: what fires burn if nobody does anything."""
    return np.zeros(problem.landscape.shape, bool)


def random_breaks(problem: Problem) -> np.ndarray:
    """Random burnable cells, drawn from the problem's seed."""
    scores = np.random.default_rng(problem.seed).random(problem.landscape.shape)
    return highest(scores, problem.landscape.burnable, problem.budget)
