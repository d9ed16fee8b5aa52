"""The demo: what it prints for the speeds that it finds, and how speeds are measured."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from flowrl.fire import demo_parallel_training as demo
from flowrl.fire.breaks import throughput
from flowrl.fire.breaks.areas import made_areas
from flowrl.fire.breaks.rules import BreakRules
from flowrl.fire.breaks.throughput import Throughput


@pytest.fixture
def speeds(monkeypatch):
    """Experiences per second by method and number of environments, in place of measurements."""
    found = {("sequential", 8): 100.0, ("threading", 8): 150.0, ("multiprocessing", 8): 120.0, ("vmap", 8): 2000.0}
    found |= {("vmap", 1): 400.0, ("vmap", 2): 800.0, ("vmap", 4): 1900.0, ("vmap", 16): 2050.0}

    def measure(areas, rules, method, num_envs, seconds) -> Throughput:
        return Throughput(method, num_envs, found[method, num_envs])

    monkeypatch.setattr(throughput, "measure", measure)
    return found


def measured(printed: str) -> list[list[str]]:
    """The words of each line with a speed."""
    return [line.split() for line in printed.splitlines() if "experiences/s" in line]


def test_the_demo_compares_methods_with_sequential_and_recommends_the_fewest_environments_that_are_fast(speeds, capsys):
    assert demo.main(["--grid_size", "8"]) == 0
    assert [(line[0], int(line[1]), line[-2]) for line in measured(capsys.readouterr().out)] == [
        ("sequential", 8, "1.0"),
        ("vmap", 8, "20.0"),
        ("threading", 8, "1.5"),
        ("multiprocessing", 8, "1.2"),
        ("vmap", 1, "1.0"),
        ("vmap", 2, "2.0"),
        ("vmap", 4, "4.8"),
        ("vmap", 8, "5.0"),
        ("vmap", 16, "5.1"),
    ]


def test_the_recommended_settings_are_keys_of_a_config_file(speeds, capsys):
    demo.main(["--grid_size", "8"])
    printed = capsys.readouterr().out
    assert 'Recommended here: "parallel_method": "vmap", "num_parallel_envs": 4. More environments than that are' in printed


def test_of_more_environments_than_were_measured_nothing_is_said(speeds, capsys):
    speeds["vmap", 16] = 4000.0
    demo.main(["--grid_size", "8"])
    assert '"num_parallel_envs": 16.\n' in capsys.readouterr().out


def test_a_slow_machine_measures_fewer_environments(speeds, capsys, monkeypatch):
    clock = iter([0.0, 10.0, 80.0, 81.0])
    monkeypatch.setattr(demo, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert demo.main(["--grid_size", "8"]) == 0
    printed = capsys.readouterr().out
    assert [line[1] for line in measured(printed)] == ["8", "8", "8", "8", "1", "2"]
    assert '"num_parallel_envs": 2' in printed and "busy or slow" in printed and "This took 81 s" in printed


@pytest.mark.parametrize("flags", [["--grid_size", "3"], ["--num_envs", "0"], ["--seconds", "0"], ["--sed", "1"]])
def test_bad_flags_are_one_line(flags, capsys):
    assert demo.main(flags) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("method", ["sequential", "vmap"])
def test_experiences_of_all_environments_are_counted(method, monkeypatch):
    """With a clock that goes a second at each look: an area with a budget of 3 cells, so three steps are an episode."""
    clock = iter(range(1000))
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    rules = BreakRules(memory_simulations=8, num_steps=8)
    found = throughput.measure(made_areas(1, 8, 0), rules, method, 2, seconds=3.0)
    assert found == Throughput(method, 2, 6.0)
