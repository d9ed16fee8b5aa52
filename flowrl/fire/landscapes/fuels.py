"""Fuel models as classes of vegetation and density, by the table in ``fuel_models.json``, which also says why."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import NamedTuple

import numpy as np

from flowrl.errors import BadInput
from flowrl.fire.landscapes.landscape import Density, Vegetation
from flowrl.suggestions import unknown_choice

FBFM40 = "fbfm40"
"""The forty models of Scott and Burgan (2005), as LANDFIRE codes them."""
CANADIAN = "canadian"
"""The types of the Canadian Forest Fire Behavior Prediction System, as Cell2Fire codes them."""
SYSTEMS = (FBFM40, CANADIAN)
_MOST_LISTED = 5


class Fuels(NamedTuple):
    """Classes of each cell of a grid.

    Attributes:
        vegetation, density: int8 ``[H, W]``, :class:`~flowrl.fire.landscapes.landscape.Vegetation` and
            :class:`~flowrl.fire.landscapes.landscape.Density`; 0 where nothing burns.
        burnable: bool ``[H, W]``.
    """

    vegetation: np.ndarray
    density: np.ndarray
    burnable: np.ndarray


def classify(codes: np.ndarray, system: str, where: str = "the fuel layer") -> Fuels:
    """Classes from the codes of a fuel layer.

    Args:
        codes: numbers ``[H, W]``; NaN is no data and does not burn.
        system: one of :data:`SYSTEMS`.
        where: the layer's name, for errors.

    Raises:
        BadInput: the system is unknown, or a code is none of the system's.
    """
    if system not in SYSTEMS:
        raise BadInput(unknown_choice("fuel system", system, SYSTEMS))
    table = _table(system)
    found, places = np.unique(np.nan_to_num(codes, nan=0.0), return_inverse=True)
    unknown = [f"{code:g}" for code in found if code not in table]
    if unknown:
        listed = ", ".join(unknown[:_MOST_LISTED]) + (", ..." if len(unknown) > _MOST_LISTED else "")
        other = next(name for name in SYSTEMS if name != system)
        raise BadInput(f"{where} has codes that {system} does not know: {listed}; is it {other}, or another layer?")
    rows = np.array([table[code] for code in found], np.int8)[places.reshape(np.shape(codes))]
    return Fuels(rows[..., 0], rows[..., 1], rows[..., 2].astype(bool))


def guess_system(codes: np.ndarray) -> str:
    """The system whose codes these are.

    The two share codes above 100, which burn in FBFM40 only: a layer is Canadian if a code below 91 burns in it.
    """
    burning_below = [code for code in np.unique(codes[np.isfinite(codes)]) if 0 < code < 91]
    return CANADIAN if burning_below else FBFM40


@functools.cache
def _table(system: str) -> dict[float, tuple[int, int, int]]:
    """``{code: (vegetation, density, burnable)}``."""
    document = json.loads(resources.files("flowrl.fire.landscapes").joinpath("fuel_models.json").read_text())
    part = document["systems"][system]
    table = {float(code): (0, 0, 0) for code in part["does_not_burn"]}
    for code, (_, spread_rate, load) in part["models"].items():
        vegetation = Vegetation[document["vegetation_by_spread_rate"][spread_rate]]
        density = Density[document["density_by_load"][load]]
        table[float(code)] = (int(vegetation), int(density), 1)
    return table
