"""Breaks by an agent that has learned: the best cell again and again, until the budget is spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from flowrl.fire.breaks import rules as rules_module
from flowrl.fire.breaks.areas import FireArea, area_of, same_shape
from flowrl.fire.breaks.observation import allowed_cells, changing_channels, fixed_channels
from flowrl.fire.breaks.rules import BreakRules
from flowrl.fire.heuristics.problem import Heuristic, Problem


class Actor(Protocol):
    """Who names cells: `DQNAgent`, or what offers the same."""

    def act(self, observations: np.ndarray, masks: np.ndarray, greedy: bool = False) -> np.ndarray: ...


def greedy_breaks(agent: Actor, areas: Sequence[FireArea], rules: BreakRules) -> np.ndarray:
    """The agent's breaks in some areas of one shape, without random cells: bool ``[N, H, W]``."""
    return np.stack([path[-1] for path in greedy_paths(agent, areas, rules)])


def greedy_paths(agent: Actor, areas: Sequence[FireArea], rules: BreakRules) -> list[np.ndarray]:
    """The same after 0, 1, ... steps: bool ``[T + 1, H, W]`` for each area."""
    shape = same_shape(areas)
    burnable = np.stack([area.landscape.burnable for area in areas])
    fixed = np.stack([fixed_channels(area, rules.climate) for area in areas])
    left = [rules_module.budget_of(area.landscape, rules) for area in areas]
    breaks = np.zeros((len(areas), *shape), bool)
    paths = [[now.copy()] for now in breaks]
    while any(left):
        changing = np.stack([changing_channels(*pair) for pair in zip(breaks, left, strict=True)])
        allowed = allowed_cells(burnable, breaks)
        actions = agent.act(np.concatenate([fixed, changing], axis=1), allowed.reshape(len(areas), -1), greedy=True)
        for row in np.flatnonzero(left):
            breaks[row], left[row] = rules_module.place(breaks[row], allowed[row], actions[row], left[row])
            paths[row].append(breaks[row].copy())
    return [np.stack(path) for path in paths]


def as_heuristic(agent: Actor, rules: BreakRules, areas: Sequence[FireArea] = ()) -> Heuristic:
    """The agent as one more entry in a table of heuristics.

    Args:
        areas: areas that problems may be about; for another landscape, an area is made of it.
    """
    known = {id(area.landscape): area for area in areas}

    def place_breaks(problem: Problem) -> np.ndarray:
        area = known.get(id(problem.landscape)) or area_of(problem.landscape)
        return greedy_breaks(agent, [area], rules._replace(climate=problem.climate))[0]

    return place_breaks
