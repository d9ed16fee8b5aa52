"""How far simulated fires cover one that happened."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from flowrl.fire.landscapes.landscape import Landscape
from flowrl.fire.spread.automaton import NEVER, arrival_steps
from flowrl.fire.spread.fires import given_fires
from flowrl.fire.spread.passages import draw_passages
from flowrl.fire.spread.probabilities import ALEXANDRIDIS_2008, Constants
from flowrl.fire.validation.recorded_fire import RecordedFire


class Overlap(NamedTuple):
    """Many simulations of one fire beside what it burned, after 0 to ``T`` steps.

    Attributes:
        arrivals: int32 ``[N, H, W]``, as in :func:`~flowrl.fire.spread.automaton.arrival_steps`.
        scar: bool ``[H, W]``, what burned.
        jaccard: float ``[T + 1]``, of the cells that at least half of the fires have burned by then, and the scar.
        single_jaccard: float ``[T + 1]``, the mean over fires of each fire's own.
        mean_cells: float ``[T + 1]``, what a fire has burned by then.
    """

    arrivals: np.ndarray
    scar: np.ndarray
    jaccard: np.ndarray
    single_jaccard: np.ndarray
    mean_cells: np.ndarray

    @property
    def best_step(self) -> int:
        """After how many steps the burn probability covers the scar best."""
        return int(np.argmax(self.jaccard))

    def burn_probability(self, step: int) -> np.ndarray:
        """The share of fires that have burned each cell by a step: float ``[H, W]``."""
        return _burned_by(self.arrivals, step).mean(axis=0)


def jaccard(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cells in both over cells in either, ``|A and B| / |A or B|``; 1 where both are empty (Jaccard 1912).

    Args:
        first, second: bool ``[..., H, W]``, broadcast against each other.

    Returns:
        float ``[...]``.
    """
    both, either = (np.sum(cells, axis=(-2, -1)) for cells in (first & second, first | second))
    return np.where(either == 0, 1.0, both / np.maximum(either, 1))


def simulate_recorded(
    landscape: Landscape,
    fire: RecordedFire,
    scar: np.ndarray,
    *,
    num_fires: int = 1000,
    num_steps: int = 60,
    seed: int = 0,
    constants: Constants = ALEXANDRIDIS_2008,
) -> Overlap:
    """Burns a recorded fire many times from its start, in its winds, which take turns over the fires."""
    turns = np.arange(num_fires) % len(fire.wind_speed_m_s)
    fires = given_fires(
        jax.random.key(seed), num_fires, fire.row, fire.column, fire.wind_speed_m_s[turns], fire.wind_from_deg[turns]
    )
    arrivals = np.asarray(arrival_steps(draw_passages(landscape, fires, constants), num_steps))
    common, single, cells = [], [], []
    for step in range(num_steps + 1):
        burned = _burned_by(arrivals, step)
        common.append(jaccard(burned.mean(axis=0) >= 0.5, scar))
        single.append(jaccard(burned, scar).mean())
        cells.append(burned.sum(axis=(1, 2)).mean())
    return Overlap(arrivals, scar, np.array(common), np.array(single), np.array(cells))


def _burned_by(arrivals: np.ndarray, step: int) -> np.ndarray:
    return (arrivals != NEVER) & (arrivals <= step)
