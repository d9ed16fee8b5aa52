"""Layers in files: GeoTIFF, ESRI ASCII grids and numpy arrays. The one module that needs rasterio, and only for GeoTIFF."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowrl.errors import BadInput

SUFFIXES = (".tif", ".tiff", ".asc", ".npy")
_NO_DATA, _USUAL_NO_DATA = "nodata_value", -9999
"""The format's own value for cells without data, where a file does not give one."""
_ASCII_KEYS = ("ncols", "nrows", "xllcorner", "yllcorner", "xllcenter", "yllcenter", "cellsize", _NO_DATA)


class Georeference(NamedTuple):
    """Where a grid lies.

    Attributes:
        west, north: the outer corner of the cell in row 0, column 0, in units of the projection (metres here).
        cell_size_m: the side of a cell.
        projection: as well-known text or ``EPSG:...``; None where the file does not say (ESRI ASCII).
    """

    west: float
    north: float
    cell_size_m: float
    projection: str | None = None

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of the cell in which a point lies, perhaps outside the grid."""
        return int(np.floor((self.north - y) / self.cell_size_m)), int(np.floor((x - self.west) / self.cell_size_m))


class Raster(NamedTuple):
    """One layer.

    Attributes:
        values: float32 ``[H, W]``; NaN where there are no data.
        georeference: None for a file that does not say where it lies, as a numpy array never does.
        path: the file.
    """

    values: np.ndarray
    georeference: Georeference | None
    path: Path


def read_raster(path: Path | str) -> Raster:
    """Reads one layer; its ending says its format, one of :data:`SUFFIXES`.

    Raises:
        BadInput: the file is missing, broken, of another format, has more than one band, or cells that are not square; or
            it is a GeoTIFF and rasterio is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"there is no layer {path}")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadInput(f"{path} is not a layer: expected a file that ends in {', '.join(SUFFIXES)}")
    return {".asc": _read_ascii, ".npy": _read_array}.get(suffix, _read_geotiff)(path)


def write_geotiff(path: Path | str, values: np.ndarray, georeference: Georeference) -> None:
    """Writes one layer as a GeoTIFF with one band.

    Args:
        values: ``[H, W]``, bool, integers or floats; NaN is written as no data.
        georeference: where the grid lies, usually that of the layers which the values were made from.

    Raises:
        BadInput: rasterio is missing.
    """
    rasterio = _rasterio(Path(path))
    values = np.asarray(values)
    values = values.astype(np.uint8) if values.dtype == bool else values
    profile: dict[str, Any] = {"nodata": np.nan} if np.issubdtype(values.dtype, np.floating) else {}
    west, north, size, projection = georeference
    profile |= {"transform": rasterio.Affine(size, 0, west, 0, -size, north), "crs": projection}
    height, width = values.shape
    with rasterio.open(path, "w", driver="GTiff", height=height, width=width, count=1, dtype=values.dtype, **profile) as file:
        file.write(values, 1)


def _rasterio(path: Path) -> Any:
    try:
        import rasterio
    except ImportError:
        raise BadInput(f"{path} is a GeoTIFF, which needs rasterio: pip install 'flowrl[fire]'") from None
    return rasterio


def _read_geotiff(path: Path) -> Raster:
    rasterio = _rasterio(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            file = rasterio.open(path)
        with file:
            if file.count != 1:
                raise BadInput(f"{path} has {file.count} bands; a layer has one")
            values, transform = file.read(1, masked=True), file.transform
            _check_metres(path, file.crs)
            projection = file.crs.to_wkt() if file.crs else None
    except rasterio.errors.RasterioIOError as error:
        raise BadInput(f"{path} cannot be read as a GeoTIFF: {str(error).splitlines()[0]}") from None
    values = np.ma.filled(values.astype(np.float32), np.nan)
    if transform.is_identity:  # as rasterio reads a file that does not say where it lies
        return Raster(values, None, path)
    if transform.b or transform.d or not np.isclose(transform.a, -transform.e):
        raise BadInput(f"{path} needs square cells with north at the top, but one step is {transform.a} by {-transform.e}")
    georeference = Georeference(transform.c, transform.f, transform.a, projection)
    return Raster(values, georeference, path)


def _check_metres(path: Path, crs: Any) -> None:
    """
    Raises:
        BadInput: a projection is not in metres: slopes and distances would be wrong.
    """
    if not crs:
        return
    unit = "degree" if crs.is_geographic else crs.linear_units
    if unit.lower() not in ("metre", "meter", "m"):
        raise BadInput(f"{path} has coordinates in the unit {unit}; reproject all layers to metres, as gdalwarp -t_srs does")


def _read_array(path: Path) -> Raster:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} cannot be read as a numpy array: {str(error).splitlines()[0]}") from None
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "biuf" or not values.size:
        raise BadInput(f"{path} must hold one array of numbers [rows, columns], at least one of each")
    return Raster(values.astype(np.float32), None, path)


def _read_ascii(path: Path) -> Raster:
    """An ESRI ASCII grid: lines ``name value``, then the rows from north to south."""
    try:
        lines = path.read_text().splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise BadInput(f"{path} cannot be read as an ESRI ASCII grid: {str(error).splitlines()[0]}") from None
    header: dict[str, float] = {}
    for line in lines:
        words = line.split()
        if len(words) != 2 or words[0].lower() not in _ASCII_KEYS:
            break
        header[words[0].lower()] = _number(words[1], path)
    missing = [key for key in ("ncols", "nrows", "cellsize") if key not in header]
    if missing:
        raise BadInput(f"{path} is not an ESRI ASCII grid: its first lines do not say {', '.join(missing)}")
    _check_ascii_header(header, path)
    return Raster(_ascii_values(lines[len(header) :], header, path), _ascii_georeference(header), path)


def _check_ascii_header(header: dict[str, float], path: Path) -> None:
    for key, value in header.items():
        if key in ("ncols", "nrows"):
            fits, expected = value >= 1 and float(value).is_integer(), "a whole number, at least 1"
        elif key == "cellsize":
            fits, expected = 0 < value < math.inf, "more than 0"
        else:
            fits, expected = key == _NO_DATA or math.isfinite(value), "a number"
        if not fits:
            raise BadInput(f"{path} is not an ESRI ASCII grid: {key} must be {expected}, found {value:g}")


def _ascii_values(lines: Sequence[str], header: dict[str, float], path: Path) -> np.ndarray:
    rows, columns = int(header["nrows"]), int(header["ncols"])
    words = " ".join(lines).split()
    if len(words) != rows * columns:
        raise BadInput(f"{path} says that it has {rows} x {columns} cells, but holds {len(words)} values")
    try:
        values = np.array(words, np.float32).reshape(rows, columns)
    except ValueError as error:
        raise BadInput(f"{path} holds something that is not a number: {error}") from None
    return np.where(values == np.float32(header.get(_NO_DATA, _USUAL_NO_DATA)), np.float32(np.nan), values)


def _ascii_georeference(header: dict[str, float]) -> Georeference:
    size = header["cellsize"]
    west = header["xllcorner"] if "xllcorner" in header else header.get("xllcenter", size / 2) - size / 2
    south = header["yllcorner"] if "yllcorner" in header else header.get("yllcenter", size / 2) - size / 2
    return Georeference(west, south + header["nrows"] * size, size)


def _number(word: str, path: Path) -> float:
    try:
        return float(word)
    except ValueError:
        raise BadInput(f"{path} is not an ESRI ASCII grid: {word!r} in its first lines is not a number") from None
