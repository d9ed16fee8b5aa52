"""Landscapes: from layers in files, from fuel models, and made."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowrl.errors import BadInput
from flowrl.fire.landscapes.fuels import CANADIAN, FBFM40, classify, guess_system
from flowrl.fire.landscapes.landscape import Density, Vegetation, stack
from flowrl.fire.landscapes.layers import NAMES, NEEDED, landscape_of, read_folder, window
from flowrl.fire.landscapes.rasters import Georeference, read_raster, write_geotiff
from flowrl.fire.landscapes.synthetic import Recipe, correlated_field, make_synthetic
from tests.fire.data import landscapes, package
from tests.fire.scenes import plain

PLACE = Georeference(500.0, 900.0, 30.0, "EPSG:5070")
FUELS = np.array([[101, 122, 145], [98, np.nan, 183]], np.float32)
HEIGHTS = np.array([[1, 2, 3], [4, 5, np.nan]], np.float32)


def write_ascii(path, values, place=PLACE, header=""):
    rows, columns = values.shape
    south = place.north - rows * place.cell_size_m
    lines = [
        f"ncols {columns}",
        f"NROWS {rows}",
        f"xllcorner {place.west}",
        f"yllcorner {south}",
        f"cellsize {place.cell_size_m}",
    ]
    lines += ["NODATA_value -9999", *(" ".join(map(str, row)) for row in np.nan_to_num(values, nan=-9999.0))]
    path.write_text("\n".join([header, *lines] if header else lines) + "\n")


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture
def folder(tmp_path):
    """Fuels and elevation as ESRI ASCII grids."""
    write_ascii(tmp_path / "fuels.asc", FUELS)
    write_ascii(tmp_path / "elevation.asc", HEIGHTS)
    return tmp_path


# Files


def test_an_ascii_grid_is_read_as_it_was_written(folder):
    raster = read_raster(folder / "fuels.asc")
    assert np.array_equal(raster.values, FUELS, equal_nan=True)
    assert raster.georeference == PLACE._replace(projection=None)


def test_an_ascii_grid_may_give_the_middle_of_its_corner_cell(tmp_path):
    (tmp_path / "dem.asc").write_text("ncols 1\nnrows 2\nxllcenter 15\nyllcenter 5\ncellsize 10\n1\n2\n")
    assert read_raster(tmp_path / "dem.asc").georeference == Georeference(10.0, 20.0, 10.0)


def test_a_geotiff_keeps_values_no_data_and_place(tmp_path):
    package("rasterio")
    write_geotiff(tmp_path / "elevation.tif", HEIGHTS, PLACE)
    raster = read_raster(tmp_path / "elevation.tif")
    assert np.array_equal(raster.values, HEIGHTS, equal_nan=True)
    assert raster.georeference[:3] == PLACE[:3] and "5070" in raster.georeference.projection


def test_breaks_are_written_as_ones_and_zeros(tmp_path):
    package("rasterio")
    write_geotiff(tmp_path / "breaks.tif", HEIGHTS > 2, PLACE)
    assert np.array_equal(read_raster(tmp_path / "breaks.tif").values, HEIGHTS > 2)


@pytest.mark.parametrize(("projection", "unit"), [("EPSG:4326", "degree"), ("EPSG:2263", "US survey foot")])
def test_a_geotiff_that_is_not_in_metres_is_refused(tmp_path, projection, unit):
    package("rasterio")
    write_geotiff(tmp_path / "dem.tif", HEIGHTS, PLACE._replace(projection=projection))
    with pytest.raises(BadInput, match=f"coordinates in the unit {unit}; reproject all layers to metres") as error:
        read_raster(tmp_path / "dem.tif")
    one_line(error)


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_a_geotiff_may_lie_nowhere(tmp_path):
    with package("rasterio").open(
        tmp_path / "dem.tif", "w", driver="GTiff", height=2, width=3, count=1, dtype="float32"
    ) as file:
        file.write(HEIGHTS, 1)
    assert read_raster(tmp_path / "dem.tif").georeference is None


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_a_geotiff_with_more_than_one_band_is_refused(tmp_path):
    with package("rasterio").open(
        tmp_path / "dem.tif", "w", driver="GTiff", height=2, width=3, count=2, dtype="float32"
    ) as file:
        file.write(np.stack([HEIGHTS, HEIGHTS]))
    with pytest.raises(BadInput, match="has 2 bands"):
        read_raster(tmp_path / "dem.tif")


def test_the_three_formats_give_the_same_landscape(tmp_path):
    package("rasterio")
    found = []
    for suffix in (".asc", ".tif", ".npy"):
        place = tmp_path / suffix[1:]
        place.mkdir()
        for name, values in (("fuels", FUELS), ("elevation", HEIGHTS)):
            if suffix == ".asc":
                write_ascii(place / f"{name}.asc", values)
            elif suffix == ".tif":
                write_geotiff(place / f"{name}.tif", values, PLACE)
            else:
                np.save(place / f"{name}.npy", values)
        found.append(landscape_of(read_folder(place), cell_size_m=30.0))
    for other in found[1:]:
        assert all(np.array_equal(first, second) for first, second in zip(found[0], other, strict=True))


def test_a_point_lies_in_the_cell_that_covers_it():
    assert PLACE.cell(500.0, 900.0) == (0, 0) and PLACE.cell(589.9, 840.1) == (1, 2)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.asc", "hello\n", "is not an ESRI ASCII grid"),
        ("a.asc", "ncols 2\nnrows 2\ncellsize 1\n1 2 3\n", "2 x 2 cells, but holds 3 values"),
        ("a.asc", "ncols 1\nnrows 1\ncellsize 1\nx\n", "not a number"),
        ("a.asc", "ncols two\nnrows 1\ncellsize 1\n1\n", "'two'"),
        ("a.asc", "ncols nan\nnrows 1\ncellsize 1\n1\n", "ncols must be a whole number, at least 1, found nan"),
        ("a.asc", "ncols 1\nnrows 0\ncellsize 1\n", "nrows must be a whole number, at least 1, found 0"),
        ("a.asc", "ncols 1\nnrows 1\ncellsize -30\n1\n", "cellsize must be more than 0, found -30"),
        ("a.asc", "ncols 1\nnrows 1\ncellsize inf\n1\n", "cellsize must be more than 0, found inf"),
        ("a.asc", "ncols 1\nnrows 1\nxllcorner nan\ncellsize 1\n1\n", "xllcorner must be a number, found nan"),
        ("a.npy", "not an array", "cannot be read as a numpy array"),
        ("a.npy", "PK\x03\x04 an archive that is none", "cannot be read as a numpy array"),
        ("a.png", "", "expected a file that ends in .tif"),
        ("a.tif", "not a tiff", "cannot be read as a GeoTIFF"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(tmp_path, name, content, said):
    if name.endswith(".tif"):
        package("rasterio")
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput) as error:
        read_raster(tmp_path / name)
    assert said in one_line(error) and name in one_line(error)


@pytest.mark.parametrize("shape", [(2, 2, 2), (0, 3)])
def test_an_array_of_more_than_two_axes_or_without_a_cell_is_refused(tmp_path, shape):
    np.save(tmp_path / "fuels.npy", np.zeros(shape))
    with pytest.raises(BadInput, match="one array of numbers"):
        read_raster(tmp_path / "fuels.npy")


@pytest.mark.parametrize(("line", "missing"), [("", -9999), ("NODATA_value -1\n", -1), ("nodata_value nan\n", None)])
def test_cells_without_data_have_the_usual_value_where_an_ascii_grid_names_none(tmp_path, line, missing):
    (tmp_path / "a.asc").write_text(f"ncols 2\nnrows 1\ncellsize 1\n{line}{'nan' if missing is None else missing} 7\n")
    assert np.isnan(read_raster(tmp_path / "a.asc").values).tolist() == [[True, False]]


# Layers that belong together


def test_no_data_water_and_cells_without_elevation_do_not_burn(folder):
    landscape = landscape_of(read_folder(folder))
    assert landscape.burnable.tolist() == [[True, True, True], [False, False, False]]
    assert landscape.cell_size_m == 30 and np.isfinite(landscape.elevation_m).all()


def test_a_missing_layer_is_named(folder):
    (folder / "elevation.asc").unlink()
    with pytest.raises(BadInput) as error:
        read_folder(folder)
    assert "no layer elevation" in one_line(error)


def test_layers_of_different_shape_are_named_with_their_shapes(folder):
    write_ascii(folder / "elevation.asc", HEIGHTS[:, :2])
    with pytest.raises(BadInput) as error:
        read_folder(folder)
    assert "fuels has 2 x 3" in one_line(error) and "elevation 2 x 2" in one_line(error)


@pytest.mark.parametrize(
    ("changed", "word"), [({"west": 530.0}, "place"), ({"north": 901.0}, "place"), ({"cell_size_m": 10.0}, "cell size")]
)
def test_layers_of_different_grids_are_refused(folder, changed, word):
    write_ascii(folder / "elevation.asc", HEIGHTS, PLACE._replace(**changed))
    with pytest.raises(BadInput, match=f"differ in {word}") as error:
        read_folder(folder)
    one_line(error)


def test_layers_of_different_projection_are_refused(tmp_path):
    package("rasterio")
    write_geotiff(tmp_path / "fuels.tif", FUELS, PLACE)
    write_geotiff(tmp_path / "elevation.tif", HEIGHTS, PLACE._replace(projection="EPSG:3812"))
    with pytest.raises(BadInput, match="differ in projection") as error:
        read_folder(tmp_path)
    one_line(error)


def test_two_files_for_one_layer_are_refused(folder):
    np.save(folder / "dem.npy", HEIGHTS)
    with pytest.raises(BadInput, match="more than one layer elevation: dem.npy, elevation.asc"):
        read_folder(folder)


def test_arrays_need_a_cell_size(tmp_path):
    np.save(tmp_path / "fuels.npy", FUELS)
    np.save(tmp_path / "elevation.npy", HEIGHTS)
    with pytest.raises(BadInput, match="give its side in metres"):
        landscape_of(read_folder(tmp_path))


def test_a_cell_size_that_contradicts_the_layers_is_refused(folder):
    assert landscape_of(read_folder(folder), cell_size_m=30.0).cell_size_m == 30
    with pytest.raises(BadInput, match="cells of 30 m, but a cell size of 10 m was given"):
        landscape_of(read_folder(folder), cell_size_m=10.0)


def test_a_landscape_in_which_nothing_burns_is_refused(folder):
    write_ascii(folder / "fuels.asc", np.full((2, 3), 98.0))
    with pytest.raises(BadInput, match="nothing burns"):
        landscape_of(read_folder(folder))


def test_a_layer_that_is_no_layer_of_ours_is_refused(folder):
    with pytest.raises(BadInput, match="did you mean slope"):
        read_folder(folder, ["slop"])
    with pytest.raises(BadInput, match="no folder"):
        read_folder(folder / "nowhere")


def test_a_window_knows_where_it_lies(folder):
    part = window(read_folder(folder), 0, 1, 1, 2)
    assert part.values["elevation"].tolist() == [[2, 3]]
    assert part.georeference[:3] == (530.0, 900.0, 30.0)
    with pytest.raises(BadInput, match="do not lie in 2 x 3"):
        window(read_folder(folder), 0, 2, 1, 2)


def test_a_batch_needs_landscapes_of_one_shape():
    assert stack([plain(3, 4), plain(3, 4)]).vegetation.shape == (2, 3, 4)
    for several in ([plain(3, 4), plain(4, 3)], []):
        with pytest.raises(BadInput, match="of one shape"):
            stack(several)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"density": np.zeros((3, 2))}, "density 3 x 2"),
        ({"vegetation": np.full((3, 3), 3)}, "vegetation classes are 0 to 2"),
        ({"cell_size_m": 0.0}, "positive number of metres"),
        ({"elevation_m": np.full((3, 3), np.nan)}, "nothing burns"),
    ],
)
def test_impossible_landscapes_are_refused(changed, said):
    with pytest.raises(BadInput, match=said) as error:
        plain(3, 3, **changed)
    one_line(error)


# Fuel models


@pytest.mark.parametrize(
    ("system", "code", "vegetation", "density"),
    [
        (FBFM40, 101, Vegetation.SHRUBS, Density.SPARSE),  # GR1: moderate spread, sparse short grass
        (FBFM40, 145, Vegetation.PINE, Density.DENSE),  # SH5: very high spread, high load
        (FBFM40, 181, Vegetation.AGRICULTURE, Density.SPARSE),  # TL1: very low spread, low load
        (CANADIAN, 1, Vegetation.AGRICULTURE, Density.SPARSE),  # C-1: open spruce and lichen
        (CANADIAN, 2, Vegetation.PINE, Density.NORMAL),  # C-2: boreal spruce
    ],
)
def test_fuel_models_have_the_classes_of_their_description(system, code, vegetation, density):
    fuels = classify(np.array([[code]]), system)
    assert (fuels.vegetation[0, 0], fuels.density[0, 0], fuels.burnable[0, 0]) == (vegetation, density, True)


def test_the_table_has_all_forty_models_and_uses_only_words_that_it_explains():
    document = json.loads(resources.files("flowrl.fire.landscapes").joinpath("fuel_models.json").read_text())
    fbfm40 = document["systems"]["fbfm40"]
    assert len(fbfm40["models"]) == 40 and len(fbfm40["does_not_burn"]) == 6
    for system in document["systems"].values():
        for name, spread_rate, load in system["models"].values():
            assert spread_rate in document["vegetation_by_spread_rate"] and load in document["density_by_load"], name


def test_faster_fuels_and_larger_loads_never_have_a_lower_class():
    document = json.loads(resources.files("flowrl.fire.landscapes").joinpath("fuel_models.json").read_text())
    kinds = [Vegetation[name] for name in document["vegetation_by_spread_rate"].values()]
    loads = [Density[name] for name in document["density_by_load"].values()]
    assert kinds == sorted(kinds) and loads == sorted(loads)


def test_the_same_code_burns_in_one_system_and_not_in_the_other():
    codes = np.array([[101.0, 2.0]])
    assert guess_system(codes) == CANADIAN and guess_system(np.array([[101.0, 98.0, np.nan]])) == FBFM40
    assert classify(codes, CANADIAN).burnable.tolist() == [[False, True]]


def test_unknown_codes_are_named():
    with pytest.raises(BadInput) as error:
        classify(np.array([[101, 150, 7]]), FBFM40, "fuels.tif")
    assert one_line(error).startswith("fuels.tif has codes that fbfm40 does not know: 7, 150; is it canadian")
    with pytest.raises(BadInput, match="unknown fuel system"):
        classify(np.array([[101]]), "fbfm13")


# Real landscapes


@pytest.mark.parametrize(("name", "size"), [("cell2fire_20x20", 20), ("cell2fire_40x40", 40)])
def test_the_published_instances_are_read(name, size):
    landscape = landscape_of(read_folder(landscapes(name), NEEDED))
    assert landscape.shape == (size, size) and landscape.cell_size_m == 100
    codes = read_raster(landscapes(name) / "Forest.asc").values
    assert np.array_equal(landscape.burnable, codes < 101)
    assert landscape.elevation_m.max() > landscape.elevation_m.min() + 400


def test_the_40_x_40_instance_has_a_slope_of_another_size_and_says_so():
    with pytest.raises(BadInput, match="fuels has 40 x 40 .* slope 20 x 20"):
        read_folder(landscapes("cell2fire_40x40"))


def test_all_layers_of_landfire_are_read():
    package("rasterio")
    layers = read_folder(landscapes("landfire"))
    assert set(layers.values) == set(NAMES) and "5070" in layers.georeference.projection
    landscape = landscape_of(layers)
    assert landscape.shape == (613, 549) and landscape.cell_size_m == 30
    no_data = np.isnan(layers.values["fuels"])
    assert no_data.any() and not landscape.burnable[no_data].any()
    assert not landscape.burnable[np.isin(layers.values["fuels"], (91, 93, 98, 99))].any()


# Made landscapes


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(4, 30), st.integers(4, 30), st.floats(0, 0.9))
def test_made_landscapes_have_the_shares_that_were_asked_for(seed, height, width, not_burnable):
    recipe = Recipe(height, width, not_burnable=not_burnable)
    landscape = make_synthetic(seed, recipe)
    assert landscape.shape == (height, width)
    assert abs(landscape.burnable.sum() - (1 - not_burnable) * height * width) <= 1


def test_classes_come_in_the_shares_of_the_recipe():
    landscape = make_synthetic(0, Recipe(50, 50, not_burnable=0.0, vegetation=(0.5, 0.3, 0.2), density=(0.1, 0.1, 0.8)))
    assert np.allclose(np.bincount(landscape.vegetation.ravel()) / 2500, (0.5, 0.3, 0.2), atol=1e-3)
    assert np.allclose(np.bincount(landscape.density.ravel()) / 2500, (0.1, 0.1, 0.8), atol=1e-3)


def test_the_seed_decides_a_made_landscape():
    first, again, other = make_synthetic(1), make_synthetic(1), make_synthetic(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first.vegetation, other.vegetation)


@pytest.mark.parametrize("length", [1.0, 3.0])
def test_fields_are_correlated_as_their_length_says(length):
    """Neighbours at distance d correlate by exp(-d^2 / 4 length^2); over many fields, so that the mean is close to it."""
    rng = np.random.default_rng(0)
    field = correlated_field(rng, (300, 300), length)
    for distance in (1, 2, 4):
        expected = np.exp(-(distance**2) / (4 * length**2))
        for one, other in ((field[distance:], field[:-distance]), (field[:, distance:], field[:, :-distance])):
            assert np.mean(one * other) == pytest.approx(expected, abs=0.06)


def test_opposite_edges_of_a_field_are_not_alike():
    rng = np.random.default_rng(0)
    fields = np.stack([correlated_field(rng, (20, 20), 3.0) for _ in range(200)])
    assert abs(np.mean(fields[:, 0] * fields[:, -1])) < 0.35 * np.mean(fields[:, 0] ** 2)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(height=0),
        Recipe(not_burnable=1.0),
        Recipe(correlation_cells=0.0),
        Recipe(vegetation=(0.5, 0.5)),
        Recipe(density=(0.0, 0.0, 0.0)),
    ],
)
def test_impossible_recipes_are_refused(recipe):
    with pytest.raises(BadInput) as error:
        make_synthetic(0, recipe)
    one_line(error)
