"""The stand-in for Spetses: its shape, and fires on it beside the published area."""

from __future__ import annotations

import numpy as np
import pytest

from flowrl.fire.validation.stand_in_island import AREA_KM2, HEIGHT_M, PUBLISHED_KM2, burn_island, make_island


@pytest.fixture(scope="module")
def island():
    return make_island(200.0)


def test_the_island_has_the_area_and_the_height_of_spetses_and_lies_in_the_sea(island):
    assert island.burnable.sum() * 0.04 == pytest.approx(AREA_KM2, rel=0.03)
    assert island.elevation_m.max() == pytest.approx(HEIGHT_M, rel=0.02) and island.elevation_m.min() == 0
    edges = np.concatenate([island.burnable[[0, -1]].ravel(), island.burnable[:, [0, -1]].ravel()])
    assert not edges.any()


def test_strong_wind_alone_ends_a_fire_that_calm_air_does_not(island):
    """The published area is reached in either, but only in wind does the fire end before the whole island has burned."""
    calm, windy = (burn_island(island, speed, 0.0, num_fires=32, num_steps=63) for speed in (0.0, 12.0))
    for fire in (calm, windy):
        assert fire.burned_km2[0] == pytest.approx(0.04) and (np.diff(fire.burned_km2) >= 0).all()
        assert fire.burned_km2[-1] == pytest.approx(fire.final_km2.mean())
        assert fire.burned_km2[fire.steps_to_published - 1] < PUBLISHED_KM2 <= fire.burned_km2[fire.steps_to_published]
    assert calm.final_km2.mean() > 0.9 * AREA_KM2 > 2 * windy.final_km2.mean()


def test_an_area_that_is_not_reached_is_none(island):
    assert burn_island(island, 0.0, 0.0, num_fires=32, num_steps=2).steps_to_published is None
