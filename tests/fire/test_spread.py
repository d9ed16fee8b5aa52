"""Laws of the fire model, and the fast automaton beside plain loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowrl.fire.landscapes.landscape import Density, Vegetation, stack
from flowrl.fire.spread import bits
from flowrl.fire.spread.automaton import NEVER, arrival_steps, burned, simulate
from flowrl.fire.spread.directions import LENGTHS, OFFSETS
from flowrl.fire.spread.fires import Fires, WindClimate, draw_fires, given_fires
from flowrl.fire.spread.outcomes import burn_probability, burned_cells, burned_share
from flowrl.fire.spread.passages import Passages, draw_passages, split
from flowrl.fire.spread.probabilities import passing_probabilities, slope_factors, wind_factors
from tests.fire.plain_automaton import arrivals, burned_step_by_step, probability
from tests.fire.scenes import fires_in_the_middle, plain, rough

FEW = settings(max_examples=25, deadline=None)
SLOW = settings(max_examples=10, deadline=None)
"""For what is compared with plain loops."""
SEEDS = st.integers(0, 2**31 - 1)
SHAPES = st.sampled_from([(1, 7), (6, 5)])
"""Few shapes: the programs are compiled for each."""
NUM_FIRES = 40
EAST, WEST = 2, 6


def wind_of(seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    return float(rng.uniform(0, 15)), float(rng.uniform(0, 360))


def always(landscape, fires: Fires) -> Passages:
    """Every passage open between cells that burn: the worst fires there can be."""
    opened = jnp.where(passing_probabilities(landscape, 0.0, 0.0) > 0, jnp.uint32(0xFFFFFFFF), jnp.uint32(0))
    starts = np.zeros((fires.num_fires, *landscape.shape), bool)
    starts[np.arange(fires.num_fires), fires.row, fires.column] = landscape.burnable[fires.row, fires.column]
    words = bits.num_words(fires.num_fires)
    return Passages(jnp.broadcast_to(opened, (words, *opened.shape)), bits.pack(jnp.asarray(starts)), fires.num_fires)


def scars(landscape, fires: Fires, num_steps: int, breaks=None) -> np.ndarray:
    """What each fire burns, bool ``[N, H, W]``."""
    return np.asarray(bits.unpack(burned(draw_passages(landscape, fires), num_steps, breaks), fires.num_fires))


# The formula


def test_a_known_probability_by_hand():
    """Pine, dense, 10 m/s with the wind, uphill by 10 m over 100 m: every factor of the formula."""
    elevation = np.zeros((3, 3))
    elevation[1, 2] = 10.0
    landscape = plain(3, 3, vegetation=np.full((3, 3), Vegetation.PINE), density=np.full((3, 3), 0), elevation_m=elevation)
    p = passing_probabilities(landscape, 1.0, 270.0)
    # 0.58 * 1.4 * 0.6 = 0.4872; exp(0.045) = 1.04603; atan(0.1) = 5.71059 degrees, exp(0.078 * 5.71059) = 1.56111.
    assert float(p[EAST, 1, 2]) == pytest.approx(0.4872 * 1.04603 * 1.56111, rel=1e-4)
    # Against the wind and downhill: exp(0.045) exp(-2 * 0.131) / 1.56111.
    assert float(p[WEST, 1, 1]) == pytest.approx(0.4872 * 1.04603 * 0.76951 / 1.56111, rel=1e-4)


@pytest.mark.parametrize(
    ("vegetation", "density", "p"),
    [
        (Vegetation.AGRICULTURE, Density.SPARSE, 0.58 * 0.7 * 0.6),
        (Vegetation.SHRUBS, Density.NORMAL, 0.58),
        (Vegetation.SHRUBS, Density.DENSE, 0.58 * 1.3),
        (Vegetation.PINE, Density.DENSE, 1.0),
    ],
)
def test_the_classes_of_the_paper(vegetation, density, p):
    landscape = plain(3, 3, vegetation=np.full((3, 3), vegetation), density=np.full((3, 3), density))
    assert np.allclose(passing_probabilities(landscape, 0.0, 0.0)[:, 1, 1], p)


@SLOW
@given(SEEDS, SHAPES)
def test_probabilities_agree_with_plain_loops(seed, shape):
    landscape, (speed, from_deg) = rough(seed, *shape), wind_of(seed)
    p = np.asarray(passing_probabilities(landscape, speed, from_deg))
    for direction, (rows, columns) in enumerate(OFFSETS):
        for target in np.ndindex(shape):
            source = (target[0] - rows, target[1] - columns)
            inside = 0 <= source[0] < shape[0] and 0 <= source[1] < shape[1]
            if inside and landscape.burnable[source] and landscape.burnable[target]:
                assert p[(direction, *target)] == pytest.approx(
                    probability(landscape, source, target, speed, from_deg), abs=1e-5
                )
            else:
                assert p[(direction, *target)] == 0


@FEW
@given(st.floats(0.1, 20), st.floats(0, 360))
def test_wind_helps_most_where_it_blows_and_hinders_most_where_it_comes_from(speed, from_deg):
    factors = np.asarray(wind_factors(speed, from_deg))
    away = np.abs((np.arange(8) * 45 - from_deg - 180 + 180) % 360 - 180)
    assert (np.diff(factors[np.argsort(away)]) <= 1e-6).all()


def test_no_wind_and_no_slope_change_nothing():
    assert np.allclose(wind_factors(0.0, 123.0), 1)
    assert np.allclose(slope_factors(np.full((4, 4), 50.0), 10.0)[:, 1:-1, 1:-1], 1)


def test_a_diagonal_slope_is_less_steep_than_a_straight_one_of_the_same_rise():
    peak = np.zeros((3, 3))
    peak[1, 1] = 30.0
    into_the_peak = np.asarray(slope_factors(peak, 100.0))[:, 1, 1]
    assert np.allclose(into_the_peak, np.exp(0.078 * np.degrees(np.arctan(0.3 / LENGTHS))))


# The automaton


@SLOW
@given(SEEDS, SHAPES)
def test_fires_agree_cell_by_cell_with_plain_loops(seed, shape):
    landscape, (speed, from_deg) = rough(seed, *shape), wind_of(seed)
    breaks = np.random.default_rng(seed + 1).random(shape) < 0.1
    fires = draw_fires(jax.random.key(seed), landscape.burnable, NUM_FIRES, WindClimate(speed, from_deg))
    found = arrival_steps(draw_passages(landscape, fires), 9, breaks)
    for i in range(5):
        uniform = np.asarray(jax.random.uniform(fires.key[i], (8, *shape)))
        wind = float(fires.wind_speed_m_s[i]), float(fires.wind_from_deg[i])
        expected = arrivals(landscape, (int(fires.row[i]), int(fires.column[i])), *wind, uniform, 9, breaks)
        assert np.array_equal(found[i], expected)


def test_passages_drawn_once_burn_as_often_as_draws_at_each_step():
    """The burn probability of every cell, beside the rule as the paper says it, with draws of its own."""
    landscape, num_fires, steps = rough(3, 6, 5), 2000, 6
    fires = fires_in_the_middle(landscape, num_fires, 4.0, 250.0)
    ours = np.asarray(scars(landscape, fires, steps)).mean(axis=0)
    rng = np.random.default_rng(0)
    theirs = np.mean([burned_step_by_step(landscape, (3, 2), 4.0, 250.0, rng, steps) for _ in range(num_fires)], axis=0)
    error = np.sqrt((ours * (1 - ours) + theirs * (1 - theirs)) / num_fires)
    assert (np.abs(ours - theirs) <= 4.5 * error + 1e-9).all()
    assert 0.1 < ours.mean() < 0.9


@FEW
@given(SEEDS, SHAPES)
def test_arrivals_and_burned_cells_say_the_same(seed, shape):
    landscape = rough(seed, *shape)
    passages = draw_passages(landscape, draw_fires(jax.random.key(seed), landscape.burnable, NUM_FIRES))
    assert np.array_equal(bits.unpack(burned(passages, 9), NUM_FIRES), arrival_steps(passages, 9) != NEVER)


def test_without_wind_and_slope_a_fire_goes_no_way_rather_than_another():
    landscape, num_fires = plain(vegetation=np.full((21, 21), Vegetation.AGRICULTURE)), 2000
    words = burned(draw_passages(landscape, fires_in_the_middle(landscape, num_fires)), 8)
    p = np.asarray(burn_probability(words, num_fires))
    alike = np.stack([turned for k in range(4) for turned in (np.rot90(p, k), np.rot90(p.T, k))])
    mean = alike.mean(axis=0)
    assert (np.abs(alike - mean) <= 4.5 * np.sqrt(mean * (1 - mean) / num_fires) + 1e-9).all()
    assert mean[10, 13] > 0.2


@pytest.mark.parametrize("from_deg", [0.0, 90.0, 180.0, 270.0])
def test_a_fire_runs_farther_with_the_wind_than_against_it_and_across(from_deg):
    landscape = plain()
    words = burned(draw_passages(landscape, fires_in_the_middle(landscape, 2000, 8.0, from_deg)), 8)
    p = np.rot90(np.asarray(burn_probability(words, 2000)), round(from_deg / 90))  # the wind comes from the top now
    downwind, upwind, across = p[14, 10], p[6, 10], (p[10, 6] + p[10, 14]) / 2
    assert downwind > across + 0.1 > upwind + 0.2


@pytest.mark.parametrize("turns", range(4))
def test_a_fire_runs_farther_uphill_than_downhill(turns):
    hill = np.rot90(np.tile(np.arange(21) * 20.0, (21, 1)), turns)  # rises to the east, then turned
    landscape = plain(elevation_m=hill)
    words = burned(draw_passages(landscape, fires_in_the_middle(landscape, 2000)), 8)
    p = np.rot90(np.asarray(burn_probability(words, 2000)), -turns)
    assert p[10, 15] > p[10, 5] + 0.2


def closed_walls(shape):
    height, width = shape
    return st.one_of(
        st.integers(1, height - 2).map(lambda row: ("row", row)),
        st.integers(1, width - 2).map(lambda column: ("column", column)),
    )


@FEW
@given(SEEDS, closed_walls((6, 5)))
def test_a_closed_barrier_stops_every_fire(seed, wall):
    kind, place = wall
    breaks = np.zeros((6, 5), bool)
    breaks[(place, slice(None)) if kind == "row" else (slice(None), place)] = True
    landscape = plain(6, 5)
    fires = draw_fires(jax.random.key(seed), landscape.burnable, NUM_FIRES)
    reached = np.asarray(bits.unpack(burned(always(landscape, fires), 60, breaks), NUM_FIRES))
    side = np.indices((6, 5))[0 if kind == "row" else 1] < place
    for fire, row, column in zip(reached, np.asarray(fires.row), np.asarray(fires.column), strict=True):
        own = side == side[row, column]
        expected = np.zeros((6, 5), bool) if breaks[row, column] else own & ~breaks
        assert np.array_equal(fire, expected)


def test_a_closed_ring_holds_a_fire_and_a_ring_with_a_gap_does_not():
    landscape = plain(11, 11)
    ring = np.zeros((11, 11), bool)
    ring[3:8, 3:8] = True
    ring[4:7, 4:7] = False
    passages = always(landscape, fires_in_the_middle(landscape, 1))
    assert int(burned_cells(burned(passages, 50, ring), 1)[0]) == 9
    ring[3, 5] = False
    assert int(burned_cells(burned(passages, 50, ring), 1)[0]) == 121 - int(ring.sum())


def test_a_diagonal_line_of_single_cells_leaks_and_a_staircase_does_not():
    landscape = plain(12, 12)
    fires = given_fires(jax.random.key(0), 1, 11, 0, 0.0, 0.0)
    diagonal = np.eye(12, dtype=bool)
    staircase = diagonal | np.eye(12, k=1, dtype=bool)
    far_side = np.triu(np.ones((12, 12), bool), k=2)
    assert np.asarray(bits.unpack(burned(always(landscape, fires), 50, diagonal), 1))[0][far_side].all()
    assert not np.asarray(bits.unpack(burned(always(landscape, fires), 50, staircase), 1))[0][far_side].any()


def test_cells_that_do_not_burn_stop_a_fire_as_breaks_do():
    water = np.zeros((6, 5), bool)
    water[:, 3] = True
    dry = plain(6, 5)
    fires = fires_in_the_middle(dry, NUM_FIRES)
    as_water = scars(plain(6, 5, burnable=~water), fires, 40)
    as_break = scars(dry, fires, 40, breaks=water)
    assert np.array_equal(as_water, as_break)
    assert not np.asarray(as_break)[:, :, 3:].any()


# Common random numbers


@FEW
@given(SEEDS)
def test_the_same_fires_burn_the_same_whatever_else_burns_beside_them(seed):
    landscape = rough(seed, 6, 5)
    many = draw_fires(jax.random.key(seed), landscape.burnable, NUM_FIRES)
    few = draw_fires(jax.random.key(seed), landscape.burnable, 5)
    alone = scars(landscape, few, 9)
    assert np.array_equal(scars(landscape, many, 9)[:5], alone)
    backwards = jax.tree.map(lambda values: values[::-1], few)
    assert np.array_equal(scars(landscape, backwards, 9)[::-1], alone)


@FEW
@given(SEEDS, SHAPES)
def test_a_further_break_makes_no_fire_larger(seed, shape):
    landscape, rng = rough(seed, *shape), np.random.default_rng(seed)
    passages = draw_passages(landscape, draw_fires(jax.random.key(seed), landscape.burnable, NUM_FIRES))
    breaks = rng.random(shape) < 0.1
    more = breaks | (rng.random(shape) < 0.1)
    without, some, further = (np.asarray(bits.unpack(burned(passages, 60, b), NUM_FIRES)) for b in (None, breaks, more))
    assert (some <= without & ~breaks).all() and (further <= some & ~more).all()


def test_other_keys_give_other_fires():
    landscape = plain(6, 5)
    first, second = (scars(landscape, fires_in_the_middle(landscape, NUM_FIRES, seed=seed), 3) for seed in (0, 1))
    assert (first != second).any(axis=(1, 2)).mean() > 0.9


def test_a_batch_of_landscapes_burns_as_each_does_alone():
    landscapes = [rough(seed, 6, 5) for seed in range(3)]
    fires = [draw_fires(jax.random.key(seed), landscape.burnable, NUM_FIRES) for seed, landscape in enumerate(landscapes)]
    breaks = np.random.default_rng(0).random((3, 6, 5)) < 0.2
    together = jax.vmap(lambda landscape, fires, breaks: simulate(landscape, fires, 8, breaks))(
        stack(landscapes), jax.tree.map(lambda *values: jnp.stack(values), *fires), breaks
    )
    for i in range(3):
        assert np.array_equal(together[i], scars(landscapes[i], fires[i], 8, breaks[i]))


# Draws


def test_fires_start_equally_often_in_every_burnable_cell_and_nowhere_else():
    landscape = rough(1, 6, 5)
    fires = draw_fires(jax.random.key(0), landscape.burnable, 6000)
    counts = np.zeros((6, 5))
    np.add.at(counts, (np.asarray(fires.row), np.asarray(fires.column)), 1)
    assert not counts[~landscape.burnable].any()
    expected = 6000 / landscape.burnable.sum()
    assert (np.abs(counts[landscape.burnable] - expected) < 5 * np.sqrt(expected)).all()


def test_winds_follow_their_climate():
    fires = draw_fires(jax.random.key(0), np.ones((6, 5), bool), 6000, WindClimate(5.0, 10.0, 25.0))
    speeds, turned = np.asarray(fires.wind_speed_m_s), (np.asarray(fires.wind_from_deg) - 10 + 180) % 360 - 180
    assert speeds.min() >= 0 and speeds.mean() == pytest.approx(5.0, rel=0.02)
    assert np.quantile(speeds, 0.5) == pytest.approx(10 / np.sqrt(np.pi) * np.sqrt(np.log(2)), rel=0.03)
    assert turned.mean() == pytest.approx(0, abs=1) and turned.std() == pytest.approx(25, rel=0.03)


def test_given_fires_are_as_given():
    fires = given_fires(jax.random.key(0), 4, 3, [0, 1, 2, 3], 5.0, 90.0)
    assert np.asarray(fires.row).tolist() == [3] * 4 and np.asarray(fires.column).tolist() == [0, 1, 2, 3]
    assert len({tuple(np.asarray(jax.random.key_data(key))) for key in fires.key}) == 4


# Outcomes


@FEW
@given(SEEDS, st.sampled_from([1, 32, 33, 70]))
def test_bits_keep_what_was_packed(seed, num_fires):
    flags = np.random.default_rng(seed).random((num_fires, 2, 3)) < 0.5
    words = bits.pack(jnp.asarray(flags))
    assert words.shape == (bits.num_words(num_fires), 2, 3)
    assert np.array_equal(bits.unpack(words, num_fires), flags)
    assert np.array_equal(bits.count(words), flags.sum(axis=0))


def test_the_burned_share_is_of_what_could_burn_without_breaks():
    burnable = np.ones((5, 5), bool)
    burnable[:, 4] = False
    landscape = plain(5, 5, burnable=burnable)
    fires = given_fires(jax.random.key(0), 4, 0, [0, 0, 0, 2], 0.0, 0.0)
    breaks = np.zeros((5, 5), bool)
    breaks[:, 1] = True
    share = burned_share(always(landscape, fires), landscape.burnable, 20, breaks)
    # Three fires burn the western column, 5 of 20 cells, the fourth the two columns beyond the break, 10 of 20.
    assert float(share.mean) == pytest.approx((3 * 0.25 + 0.5) / 4)
    assert float(share.standard_error) == pytest.approx(0.125 / 2)


@pytest.mark.parametrize("num_fires", [5, 64, 70, 128])
def test_fires_in_parts_are_the_same_fires(num_fires):
    landscape = rough(1, 7, 6)
    passages = draw_passages(landscape, draw_fires(jax.random.key(1), landscape.burnable, num_fires))
    parts = split(passages, 64)
    assert [part.num_fires for part in parts] == [min(64, num_fires - first) for first in range(0, num_fires, 64)]
    words = np.concatenate([np.asarray(burned(part, 9)) for part in parts])
    assert np.array_equal(words, burned(passages, 9))
