"""Breaks where fires burn most often."""

from __future__ import annotations

import numpy as np

from flowrl.fire.heuristics.problem import Problem, highest
from flowrl.fire.spread.automaton import burned
from flowrl.fire.spread.outcomes import burn_probability


def likeliest_to_burn(problem: Problem) -> np.ndarray:
    """The cells with the highest burn probability over the planning fires."""
    words = burned(problem.passages, problem.num_steps)
    probability = np.asarray(burn_probability(words, problem.passages.num_fires))
    return highest(probability, problem.landscape.burnable, problem.budget)
