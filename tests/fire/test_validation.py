"""Simulated fires beside a recorded one: overlap, files, the command, and the real fire of Clinge."""

from __future__ import annotations

import numpy as np
import pytest

from flowrl.errors import BadInput
from flowrl.fire import compare_heuristics, compare_with_scar
from flowrl.fire.compare_with_scar import ScarSettings
from flowrl.fire.landscapes.rasters import Georeference
from flowrl.fire.pictures import paths
from flowrl.fire.validation.overlap import jaccard, simulate_recorded
from flowrl.fire.validation.recorded_fire import RecordedFire, read_recorded_fire, read_scar
from tests.fire.data import landscapes, package
from tests.fire.scenes import plain


def write_polygons(path, polygons):
    with package("shapefile").Writer(str(path)) as writer:
        writer.field("name", "C")
        for rings in polygons:
            writer.poly(rings)
            writer.record("x")


@pytest.fixture
def folder(tmp_path):
    """A small recorded fire on 12 x 12 cells of 10 m: it began in row 6, column 6, and burned 3 x 3 cells."""
    package("shapefile")
    header = "ncols 12\nnrows 12\nxllcorner 0\nyllcorner 0\ncellsize 10\n"
    for name, value, corner in (("fuels", 102, 98), ("elevation", 5, 5)):  # water in the corner
        values = [[str(value)] * 12 for _ in range(12)]
        values[0][0] = str(corner)
        (tmp_path / f"{name}.asc").write_text(header + "\n".join(map("\t".join, values)))
    (tmp_path / "Ignitions.csv").write_text("Year,Ncell\n1,79\n")
    (tmp_path / "Weather.csv").write_text("Instance,datetime,WS,WD\nBE,a,36,270\nBE,b,18,90\n")
    write_polygons(tmp_path / "scar.shp", [[[(50, 40), (50, 70), (80, 70), (80, 40), (50, 40)]]])
    return tmp_path


def test_the_jaccard_index():
    first = np.array([[1, 1], [0, 0]], bool)
    assert jaccard(first, np.array([[1, 0], [1, 0]], bool)) == pytest.approx(1 / 3)
    assert jaccard(first, first) == 1 and jaccard(first, ~first) == 0
    assert jaccard(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 1
    assert jaccard(np.stack([first, ~first]), first).tolist() == [1, 0]


def test_a_recorded_fire_is_read_with_its_cell_and_its_winds_in_metres_per_second(folder):
    fire = read_recorded_fire(folder, columns=12)
    assert (fire.row, fire.column) == (6, 6)
    assert fire.wind_speed_m_s.tolist() == pytest.approx([10, 5]) and fire.wind_from_deg.tolist() == [270, 90]


def test_a_scar_covers_the_cells_whose_middle_it_covers_without_its_holes(folder):
    place = Georeference(0.0, 120.0, 10.0)
    expected = np.zeros((12, 12), bool)
    expected[5:8, 5:8] = True
    assert np.array_equal(read_scar(folder, place, (12, 12)), expected)
    hole = [(60, 50), (70, 50), (70, 60), (60, 60), (60, 50)]
    write_polygons(folder / "scar.shp", [[[(50, 40), (50, 70), (80, 70), (80, 40), (50, 40)], hole]])
    expected[6, 6] = False
    assert np.array_equal(read_scar(folder, place, (12, 12)), expected)


def test_overlap_follows_the_fire_step_by_step():
    """Without wind, everything burnable at once: the fire is a square that grows by one cell each step."""
    landscape = plain(12, 12, vegetation=np.full((12, 12), 2), density=np.full((12, 12), 2))  # p = 1.06, clipped to 1
    scar = np.zeros((12, 12), bool)
    scar[3:8, 3:8] = True
    fire = RecordedFire(5, 5, np.array([0.0]), np.array([0.0]))
    overlap = simulate_recorded(landscape, fire, scar, num_fires=64, num_steps=4)
    assert overlap.mean_cells.tolist() == [1, 9, 25, 49, 81]
    assert np.allclose(overlap.jaccard, [1 / 25, 9 / 25, 1, 25 / 49, 25 / 81])
    assert np.allclose(overlap.single_jaccard, overlap.jaccard) and overlap.best_step == 2
    assert np.array_equal(overlap.burn_probability(2), scar)


def test_winds_take_turns_over_the_fires():
    landscape = plain(12, 12, vegetation=np.full((12, 12), 0), density=np.full((12, 12), 0))
    fire = RecordedFire(6, 6, np.array([14.0, 14.0]), np.array([270.0, 90.0]))
    overlap = simulate_recorded(landscape, fire, np.zeros((12, 12), bool), num_fires=64, num_steps=4)
    burned = overlap.arrivals >= 0
    east, west = burned[:, :, 7:].sum(axis=(1, 2)), burned[:, :, :6].sum(axis=(1, 2))
    assert (east - west)[::2].mean() > 0.5 and (east - west)[1::2].mean() < -0.5


def test_the_command_prints_the_overlap_and_draws_a_picture(folder, capsys):
    flags = ["--layers", str(folder), "--fires", "64", "--num_steps", "4", "--output", str(folder / "scar.png")]
    assert compare_with_scar.main(flags) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "the real fire burned: 9 cells, 0.09 ha; 64 simulated fires"
    assert sum(line.endswith("best") for line in printed) == 1
    assert (folder / "scar.png").read_bytes().startswith(b"\x89PNG") and (folder / "scar.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("Ignitions.csv", None, "there is no "),
        ("Ignitions.csv", "Year,Cell\n1,2\n", "needs a column Ncell"),
        ("Ignitions.csv", "Year,Ncell\n", "no line below its header"),
        ("Ignitions.csv", "Year,Ncell\n1,9999\n", "the layers have 12 rows"),
        ("Ignitions.csv", "Year,Ncell\n1,nan\n", "needs a column Ncell with a number"),
        ("Ignitions.csv", "Year,Ncell\n1,0\n", "names cell 0; cells are whole numbers from 1"),
        ("Ignitions.csv", "Year,Ncell\n1,1\n", "began in row 0, column 0, which does not burn"),
        ("Weather.csv", "WS,WD\nfast,90\n", "needs a column WS with a number"),
        ("Weather.csv", "WS,WD\n10,inf\n", "needs a column WD with a number"),
        ("Weather.csv", "WS,WD\n-10,90\n", "has a wind of -10 km/h; speeds are 0 or more"),
        ("Weather.csv", b"WS,WD\n\xff\xfe,90\n", "cannot be read as a table"),
        ("scar.shp", "no shapefile", "cannot be read as a shapefile"),
        ("scar.shp", None, "needs one shapefile"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder, capsys, file, content, said):
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert compare_with_scar.main(["--layers", str(folder)]) == 2
    printed = capsys.readouterr().err
    assert said in printed and printed.count("\n") == 1


@pytest.mark.parametrize("command", ["scar", "heuristics"])
def test_without_matplotlib_a_picture_is_refused_before_anything_is_computed(folder, capsys, monkeypatch, command):
    monkeypatch.setattr(paths.importlib.util, "find_spec", lambda name: None)
    if command == "scar":
        assert compare_with_scar.main(["--layers", str(folder)]) == 2
    else:
        assert compare_heuristics.main(["--output", str(folder / "breaks.png")]) == 2
    printed = capsys.readouterr()
    assert "matplotlib, which is missing: pip install 'flowrl[fire]'" in printed.err and not printed.out


def test_a_scar_beside_the_layers_is_refused(folder):
    with pytest.raises(BadInput, match="same projection"):
        read_scar(folder, Georeference(5000.0, 120.0, 10.0), (12, 12))


def test_the_fire_of_clinge_is_where_its_record_says_and_the_model_covers_a_third_of_it():
    """The overlap that docs/fire.md gives, with fewer fires; it is no better with the published constants."""
    package("shapefile")
    landscape, fire, scar = compare_with_scar.read(ScarSettings(landscapes("clinge"), num_steps=30))
    assert scar.sum() == 253 and scar[fire.row, fire.column] and landscape.burnable[fire.row, fire.column]
    overlap = simulate_recorded(landscape, fire, scar, num_fires=64, num_steps=30)
    assert 0.27 < overlap.jaccard.max() < 0.40
    assert 7 <= overlap.best_step <= 16
