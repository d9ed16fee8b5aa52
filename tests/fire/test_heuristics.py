"""Ways of placing breaks: what each promises, the protection value by hand, and their order on made landscapes."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowrl.errors import BadInput
from flowrl.fire import compare_heuristics
from flowrl.fire.heuristics.comparison import HEURISTICS, Judged, Setting, compare, problem_and_judges, table
from flowrl.fire.heuristics.problem import Problem, budget_cells, highest, make_problem
from flowrl.fire.heuristics.protection_value import downstream_values
from flowrl.fire.heuristics.row import row_across_the_wind
from flowrl.fire.heuristics.simple import random_breaks
from flowrl.fire.landscapes.synthetic import Recipe, make_synthetic
from flowrl.fire.spread import bits
from flowrl.fire.spread.automaton import burned
from flowrl.fire.spread.directions import OFFSETS
from flowrl.fire.spread.fires import FIRE_WINDS, WindClimate, draw_fires, given_fires
from flowrl.fire.spread.passages import Passages, draw_passages
from tests.fire.plain_automaton import NEIGHBOURS
from tests.fire.scenes import plain, rough

SMALL = Setting(num_steps=24, planning_fires=64, held_out_fires=64)


def problem_of(landscape, climate=FIRE_WINDS, budget=5, num_fires=64):
    fires = draw_fires(jax.random.key(0), landscape.burnable, num_fires, climate)
    return Problem(landscape, draw_passages(landscape, fires), 24, climate, budget)


def hand_made(shape, start, ways) -> Passages:
    """One fire with these open passages: pairs of a cell and the next."""
    opened = np.zeros((1, 8, *shape), np.uint32)
    for source, target in ways:
        opened[(0, OFFSETS.index((target[0] - source[0], target[1] - source[1])), *target)] = 1
    starts = np.zeros((1, *shape), np.uint32)
    starts[(0, *start)] = 1
    return Passages(jnp.asarray(opened), jnp.asarray(starts), 1)


@pytest.fixture(scope="module")
def made():
    return make_synthetic(3, Recipe(10, 10))


@pytest.mark.parametrize("name", HEURISTICS)
def test_breaks_are_burnable_cells_within_the_budget(name, made):
    problem, _ = problem_and_judges(made, 0, SMALL)
    breaks = HEURISTICS[name](problem)
    assert breaks.dtype == bool and breaks.shape == (10, 10)
    assert breaks.sum() == (0 if name == "none" else problem.budget) and problem.budget > 0
    assert not (breaks & ~made.burnable).any()
    assert np.array_equal(breaks, HEURISTICS[name](problem))


def test_protection_values_of_a_fire_by_hand():
    """A fire goes east and forks; both ways reach the last cell at once, and share it."""
    a, b, up, down, last = (1, 0), (1, 1), (0, 2), (2, 2), (1, 3)
    passages = hand_made((3, 4), a, [(a, b), (b, up), (b, down), (up, last), (down, last), (last, up), (b, a)])
    expected = np.zeros((3, 4))
    expected[a], expected[b], expected[up], expected[down], expected[last] = 5, 4, 1.5, 1.5, 1
    assert np.allclose(downstream_values(passages, 10), expected)


def test_protection_values_count_what_a_cell_is_worth_and_stop_at_breaks_and_at_the_last_step():
    cells = [(0, column) for column in range(5)]
    passages = hand_made((1, 5), cells[0], list(itertools.pairwise(cells)))
    worth = jnp.array([[1.0, 1, 1, 10, 100]])
    assert np.allclose(downstream_values(passages, 10, None, worth), [[113, 112, 111, 110, 100]])
    assert np.allclose(downstream_values(passages, 3, None, worth), [[13, 12, 11, 10, 0]])
    assert np.allclose(downstream_values(passages, 10, jnp.array([[0, 0, 0, 1, 0]], bool)), [[3, 2, 1, 0, 0]])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_where_fires_start_the_protection_value_is_all_that_burns(seed):
    landscape = rough(seed, 6, 5)
    fires = given_fires(jax.random.key(seed), 40, 3, 2, 3.0, 270.0)
    passages = draw_passages(landscape, fires)
    words = burned(passages, 9)
    values = np.asarray(downstream_values(passages, 9))
    assert values[3, 2] == pytest.approx(float(bits.count(words).sum()) / 40, rel=1e-5)
    assert values.max() == values[3, 2]
    assert np.array_equal(values > 0, np.asarray(bits.count(words)) > 0)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_protection_values_agree_with_a_plain_walk_down_the_tree(seed):
    landscape = rough(seed, 6, 5)
    passages = draw_passages(landscape, given_fires(jax.random.key(seed), 40, 3, 2, 3.0, 270.0))
    opened = np.asarray(bits.unpack(passages.opened, 40))
    total = np.zeros((6, 5))
    for fire in range(40):
        arrival, order = {(3, 2): 0}, [(3, 2)]
        parents: dict = {}
        for cell in order:  # breadth first: a cell is met with all its parents of the step before
            for direction, (rows, columns) in enumerate(NEIGHBOURS):
                target = (cell[0] + rows, cell[1] + columns)
                inside = 0 <= target[0] < 6 and 0 <= target[1] < 5
                if inside and opened[(fire, direction, *target)] and arrival[cell] < 9:
                    if target not in arrival:
                        arrival[target] = arrival[cell] + 1
                        order.append(target)
                    if arrival[target] == arrival[cell] + 1:
                        parents.setdefault(target, []).append(cell)
        branch = dict.fromkeys(order, 1.0)
        for cell in reversed(order):
            for parent in parents.get(cell, []):
                branch[parent] += branch[cell] / len(parents[cell])
        for cell, value in branch.items():
            total[cell] += value / 40
    assert np.allclose(downstream_values(passages, 9), total, rtol=1e-4)


@pytest.mark.parametrize("from_deg", [0.0, 30.0, 45.0, 100.0, 135.0, 180.0, 270.0, 333.0])
def test_a_row_is_closed_from_edge_to_edge_whatever_the_wind(from_deg):
    """Nothing gets from the cells upwind of a row to those downwind, not even through a gap between two corners."""
    breaks = row_across_the_wind(problem_of(plain(9, 9), WindClimate(6.0, from_deg, 0.0), budget=24))
    rows, columns = np.indices((9, 9))
    towards = np.radians(from_deg + 180)
    downwind = columns * np.sin(towards) - rows * np.cos(towards)
    before, beyond = downwind < downwind[breaks].min() - 1e-6, downwind > downwind[breaks].max() + 1e-6
    assert before.any() and beyond.any()
    reached = before.copy()
    for _ in range(81):
        padded = np.pad(reached, 1)
        near = [padded[1 + r : 10 + r, 1 + c : 10 + c] for r, c in NEIGHBOURS]
        reached |= np.any(near, axis=0) & ~breaks
    assert not (reached & beyond).any()


@pytest.mark.parametrize(("from_deg", "axis"), [(270.0, 1), (90.0, 1), (0.0, 0), (180.0, 0)])
def test_a_row_lies_across_the_wind_and_is_as_long_as_the_budget(from_deg, axis):
    breaks = row_across_the_wind(problem_of(plain(9, 9), WindClimate(8.0, from_deg, 5.0), budget=9))
    places = np.argwhere(breaks)
    assert len(places) == 9 and len(set(places[:, axis])) == 1


def test_what_is_left_of_a_rows_budget_begins_the_next_row_from_its_middle():
    breaks = row_across_the_wind(problem_of(plain(9, 9), WindClimate(8.0, 270.0, 5.0), budget=12))
    full, started = np.flatnonzero(breaks.any(axis=0))
    assert breaks[:, full].all() and np.flatnonzero(breaks[:, started]).tolist() == [3, 4, 5]


@pytest.mark.parametrize("name", HEURISTICS)
def test_a_budget_of_nothing_places_nothing(name):
    assert not HEURISTICS[name](problem_of(plain(6, 6), budget=0)).any()


def test_a_budget_of_everything_breaks_all_that_burns():
    landscape = plain(2, 3)
    problem = problem_and_judges(landscape, 0, SMALL._replace(budget_share=1.0))[0]
    assert HEURISTICS["swap search"](problem).all() and problem.budget == landscape.burnable.sum()


def test_random_breaks_follow_the_seed():
    problem = problem_of(plain(9, 9))
    assert not np.array_equal(random_breaks(problem), random_breaks(problem._replace(seed=1)))


def test_of_equal_scores_the_first_cells_are_taken():
    assert np.argwhere(highest(np.ones((2, 3)), np.array([[0, 1, 1], [1, 1, 1]], bool), 3)).tolist() == [[0, 1], [0, 2], [1, 0]]
    assert highest(np.zeros((2, 2)), np.eye(2, dtype=bool), 4).sum() == 2


def test_budgets():
    landscape = plain(10, 10)
    assert [budget_cells(landscape, share) for share in (0, 0.001, 0.05, 1)] == [0, 1, 5, 100]
    with pytest.raises(BadInput, match="from 0 to 1, but 1.5"):
        make_problem(landscape, jax.random.key(0), budget_share=1.5)


def test_breaks_that_know_the_fires_burn_less_than_random_ones_and_those_less_than_none():
    """The order of the heuristics on landscapes and fires that are fixed by their seeds; held-out fires judge."""
    results = compare([make_synthetic(seed, Recipe(10, 10)) for seed in range(6)], 0, SMALL)
    means = {name: np.mean([one.burned_share for one in judged]) for name, judged in results.items()}
    assert means["none"] > means["random"] > means["DPV"] > means["sequential DPV"]
    assert means["row across the wind"] < means["DPV"]


def test_held_out_fires_are_not_those_that_were_planned_with(made):
    problem, held_out = problem_and_judges(made, 0, SMALL)
    assert not np.array_equal(problem.passages.opened, held_out.opened)
    assert not np.array_equal(problem.passages.starts, held_out.starts)


def test_a_table_has_a_line_for_each_heuristic():
    no_cells, two_cells = np.zeros((2, 2), bool), np.eye(2, dtype=bool)
    lines = table(
        {
            "none": [Judged(no_cells, 0.4, 0.03, np.full((2, 2), 0.9)), Judged(no_cells, 0.2, 0.04, np.full((2, 2), 0.6))],
            "mine": [Judged(two_cells, 0.15, 0.0, np.full((2, 2), 0.25))] * 2,
        }
    )
    assert [line.split() for line in lines[1:]] == [
        ["none", "0.0", "0.3000", "0.0250", "0.0%", "-"],
        ["mine", "2.0", "0.1500", "0.0000", "50.0%", "1.0"],  # 4 * (0.9 + 0.6 - 0.25 - 0.25) fewer for 4 cells of break
    ]


def test_the_command_prints_the_table_and_draws_the_breaks(capsys, tmp_path):
    flags = "--num_landscapes 1 --size 10 --fires 64 --num_steps 24".split()
    assert compare_heuristics.main([*flags, "--output", str(tmp_path / "breaks.png")]) == 0
    assert (tmp_path / "breaks.png").read_bytes().startswith(b"\x89PNG")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 landscape of 10 x 10, 64 held-out fires each, 24 steps"
    assert [line[:19].strip() for line in lines[2:-1]] == list(HEURISTICS)


def test_the_command_reads_a_window_of_layers(capsys, tmp_path):
    fuels = np.full((12, 13), 102)
    fuels[:, :3] = 98  # water, outside of the window
    header = "ncols 13\nnrows 12\nxllcorner 0\nyllcorner 0\ncellsize 30\n"
    for name, values in (("fuels", fuels), ("elevation", np.zeros((12, 13)))):
        (tmp_path / f"{name}.asc").write_text(header + "\n".join(" ".join(map(str, row)) for row in values))
    flags = ["--layers", str(tmp_path), "--crop", "1", "3", "10", "10", "--budget", "0.07"]
    assert compare_heuristics.main([*flags, "--fires", "64", "--num_steps", "24"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 landscape of 10 x 10") and lines[-1].split()[-4] != "0.0000"
    assert {line.split()[-5] for line in lines[3:]} == {"7.0"}


def test_the_fuel_system_of_a_window_is_that_of_the_whole_layer(capsys, tmp_path):
    """101 does not burn in the Canadian system, and is grass in the other: the window has no other code."""
    fuels = np.full((8, 8), 101)
    fuels[6:] = 1
    np.save(tmp_path / "fuels.npy", fuels)
    np.save(tmp_path / "elevation.npy", np.zeros((8, 8)))
    flags = ["--layers", str(tmp_path), "--crop", "0", "0", "4", "4", "--cell_size", "30"]
    assert compare_heuristics.main(flags) == 2
    assert "burns" in capsys.readouterr().err


def test_the_command_takes_arrays_with_the_size_of_a_cell(capsys, tmp_path):
    np.save(tmp_path / "fuels.npy", np.full((10, 10), 102))
    np.save(tmp_path / "elevation.npy", np.zeros((10, 10)))
    flags = ["--layers", str(tmp_path), "--fires", "64", "--num_steps", "24"]
    assert compare_heuristics.main([*flags, "--cell_size", "30"]) == 0
    assert capsys.readouterr().out.startswith("1 landscape of 10 x 10")
    assert compare_heuristics.main(flags) == 2
    assert "(--cell_size)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--budget", "1.5"], "--budget must be from 0 to 1"),
        (["--fires", "0"], "--fires must be at least 1"),
        (["--output", "nowhere/breaks.png"], "there is no folder nowhere"),
        (["--output", "breaks.doc"], "must end in .png"),
        (["--layers", "nowhere"], "there is no folder nowhere"),
        (["--wind_from", "nan"], "--wind_from must be a number, found nan"),
        (["--size", "400", "--fires", "1000000"], "GB are free; give a smaller --size, or fewer --fires"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, flags, said):
    assert compare_heuristics.main(flags) == 2
    printed = capsys.readouterr().err
    assert said in printed and printed.count("\n") == 1
