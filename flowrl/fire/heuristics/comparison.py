"""All heuristics on the same landscapes, judged by fires that none of them has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from flowrl.fire.heuristics.burn_probability import likeliest_to_burn
from flowrl.fire.heuristics.problem import Heuristic, Problem, make_problem
from flowrl.fire.heuristics.protection_value import protection_value, sequential_protection_value
from flowrl.fire.heuristics.row import row_across_the_wind
from flowrl.fire.heuristics.simple import no_breaks, random_breaks
from flowrl.fire.heuristics.swap_search import swap_search
from flowrl.fire.landscapes.landscape import Landscape
from flowrl.fire.spread.automaton import burned
from flowrl.fire.spread.fires import FIRE_WINDS, WindClimate, draw_fires
from flowrl.fire.spread.outcomes import burn_probability, burned_share
from flowrl.fire.spread.passages import Passages, draw_passages
from flowrl.fire.spread.probabilities import ALEXANDRIDIS_2008, Constants

HEURISTICS: Mapping[str, Heuristic] = {
    "none": no_breaks,
    "random": random_breaks,
    "burn probability": likeliest_to_burn,
    "DPV": protection_value,
    "sequential DPV": sequential_protection_value,
    "row across the wind": row_across_the_wind,
    "swap search": swap_search,
}
"""The heuristics by the names that tables show. Each is a function of a problem; a further way to place breaks, such as an
agent, joins a table by one more entry."""


class Setting(NamedTuple):
    """How heuristics are compared.

    Attributes:
        num_steps: how long a fire burns.
        climate: its winds.
        budget_share: cells of break, as a share of those that burn.
        planning_fires, held_out_fires: fires that heuristics may plan with, and those that they are judged by.
    """

    num_steps: int = 60
    climate: WindClimate = FIRE_WINDS
    budget_share: float = 0.05
    planning_fires: int = 1024
    held_out_fires: int = 1024


USUAL = Setting()


class Judged(NamedTuple):
    """What the breaks of one heuristic did in one landscape.

    Attributes:
        breaks: bool ``[H, W]``.
        burned_share: the mean over the held-out fires, as in :func:`~flowrl.fire.spread.outcomes.burned_share`.
        standard_error: of that mean.
        burn_probability: float ``[H, W]``, the share of the held-out fires that burned each cell.
    """

    breaks: np.ndarray
    burned_share: float
    standard_error: float
    burn_probability: np.ndarray


def problem_and_judges(
    landscape: Landscape,
    seed: int,
    setting: Setting = USUAL,
    constants: Constants = ALEXANDRIDIS_2008,
) -> tuple[Problem, Passages]:
    """A problem with its planning fires, and the held-out fires, which share no random number with them.

    Raises:
        BadInput: the budget is impossible.
    """
    planning_key, held_out_key = jax.random.split(jax.random.key(seed))
    problem = make_problem(
        landscape,
        planning_key,
        num_fires=setting.planning_fires,
        num_steps=setting.num_steps,
        climate=setting.climate,
        budget_share=setting.budget_share,
        seed=seed,
        constants=constants,
    )
    held_out = draw_fires(held_out_key, landscape.burnable, setting.held_out_fires, setting.climate)
    return problem, draw_passages(landscape, held_out, constants)


def compare(
    landscapes: Sequence[Landscape],
    seed: int = 0,
    setting: Setting = USUAL,
    heuristics: Mapping[str, Heuristic] = HEURISTICS,
) -> dict[str, list[Judged]]:
    """Lets every heuristic place breaks in every landscape, and burns them with the same held-out fires.

    Args:
        seed: the fires of landscape ``i`` come from ``seed + i``.

    Returns:
        For each heuristic what it did in each landscape.

    Raises:
        BadInput: the budget is impossible.
    """
    results: dict[str, list[Judged]] = {name: [] for name in heuristics}
    for number, landscape in enumerate(landscapes):
        problem, held_out = problem_and_judges(landscape, seed + number, setting)
        for name, heuristic in heuristics.items():
            results[name].append(judge(heuristic(problem), landscape, held_out, setting.num_steps))
    return results


def judge(breaks: np.ndarray, landscape: Landscape, held_out: Passages, num_steps: int) -> Judged:
    """What held-out fires do against some breaks, bool ``[H, W]``."""
    share = burned_share(held_out, landscape.burnable, num_steps, breaks)
    probability = burn_probability(burned(held_out, num_steps, breaks), held_out.num_fires)
    return Judged(breaks, float(share.mean), float(share.standard_error), np.asarray(probability))


def table(results: Mapping[str, Sequence[Judged]]) -> list[str]:
    """A line for each heuristic: cells of break, burned share, its standard error, the part saved of what burns without breaks,
    and how many cells a fire burns less for each cell of break.

    The standard error is that of the mean over these landscapes, from the fires in each; it does not say how far other
    landscapes would differ.
    """
    means = {name: np.mean([one.burned_share for one in judged]) for name, judged in results.items()}
    width = max(map(len, results))
    lines = [f"{'breaks':{width}}  cells  burned   error  saved  per cell"]
    for name, judged in results.items():
        error = np.sqrt(np.sum([one.standard_error**2 for one in judged])) / len(judged)
        cells = np.mean([one.breaks.sum() for one in judged])
        saved = f"{1 - means[name] / means['none']:6.1%}" if means.get("none") else "     -"
        each = "       -" if (one := saved_per_cell(results, name)) is None else f"{one:8.1f}"
        lines.append(f"{name:{width}}  {cells:5.1f}  {means[name]:.4f}  {error:.4f}  {saved}  {each}")
    return lines


def saved_per_cell(results: Mapping[str, Sequence[Judged]], name: str) -> float | None:
    """How many cells a fire burns less, on average, for each cell of break; None without breaks or without ``"none"``."""
    cells = sum(int(one.breaks.sum()) for one in results[name])
    if not cells or "none" not in results:
        return None
    burned_without, burned_with = (sum(float(one.burn_probability.sum()) for one in results[key]) for key in ("none", name))
    return (burned_without - burned_with) / cells
