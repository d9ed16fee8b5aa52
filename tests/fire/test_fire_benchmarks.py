"""The benchmarks of the fire room run, and what they print adds up; what they measure is not judged here."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

from tests.fire.scenes import rough

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks.{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_fires_a_second_and_the_time_of_a_fire_say_the_same(capsys):
    load("fires").main(["--quick", "--repeats", "1"])
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("10 x 10, 24 steps, 64 fires")
    fires_a_second, _, us_a_fire, ns_a_cell = (float(word.replace(",", "")) for word in row.split("fires")[1].split())
    assert us_a_fire == pytest.approx(1e6 / fires_a_second, rel=0.05, abs=0.06)
    assert ns_a_cell == pytest.approx(us_a_fire * 1e3 / 100, rel=0.05, abs=0.6)


def test_the_peer_is_given_the_slopes_from_each_neighbour():
    landscape = rough(0, 5, 6)
    slopes = load("fires").slopes_deg(landscape)
    rise = float(landscape.elevation_m[2, 3] - landscape.elevation_m[1, 2])
    assert slopes[2, 3, 0, 0] == pytest.approx(math.degrees(math.atan(rise / math.hypot(100, 100))), rel=1e-5)
    assert not slopes[:, :, 1, 1].any() and np.isfinite(slopes).all()


def test_the_stand_in_for_spetses_is_printed_beside_the_published_figures(capsys):
    load("spetses").main(["--cell_size", "300", "--fires", "32"])
    printed = capsys.readouterr().out
    assert "5.4 km2 simulated, 5.9 km2 burned, in 11 h" in printed and len(printed.splitlines()) == 7
