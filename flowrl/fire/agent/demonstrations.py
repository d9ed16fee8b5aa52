"""Demonstrations: for each area the best breaks that are known, taught as sets of cells in any order.

They are also taught in the states to which the agent itself comes (DAgger: Ross, Gordon and Bagnell 2011, AISTATS, algorithm
3.1): on larger areas, a single cell beside the set leads to states that no order of the set passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flowrl.fire.agent.memory import Experiences, joined
from flowrl.fire.breaks.areas import FireArea
from flowrl.fire.breaks.observation import allowed_cells, changing_channels, fixed_channels
from flowrl.fire.breaks.rules import BreakRules
from flowrl.fire.heuristics.problem import Problem
from flowrl.fire.heuristics.swap_search import burned_shares, thorough_search

ORDERS = 8
"""Orders in which the cells of one set are placed."""
STRAY_SHARE = 0.3
"""In this share of the orders, a cell that is not of the set stands among the breaks: an agent must know how to go on then."""
OWN_PATHS, OWN_STATES = 4, 20
"""How many of the agent's latest own paths are taught, and in how many states of each."""


class Placement(NamedTuple):
    """Breaks in one area, and how good they are.

    Attributes:
        breaks: bool ``[H, W]``.
        burned_share: of the planning fires.
    """

    breaks: np.ndarray
    burned_share: float


def best_known(problem: Problem) -> Placement:
    """What the heuristics do best in an area."""
    return Placement(*thorough_search(problem))


def most_experiences(problems: Sequence[Problem]) -> int:
    """The most experiences that demonstrations of these problems come to, one set of breaks for each."""
    return sum(ORDERS * problem.budget + OWN_PATHS * min(problem.budget, OWN_STATES) for problem in problems)


def as_experiences(
    area: FireArea, problem: Problem, breaks: np.ndarray, rules: BreakRules, gamma: float, rng: np.random.Generator
) -> Experiences:
    """Steps that place a set in random orders; in each, all cells of the set that are not placed yet are right.

    Args:
        problem: of the area; its fires give the rewards.
        breaks: the set, bool ``[H, W]``.
        gamma: the discount of a step.
    """
    return joined(
        [_experiences(area, problem, _one_order(area, breaks, rules, rng), breaks, rules, gamma) for _ in range(ORDERS)]
    )


def in_own_states(
    area: FireArea,
    problem: Problem,
    path: np.ndarray,
    breaks: np.ndarray,
    rules: BreakRules,
    gamma: float,
    rng: np.random.Generator,
) -> Experiences:
    """What was right in some states of a path that the agent took: the cells of the best set that were not placed yet.

    Args:
        path: the breaks after 0, 1, ... steps, bool ``[T + 1, H, W]``.
        breaks: the set, bool ``[H, W]``.
    """
    at_once, returns = rules.cells_per_step(area.landscape.shape), []
    unfinished = np.flatnonzero([(breaks & ~now).any() for now in path[:-1]])
    states = path[np.sort(rng.permutation(unfinished)[:OWN_STATES])]
    left = [int(path[-1].sum() - now.sum()) for now in states]
    for now, cells_left in zip(states, left, strict=True):
        order = _in_turn(now, rng.permutation(np.flatnonzero(breaks & ~now))[:cells_left], at_once)
        returns.append(_returns(problem, order.breaks, rules, gamma)[0])
    return _taught(area, states, left, breaks, np.array(returns), rules)


class _Order(NamedTuple):
    """Breaks before each of ``T`` steps and after the last, bool ``[T + 1, H, W]``, and the budget left before each."""

    breaks: np.ndarray
    left: list[int]


def _one_order(area: FireArea, breaks: np.ndarray, rules: BreakRules, rng: np.random.Generator) -> _Order:
    cells = rng.permutation(np.flatnonzero(breaks))
    now = np.zeros_like(breaks)
    if rng.random() < STRAY_SHARE and len(cells) > 1 and (others := area.landscape.burnable & ~breaks).any():
        now.flat[rng.choice(np.flatnonzero(others))] = True
        cells = cells[1:]  # the stray cell has used its part of the budget
    return _in_turn(now, cells, rules.cells_per_step(area.landscape.shape))


def _in_turn(before: np.ndarray, cells: np.ndarray, at_once: int) -> _Order:
    """The cells placed one after the other, or ``at_once`` in a step."""
    now = before.copy()
    so_far, left = [now.copy()], []
    for first in range(0, len(cells), at_once):
        left.append(len(cells) - first)
        now.flat[cells[first : first + at_once]] = True
        so_far.append(now.copy())
    return _Order(np.stack(so_far), left)


def _experiences(
    area: FireArea, problem: Problem, order: _Order, breaks: np.ndarray, rules: BreakRules, gamma: float
) -> Experiences:
    returns = _returns(problem, order.breaks, rules, gamma)
    return _taught(area, order.breaks[:-1], order.left, breaks, returns, rules)


def _taught(
    area: FireArea, before: np.ndarray, left: Sequence[int], breaks: np.ndarray, returns: np.ndarray, rules: BreakRules
) -> Experiences:
    """In each state, all cells of the set that are not placed yet are right.

    Args:
        before: the breaks in each state, bool ``[T, H, W]``.
        left: the budget in each.
        returns: ``[T]``.
    """
    fixed = fixed_channels(area, rules.climate)
    observations = np.stack([np.concatenate([fixed, changing_channels(*state)]) for state in zip(before, left, strict=True)])
    return Experiences(
        observations=observations,
        allowed=allowed_cells(area.landscape.burnable, before).reshape(len(before), -1),
        chosen=(breaks & ~before).reshape(len(before), -1),
        returns=returns.astype(np.float32),
        discounts=np.zeros(len(before), np.float32),
        later=np.zeros_like(observations),
        later_allowed=np.zeros((len(before), breaks.size), bool),
        demonstrated=np.ones(len(before), bool),
    )


def _returns(problem: Problem, breaks: np.ndarray, rules: BreakRules, gamma: float) -> np.ndarray:
    """What the rewards from each step on come to, under the planning fires: ``[T]`` from breaks ``[T + 1, H, W]``."""
    if rules.reward == "end":
        last = burned_shares(problem, breaks[-1:])[0]
        return -last * gamma ** np.arange(len(breaks) - 2, -1, -1)
    rewards = -np.diff(burned_shares(problem, breaks))
    returns = np.zeros(len(rewards))
    later = 0.0
    for step in reversed(range(len(rewards))):
        returns[step] = later = rewards[step] + gamma * later
    return returns
