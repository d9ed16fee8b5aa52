"""The benchmarks of the fire room run, and what they print adds up; what they measure is not judged here."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from flowrl.files import read_json, write_json
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


def result_of(shares: dict[str, float]) -> dict:
    table = {name: {"burned": share} for name, share in shares.items()}
    return {"trained_areas": table, "test_areas": None}


def test_seeds_that_have_ended_are_summed_up_without_training(tmp_path, monkeypatch, capsys):
    lines = [{"burned": 0.3, "seconds": 60.0}, {"experiences": 3, "seconds": 90.0}, {"burned": 0.1, "seconds": 120.0}]
    for seed, share in enumerate((0.1, 0.3)):
        folder = tmp_path / f"seed_{3 + seed}"
        folder.mkdir()
        write_json(folder / "result.json", result_of({"sequential DPV": 0.2, "DQN": share}))
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    arguments = [
        "--seeds",
        "2",
        "--first_seed",
        "3",
        "--minutes",
        "4",
        "--folder",
        str(tmp_path),
        "--json",
        str(tmp_path / "found.json"),
    ]
    monkeypatch.setattr(sys, "argv", ["fuel_breaks.py", *arguments])
    load("fuel_breaks").main()
    found = read_json(tmp_path / "found.json")
    assert found["curve"][0] == [0.5, None] and found["curve"][-1] == [4.0, pytest.approx(0.1)]
    agent = found["trained_areas"]["DQN"]
    assert agent == pytest.approx({"burned": 0.2, "standard_error": 0.1, "ratio": 1.0, "ratio_error": 0.5})
    printed = capsys.readouterr().out
    assert "0.2000  0.1000  1.000 (+- 0.500)" in printed
    assert "0.5: nan  1.0: 0.3000  1.5: 0.3000  2.0: 0.1000" in printed and "never seen" not in printed


def test_further_settings_of_a_training_come_from_a_file_and_flags_win(tmp_path, monkeypatch):
    (tmp_path / "more.json").write_text('{"grid_size": 9, "network_width": 7}')
    arguments = ["--config", str(tmp_path / "more.json"), "--grid_size", "8", "--minutes", "3"]
    monkeypatch.setattr(sys, "argv", ["fuel_breaks.py", *arguments])
    benchmark = load("fuel_breaks")
    found = [benchmark.settings_of(benchmark.parsed(), seed, tmp_path) for seed in (0, 1)]
    assert [(one.grid_size, one.network_width, one.max_minutes) for one in found] == [(8, 7, 3.0)] * 2
    assert found[1].seed - found[0].seed >= found[0].num_landscapes  # no area is in two trainings
