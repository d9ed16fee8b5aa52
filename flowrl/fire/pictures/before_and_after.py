"""A picture for people who plan breaks: the land with the breaks, and burn probabilities before and after."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from flowrl.fire.landscapes.landscape import Landscape
from flowrl.fire.pictures import maps


class Outcome(NamedTuple):
    """What fires do against some breaks.

    Attributes:
        breaks: bool ``[H, W]``.
        burned_share: of the cells that could burn without breaks, on average over fires.
        burn_probability: float ``[H, W]``.
    """

    breaks: np.ndarray
    burned_share: float
    burn_probability: np.ndarray


def draw(path: Path, title: str, landscape: Landscape, before: Outcome, after: Outcome) -> None:
    """Three maps side by side.

    Raises:
        BadInput: the picture cannot be written.
    """
    figure, grid = maps.new_figure(3)
    land, left, right = grid.ravel()
    maps.draw_vegetation(land, landscape)
    maps.draw_breaks(land, after.breaks)
    land.set_title(f"{title}: {int(after.breaks.sum())} break cells")
    image = maps.draw_probability(left, before.burn_probability, landscape.burnable)
    left.set_title(f"without breaks, fires burn {before.burned_share:.1%}")
    maps.draw_probability(right, after.burn_probability, landscape.burnable)
    maps.draw_breaks(right, after.breaks)
    right.set_title(
        f"with them {after.burned_share:.1%}: {saved_cells(landscape, before, after):.1f} cells saved per break cell"
    )
    figure.colorbar(image, ax=[left, right], shrink=0.8, label="burn probability; breaks are blue")
    maps.save(figure, path)


def saved_cells(landscape: Landscape, before: Outcome, after: Outcome) -> float:
    """Cells that a fire burns less on average, for each cell of break."""
    saved = (before.burned_share - after.burned_share) * int(landscape.burnable.sum())
    return saved / max(1, int(after.breaks.sum()))
