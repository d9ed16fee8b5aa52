"""The rules of placing breaks: the budget, which cells are allowed, which fires judge them, and the reward.

Everything but the fires is counted in numpy and in whole numbers, by these functions alone, so that every way of stepping
environments gives the same transitions.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.errors import BadInput
from flowrl.fire.heuristics.problem import budget_cells
from flowrl.fire.landscapes.landscape import Landscape
from flowrl.fire.spread import bits
from flowrl.fire.spread.automaton import burned
from flowrl.fire.spread.fires import FIRE_WINDS, WindClimate, draw_fires
from flowrl.fire.spread.passages import Passages, draw_passages

Reward = Literal["end", "difference"]
REWARDS: tuple[Reward, ...] = ("end", "difference")
USUAL_FIRES = 64
_SEEDS = 2**32


class BreakRules(NamedTuple):
    """How breaks are placed and judged.

    Attributes:
        budget: cells of break, as a share of the cells that burn.
        percentage_increment: cells placed in one step, in percent of all cells; 0 for one cell.
        memory_simulations: fires that judge the breaks of an episode.
        num_steps: how long a fire burns.
        climate: its winds.
        reward: ``"end"``, minus the burned share when the budget is spent, or ``"difference"``, what each step saves.
    """

    budget: float = 0.05
    percentage_increment: float = 0.0
    memory_simulations: int = USUAL_FIRES
    num_steps: int = 60
    climate: WindClimate = FIRE_WINDS
    reward: Reward = "end"

    def cells_per_step(self, shape: tuple[int, int]) -> int:
        """Cells placed in one step; the last step of a budget may place fewer."""
        return max(1, round(self.percentage_increment / 100 * shape[0] * shape[1]))


USUAL = BreakRules()


def check(rules: BreakRules) -> None:
    """
    Raises:
        BadInput: a rule is impossible.
    """
    if not 0 < rules.budget <= 1:
        raise BadInput(f"budget must be a share of what burns, more than 0 and at most 1, found {rules.budget}")
    if not 0 <= rules.percentage_increment <= 100:
        raise BadInput(f"percentage_increment must be from 0 to 100, found {rules.percentage_increment}")
    for name in ("memory_simulations", "num_steps"):
        if getattr(rules, name) < 1:
            raise BadInput(f"{name} must be at least 1, found {getattr(rules, name)}")
    if rules.reward not in REWARDS:
        raise BadInput(f"reward must be one of {', '.join(REWARDS)}, found {rules.reward!r}")


def budget_of(landscape: Landscape, rules: BreakRules) -> int:
    """Cells of break in a landscape."""
    return budget_cells(landscape, rules.budget)


def seed_number(seed: int) -> int:
    """A seed as JAX's random keys take it."""
    return int(seed) % _SEEDS


@partial(jax.jit, static_argnames="num_fires")
def fires_of_episode(
    landscape: Landscape, climate: WindClimate, seed: jax.Array, episode: jax.Array, num_fires: int
) -> Passages:
    """The fires that judge one episode: they depend on the environment's seed and the episode's number alone.

    Args:
        seed, episode: uint32 ``[]``.
    """
    key = jax.random.fold_in(jax.random.key(seed), episode)
    fires = draw_fires(key, jnp.asarray(landscape.burnable), num_fires, climate)
    return draw_passages(landscape, fires)


@jax.jit
def num_burned(passages: Passages, num_steps: int, breaks: jax.Array) -> jax.Array:
    """Cells that all fires together burn: int32 ``[]``. ``breaks`` is bool ``[H, W]``."""
    return jnp.sum(bits.count(burned(passages, num_steps, breaks)))


def place(breaks: np.ndarray, allowed: np.ndarray, cells: np.ndarray, left: int) -> tuple[np.ndarray, int]:
    """Breaks with some cells more, and the budget left.

    Args:
        breaks, allowed: bool ``[H, W]``.
        cells: flat indices, the best first; those beyond the budget are not placed.

    Raises:
        BadInput: a cell is not allowed, or named twice.
    """
    chosen = np.atleast_1d(cells)[:left].astype(int)
    if len(np.unique(chosen)) < len(chosen):
        raise BadInput(f"a step places different cells, found {chosen.tolist()}")
    for cell in chosen:
        if not 0 <= cell < breaks.size or not allowed.flat[cell]:
            raise BadInput(_why_not(breaks, cell))
    grown = breaks.copy()
    grown.flat[chosen] = True
    return grown, left - len(chosen)


def _why_not(breaks: np.ndarray, cell: int) -> str:
    if not 0 <= cell < breaks.size:
        return f"cell {cell} is not in the landscape, which has {breaks.size}"
    row, column = divmod(int(cell), breaks.shape[1])
    reason = "is a break already" if breaks.flat[cell] else "does not burn"
    return f"cell {cell} (row {row}, column {column}) {reason}; choose among the cells of the action mask"


def burned_share(burned_cells: int, num_fires: int, num_burnable: int) -> float:
    """The share of what can burn that a fire burns on average."""
    return burned_cells / (num_fires * num_burnable)


def reward(rules: BreakRules, before: float, after: float, is_over: bool) -> float:
    """The reward of a step.

    Args:
        before, after: burned shares; with ``"end"`` only the last one counts.
    """
    if rules.reward == "difference":
        return before - after
    return -after if is_over else 0.0
