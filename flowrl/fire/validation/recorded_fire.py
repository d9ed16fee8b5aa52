"""A fire that happened, as a folder in the form of Cell2Fire-W describes it.

``Ignitions.csv`` names the cell where it began, row by row from the top left and from 1; ``Weather.csv`` has the wind of each
hour, speed in km/h and where it comes from; a shapefile has what burned. The layers lie beside them.
"""

from __future__ import annotations

import csv
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowrl.errors import BadInput
from flowrl.fire.landscapes.rasters import Georeference

_M_S = 1 / 3.6
"""One km/h in m/s."""


class RecordedFire(NamedTuple):
    """What is known of a fire.

    Attributes:
        row, column: the cell where it began.
        wind_speed_m_s, wind_from_deg: float ``[K]``, the winds that were recorded.
    """

    row: int
    column: int
    wind_speed_m_s: np.ndarray
    wind_from_deg: np.ndarray


def read_recorded_fire(folder: Path, columns: int) -> RecordedFire:
    """Reads the start and the winds of a fire.

    Args:
        columns: of the grid, to find the cell by its number.

    Raises:
        BadInput: a file is missing, or is not as described above.
    """
    ignitions, weather = folder / "Ignitions.csv", folder / "Weather.csv"
    number = _numbers(ignitions, "Ncell")[0]
    if number < 1 or not number.is_integer():
        raise BadInput(f"{ignitions} names cell {number:g}; cells are whole numbers from 1, row by row from the top left")
    cell = int(number) - 1
    speeds, directions = _numbers(weather, "WS"), _numbers(weather, "WD")
    if speeds.min() < 0:
        raise BadInput(f"{weather} has a wind of {speeds.min():g} km/h; speeds are 0 or more, and WD is where it comes from")
    return RecordedFire(cell // columns, cell % columns, speeds * _M_S, directions)


def read_scar(folder: Path, georeference: Georeference, shape: tuple[int, int]) -> np.ndarray:
    """The cells that burned: those whose middle lies in a polygon of the folder's shapefile.

    Returns:
        bool ``[H, W]``.

    Raises:
        BadInput: there is not exactly one shapefile, it cannot be read, no cell lies in it, or pyshp is missing.
    """
    from matplotlib.path import Path as Outline

    path = _shapefile(folder)
    rows, columns = np.indices(shape)
    size = georeference.cell_size_m
    middles = np.stack(
        [georeference.west + (columns.ravel() + 0.5) * size, georeference.north - (rows.ravel() + 0.5) * size], axis=1
    )
    burned = np.zeros(shape, bool)
    for rings in _polygons(path):
        inside = np.zeros(shape, bool)
        for ring in rings:  # a ring within another is a hole
            inside ^= Outline(ring).contains_points(middles).reshape(shape)
        burned |= inside
    if not burned.any():
        raise BadInput(f"no cell of the layers lies in the polygons of {path}; are they of the same projection?")
    return burned


def _numbers(path: Path, column: str) -> np.ndarray:
    if not path.is_file():
        raise BadInput(f"there is no {path}, which a recorded fire needs")
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise BadInput(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from None
    try:
        numbers = np.array([float(row[column]) for row in rows])
    except (KeyError, TypeError, ValueError):
        numbers = np.array([np.nan])
    if not len(numbers):
        raise BadInput(f"{path} has no line below its header")
    if not np.isfinite(numbers).all():
        raise BadInput(f"{path} needs a column {column} with a number in each line")
    return numbers


def _shapefile(folder: Path) -> Path:
    files = sorted(folder.glob("*.shp"))
    if len(files) != 1:
        raise BadInput(f"{folder} needs one shapefile with what burned, but has {len(files)}")
    return files[0]


def _polygons(path: Path) -> list[list[np.ndarray]]:
    """The rings of each polygon, float ``[points, 2]``."""
    shapefile = _pyshp(path)
    try:
        with shapefile.Reader(str(path)) as reader:
            shapes = reader.shapes()
    except (shapefile.ShapefileException, struct.error, OSError) as error:
        raise BadInput(f"{path} cannot be read as a shapefile: {str(error).splitlines()[0]}") from None
    return [np.split(np.array(shape.points)[:, :2], shape.parts[1:]) for shape in shapes if len(shape.points)]


def _pyshp(path: Path) -> Any:
    try:
        import shapefile
    except ImportError:
        raise BadInput(f"{path} is a shapefile, which needs pyshp: pip install 'flowrl[fire]'") from None
    return shapefile
