"""What an agent sees: the layers of an area, the prevailing wind, the breaks so far and the budget left, as channels."""

from __future__ import annotations

import numpy as np

from flowrl.fire.breaks.areas import CANOPY, FireArea
from flowrl.fire.spread.fires import WindClimate
from flowrl.fire.spread.probabilities import ALEXANDRIDIS_2008

CHANNELS = (
    *("inside", "burnable", "vegetation", "density", "elevation"),
    *("slope_east", "slope_north", "wind_east", "wind_north"),
    *CANOPY,
    *("breaks", "budget_left"),
)
"""Channels of an observation. Fuels are three of them, slope and aspect the gradient's two parts."""
NUM_FIXED = len(CHANNELS) - 2
"""Channels that do not change while breaks are placed; the others come last."""
VECTORS = (
    (CHANNELS.index("slope_east"), CHANNELS.index("slope_north")),
    (CHANNELS.index("wind_east"), CHANNELS.index("wind_north")),
)
"""Channels that are the east and the north part of a vector."""
_ELEVATION_CELLS = 5.0
_WIND_M_S = 10.0
"""Scales that bring channels to the order of 1."""


def fixed_channels(area: FireArea, climate: WindClimate) -> np.ndarray:
    """The channels that stay: float32 ``[NUM_FIXED, H, W]``.

    Vegetation and density are the model's own terms ``p_veg`` and ``p_den``, slopes metres for each metre.
    """
    landscape = area.landscape
    burns = landscape.burnable.astype(np.float32)
    height = (landscape.elevation_m - landscape.elevation_m[landscape.burnable].mean()) / landscape.cell_size_m
    towards = np.deg2rad(climate.from_deg + 180.0)
    wind = climate.mean_speed_m_s / _WIND_M_S
    ones = np.ones_like(burns)
    channels = [
        ones,
        burns,
        np.asarray(ALEXANDRIDIS_2008.vegetation, np.float32)[landscape.vegetation] * burns,
        np.asarray(ALEXANDRIDIS_2008.density, np.float32)[landscape.density] * burns,
        height / _ELEVATION_CELLS,
        _gradient(landscape.elevation_m, axis=1) / landscape.cell_size_m,
        -_gradient(landscape.elevation_m, axis=0) / landscape.cell_size_m,  # rows go southwards
        ones * wind * np.sin(towards),
        ones * wind * np.cos(towards),
        *area.canopy,
    ]
    return np.stack(channels).astype(np.float32)


def changing_channels(breaks: np.ndarray, left: int) -> np.ndarray:
    """The channels that change: float32 ``[2, H, W]``. The budget is in straight rows of the area, so in any size alike."""
    return np.stack([breaks, np.full(breaks.shape, left / np.sqrt(breaks.size))]).astype(np.float32)


def allowed_cells(burnable: np.ndarray, breaks: np.ndarray) -> np.ndarray:
    """Where a break may be placed: bool, the shape of both."""
    return burnable & ~breaks


def _gradient(values: np.ndarray, axis: int) -> np.ndarray:
    return np.gradient(values, axis=axis) if values.shape[axis] > 1 else np.zeros_like(values)
