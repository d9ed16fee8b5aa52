"""What the pane shows of a run's course, its time and its memory."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowrl.training.playing.stopwatch import GAME, NETWORK, UNWATCHED, Stopwatch
from flowrl.training.run.clock import Clock
from flowrl.training.run.curves import BLOCKS, Curve, sparkline
from flowrl.training.run.resources import MemoryUse, TimeShares, memory_now


def test_a_sparkline_by_hand():
    assert sparkline([0.0, 1.0, 0.5, 0.49]) == "▁█▅▄"
    assert sparkline([3.0, 3.0]) == "▅▅" and sparkline([]) == ""


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(1, 20))
def test_a_curve_stays_within_its_width_and_its_memory(values, width):
    curve = Curve(width)
    for value in values:
        curve.add(value)
    drawn = curve.drawn()
    assert 1 <= len(drawn) <= width and set(drawn) <= set(BLOCKS)
    assert len(curve._points) <= 2 * width


def test_a_curve_that_rises_is_drawn_rising_and_leaves_out_what_is_no_number():
    curve = Curve(8)
    for value in range(1000):
        curve.add(float(value))
        curve.add(float("nan"))
    drawn = curve.drawn()
    assert list(drawn) == sorted(drawn) and drawn[0] == "▁" and drawn[-1] == "█" and len(drawn) > 4


def test_time_is_shared_out_after_the_first_update(monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.time", lambda: now)
    clock = Clock(0.0, 64)
    clock.spent(50.0, 50.0, 0.9)  # of the first update, which compiles
    now = 100.0
    clock.count(100.0)
    assert clock.time_shares is None and clock.num_updates == 1
    clock.spent(3.0, 1.0, 0.25)
    now = 104.0
    clock.count(4.0)
    clock.spent(3.0, 1.0)
    now = 110.0
    shares = clock.time_shares
    assert shares == pytest.approx((0.6, 0.25, 0.2, 0.2))
    assert shares.described() == "game 45%, network 15%, update 20%, rest 20%"
    assert TimeShares(0.6, None, 0.3, 0.1).described() == "playing 60%, update 30%, rest 10%"


def test_memory_in_words():
    assert MemoryUse(1_230_000_000, None, None).described() == "1.2 GB"
    assert MemoryUse(1_230_000_000, 3 * 10**9, 8 * 10**9).described().endswith(" 3.0 of 8.0 GB")
    assert memory_now().process > 10**7


def test_a_stopwatch_shares_out_the_time_between_laps(monkeypatch):
    results = jnp.ones(3)
    times = iter([0.0, 1.0, 4.0, 4.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    stopwatch = Stopwatch()
    for part in (NETWORK, GAME, NETWORK):
        stopwatch.lap(part, results)
    assert stopwatch.seconds == {NETWORK: 1.5, GAME: 3.0} and stopwatch.network_share == pytest.approx(1 / 3)
    UNWATCHED.lap(GAME, None)
    assert UNWATCHED.network_share is None
