"""Rates, means and scores, against figures worked out by hand and a plain simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowrl.evaluation import statistics


def test_a_rate_has_the_interval_of_wilson():
    # 8 of 10, worked out by hand: centre 0.7167, half width 0.2267.
    found = statistics.rate(8, 10)
    assert found == pytest.approx((0.8, 0.49016, 0.94331), abs=1e-4)


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0.0, 0.0384), (96, 0.9616, 1.0)])
def test_a_rate_at_the_end_of_its_range_keeps_a_width_on_one_side(successes, low, high):
    assert statistics.rate(successes, 96) == pytest.approx((successes / 96, low, high), abs=1e-3)


@given(tries=st.integers(1, 2000), share=st.floats(0, 1))
def test_a_rate_lies_within_its_interval_and_the_interval_within_0_and_1(tries, share):
    found = statistics.rate(round(share * tries), tries)
    assert 0 <= found.low <= found.value + 1e-12 and found.value <= found.high + 1e-12 and found.high <= 1


def test_the_interval_of_a_rate_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(0).binomial(200, 0.1, size=4000)
    covered = np.mean([found.low <= 0.1 <= found.high for found in (statistics.rate(int(count), 200) for count in draws)])
    assert 0.93 < covered < 0.97


def test_a_mean_has_the_interval_of_its_standard_error():
    assert statistics.mean([1, 2, 3, 4]) == pytest.approx((2.5, 2.5 - 1.96 * 0.6455, 2.5 + 1.96 * 0.6455), abs=1e-3)
    assert statistics.mean([7.0]) == (7.0, 7.0, 7.0)


def test_the_score_is_the_geometric_mean_of_percents_plus_one():
    assert statistics.crafter_score([1.0, 1.0]) == pytest.approx(100)
    assert statistics.crafter_score([0.0, 0.0]) == 0
    # sqrt((1 + 100) (1 + 0)) - 1, by hand
    assert statistics.crafter_score([1.0, 0.0]) == pytest.approx(math.sqrt(101) - 1)


@pytest.mark.parametrize(
    "call", [lambda: statistics.rate(0, 0), lambda: statistics.mean([]), lambda: statistics.crafter_score([])]
)
def test_nothing_cannot_be_summed_up(call):
    with pytest.raises(ValueError, match="at least one"):
        call()
