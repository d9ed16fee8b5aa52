"""Maps with matplotlib: each function draws one thing on given axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from flowrl.errors import BadInput
from flowrl.fire.landscapes.landscape import Landscape, Vegetation

_COLOURS = {"does not burn": "#c8d3dc", "agriculture": "#e8dca0", "shrubs": "#a9c47f", "pine": "#3f7f4c"}
_BREAKS = "#1f3fbf"


def draw_vegetation(axes: Axes, landscape: Landscape) -> None:
    """The kinds of vegetation; denser ones are drawn darker, and what does not burn is grey."""
    classes = np.where(landscape.burnable, landscape.vegetation + 1, 0)
    axes.imshow(classes, cmap=ListedColormap(list(_COLOURS.values())), vmin=-0.5, vmax=len(Vegetation) + 0.5)
    shade = np.where(landscape.burnable, landscape.density, 0) * 0.12
    axes.imshow(np.zeros((*landscape.shape, 3)), alpha=shade)
    axes.legend(
        handles=[Patch(facecolor=colour, label=name) for name, colour in _COLOURS.items()],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.02),
        ncols=2,
        frameon=False,
    )
    _without_ticks(axes)


def draw_probability(axes: Axes, probability: np.ndarray, burnable: np.ndarray) -> Any:
    """Burn probabilities ``[H, W]``, white where a fire never came and grey where nothing burns; returns the image."""
    axes.imshow(np.ones((*burnable.shape, 3)) * np.where(burnable, 1.0, 0.82)[..., None])
    image = axes.imshow(np.ma.masked_less_equal(probability, 0), cmap="inferno_r", vmin=0, vmax=1)
    _without_ticks(axes)
    return image


def draw_breaks(axes: Axes, breaks: np.ndarray) -> None:
    """Break cells ``[H, W]`` in blue."""
    axes.imshow(np.ma.masked_equal(breaks.astype(float), 0), cmap=ListedColormap([_BREAKS]))


def draw_outline(axes: Axes, cells: np.ndarray, colour: str) -> None:
    """The border of some cells ``[H, W]``, along their sides."""
    height, width = cells.shape
    padded = np.pad(cells, 1)
    for row, column in np.argwhere(padded[:-1, 1:-1] != padded[1:, 1:-1]):
        axes.plot([column - 0.5, column + 0.5], [row - 0.5, row - 0.5], color=colour, linewidth=1.6)
    for row, column in np.argwhere(padded[1:-1, :-1] != padded[1:-1, 1:]):
        axes.plot([column - 0.5, column - 0.5], [row - 0.5, row + 0.5], color=colour, linewidth=1.6)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def new_figure(columns: int, rows: int = 1, side: float = 4.6) -> tuple[Figure, np.ndarray]:
    """A figure with a grid of square axes, ``[rows, columns]``. It belongs to no window and no global state."""
    figure = Figure(figsize=(side * columns, side * 1.12 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: Figure, path: Path | str) -> None:
    """Writes a picture.

    Raises:
        BadInput: the folder is missing, or matplotlib knows no such ending.
    """
    try:
        figure.savefig(path, dpi=120)
    except (ValueError, OSError) as error:
        raise BadInput(f"the picture {path} cannot be written: {str(error).splitlines()[0]}") from None


def _without_ticks(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
