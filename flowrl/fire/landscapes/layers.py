"""The layers of one area: which file is which, whether they fit together, and the landscape that they make."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flowrl.errors import BadInput
from flowrl.fire.landscapes.fuels import classify, guess_system
from flowrl.fire.landscapes.landscape import Landscape, make_landscape
from flowrl.fire.landscapes.rasters import SUFFIXES, Georeference, Raster, read_raster
from flowrl.suggestions import unknown_choice

PATTERNS = {
    "fuels": r"fuels?|forest|fbfm40|f40|.*_f40_.*|.*fbfm40.*",
    "elevation": r"elevation|elev|dem|.*_elev_.*",
    "slope": r"slope|slp|.*_slpp?_.*|.*_slpd_.*",
    "aspect": r"aspect|asp|.*_asp_.*",
    "canopy_cover": r"canopy_?cover|cc|.*_cc_.*",
    "canopy_height": r"canopy_?height|ch|.*_ch_.*",
    "canopy_base_height": r"(canopy_?)?base_?height|cbh|.*_cbh_.*",
    "canopy_bulk_density": r"(canopy_?)?bulk_?density|cbd|.*_cbd_.*",
}
"""The layers, and the names of their files without the ending: plain words, those of Cell2Fire and those of LANDFIRE."""
NAMES = tuple(PATTERNS)
NEEDED = ("fuels", "elevation")
"""The layers without which there is no landscape. The others say more about it to those who look for it."""


class Layers(NamedTuple):
    """Layers of one area.

    Attributes:
        values: float32 ``[H, W]`` for each name in :data:`NAMES` that is there; NaN where there are no data.
        georeference: where they lie; None if no file says.
        paths: the file of each layer, for messages.
    """

    values: Mapping[str, np.ndarray]
    georeference: Georeference | None
    paths: Mapping[str, Path]


def read_folder(folder: Path | str, names: Collection[str] | None = None) -> Layers:
    """Reads the layers of a folder, each a file with one of the names in :data:`PATTERNS`; other files are left alone.

    Args:
        names: only these layers, each of which must be there; None for all that are.

    Raises:
        BadInput: there is no such folder, no such layer, more than one file for a layer, a file is broken, or the layers do
            not fit together.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}")
    for name in names or ():
        if name not in NAMES:
            raise BadInput(unknown_choice("layer", name, NAMES))
    found = {name: _file_of(name, folder) for name in (NAMES if names is None else names)}
    missing = [name for name in (NEEDED if names is None else names) if found[name] is None]
    if missing:
        example = f"{missing[0]}.tif, .asc or .npy"
        raise BadInput(f"{folder} has no layer {' and no '.join(missing)}: expected a file such as {example}")
    return combine({name: read_raster(path) for name, path in found.items() if path is not None})


def names_in(folder: Path | str) -> list[str]:
    """The layers that a folder has files for, in the order of :data:`NAMES`.

    Raises:
        BadInput: there is no such folder, or more than one file for a layer.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}")
    return [name for name in NAMES if _file_of(name, folder) is not None]


def combine(rasters: Mapping[str, Raster]) -> Layers:
    """Layers that were read one by one.

    Raises:
        BadInput: two of them differ in shape, place, cell size or projection.
    """
    first_name, first = next(iter(rasters.items()))
    placed = {name: raster for name, raster in rasters.items() if raster.georeference is not None}
    for name, raster in rasters.items():
        if raster.values.shape != first.values.shape:
            raise BadInput(
                f"layers differ in shape: {first_name} has {_size(first)} cells ({first.path}), {name} {_size(raster)}"
                f" ({raster.path}); cut them to the same grid, or name only the layers to read"
            )
    if not placed:
        return Layers({name: raster.values for name, raster in rasters.items()}, None, _paths(rasters))
    reference_name, reference = next(iter(placed.items()))
    for name, raster in placed.items():
        if (difference := _difference(reference.georeference, raster.georeference)) is not None:
            raise BadInput(
                f"layers differ in {difference}: {reference_name} ({reference.path}) and {name} ({raster.path});"
                " bring them to the same grid first"
            )
    projection = next((r.georeference.projection for r in placed.values() if r.georeference.projection), None)
    georeference = reference.georeference._replace(projection=projection)
    return Layers({name: raster.values for name, raster in rasters.items()}, georeference, _paths(rasters))


def landscape_of(layers: Layers, fuel_system: str | None = None, cell_size_m: float | None = None) -> Landscape:
    """The landscape that layers describe. Cells without a fuel or an elevation do not burn.

    Args:
        fuel_system: ``"fbfm40"`` or ``"canadian"``; None to tell by the codes.
        cell_size_m: metres, for layers that do not say it; None to take it from the layers.

    Raises:
        BadInput: a layer is missing, a fuel is unknown, the cell size is unknown or another than the layers', or nothing burns.
    """
    for name in NEEDED:
        if name not in layers.values:
            raise BadInput(f"a landscape needs the layer {name}, but only {', '.join(layers.values)} were read")
    cell_size_m = _cell_size(layers, cell_size_m)
    codes = layers.values["fuels"]
    fuels = classify(codes, fuel_system or guess_system(codes), str(layers.paths["fuels"]))
    return make_landscape(*fuels, layers.values["elevation"], cell_size_m)


def _cell_size(layers: Layers, given_m: float | None) -> float:
    if layers.georeference is None:
        if given_m is None:
            raise BadInput(
                "the layers do not say how large a cell is, as numpy arrays never do; give its side in metres (--cell_size)"
            )
        return given_m
    if given_m is not None and not np.isclose(given_m, layers.georeference.cell_size_m):
        raise BadInput(
            f"the layers have cells of {layers.georeference.cell_size_m:g} m, but a cell size of {given_m:g} m was given; "
            "leave it out"
        )
    return layers.georeference.cell_size_m


def window(layers: Layers, top: int, left: int, height: int, width: int) -> Layers:
    """A part of the layers, which knows where it lies.

    Raises:
        BadInput: it does not lie in them.
    """
    rows, columns = next(iter(layers.values.values())).shape
    if min(top, left) < 0 or min(height, width) < 1 or top + height > rows or left + width > columns:
        raise BadInput(f"{height} x {width} cells from row {top}, column {left} do not lie in {rows} x {columns} cells")
    part = {name: values[top : top + height, left : left + width] for name, values in layers.values.items()}
    place = layers.georeference
    if place is not None:
        place = place._replace(west=place.west + left * place.cell_size_m, north=place.north - top * place.cell_size_m)
    return Layers(part, place, layers.paths)


def _file_of(name: str, folder: Path) -> Path | None:
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and re.fullmatch(PATTERNS[name], path.stem.lower())
    ]
    if len(files) > 1:
        raise BadInput(f"{folder} has more than one layer {name}: {', '.join(path.name for path in files)}; keep one")
    return files[0] if files else None


def _difference(reference: Georeference, other: Georeference) -> str | None:
    """What keeps two grids from being the same, in a word; None if nothing does."""
    if not np.isclose(reference.cell_size_m, other.cell_size_m, rtol=1e-6):
        return "cell size"
    if reference.projection and other.projection and reference.projection != other.projection:
        return "projection"
    apart = max(abs(reference.west - other.west), abs(reference.north - other.north))
    # Files round their corners; a hundredth of a cell moves nothing.
    return "place" if apart > 0.01 * reference.cell_size_m else None


def _size(raster: Raster) -> str:
    return " x ".join(map(str, raster.values.shape))


def _paths(rasters: Mapping[str, Raster]) -> dict[str, Path]:
    return {name: raster.path for name, raster in rasters.items()}
