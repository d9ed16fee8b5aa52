"""Which way of stepping is chosen, and how that is found out."""

from __future__ import annotations

import functools
import time

import pytest

from flowrl.host import ParallelEnv, SequentialVecEnv, ThreadVecEnv, choice, make_vec
from flowrl.host.choice import StepCost, choose, expected_s, measure
from flowrl.host.faults import EnvironmentFault
from tests.host.games import Broken, Count, Masked

MS = 1e-3
CHEAP, BUSY, WAITING = StepCost(0.01 * MS, 0.01 * MS), StepCost(2 * MS, 2 * MS), StepCost(2 * MS, 0.05 * MS)


class Waits(Count):
    def step(self, action):
        time.sleep(2 * MS)
        return super().step(action)


class Computes(Count):
    def step(self, action):
        until = time.thread_time() + 1 * MS
        while time.thread_time() < until:
            pass
        return super().step(action)


@pytest.mark.parametrize(
    ("cost", "num_envs", "num_processes", "method"),
    [
        (CHEAP, 8, 2, "sequential"),
        (BUSY, 8, 2, "processes"),
        (BUSY, 8, 1, "sequential"),  # one core
        (WAITING, 8, 2, "threads"),
        (WAITING, 8, 1, "threads"),
        (BUSY, 1, 1, "sequential"),
        (StepCost(0.03 * MS, 0.03 * MS), 256, 2, "processes"),  # cheap, but many
        (StepCost(2 * MS, 1.5 * MS), 8, 2, "processes"),  # hardly waits
    ],
)
def test_the_cheapest_way_is_chosen(cost, num_envs, num_processes, method):
    assert choose(cost, num_envs, num_processes).method == method


def test_a_gain_that_may_be_an_error_of_measurement_is_not_taken():
    close = StepCost(0.0375 * MS, 0.0375 * MS)
    expected = expected_s(close, 8, 2)
    assert expected["processes"] < expected["sequential"] and choose(close, 8, 2).method == "sequential"


def test_the_reason_has_the_figures():
    assert choose(WAITING, 8, 2).reason.startswith("a step takes 2 ms and waits for 98% of it; a step of 8 environments should")
    assert "sequential 16 ms" in choose(BUSY, 8, 2).reason


def test_waiting_is_told_from_computing():
    waits, computes = measure(Waits, 0.05), measure(Computes, 0.05)
    assert waits.waits and waits.wall_s > 2 * MS and not computes.waits and computes.wall_s >= 1 * MS


def test_a_busy_machine_is_taken_neither_for_waiting_nor_for_an_expensive_step(monkeypatch):
    monkeypatch.setattr(choice, "_waits", lambda: 0)  # the thread never gave its processor away: it was taken
    cost = measure(Waits, 0.05)
    assert not cost.waits and cost.wall_s < 1 * MS


def test_an_environment_that_is_measured_may_have_masks_and_is_closed(monkeypatch):
    closed = []
    monkeypatch.setattr(Masked, "close", lambda self: closed.append(self), raising=False)
    assert measure(Masked, 0.01).wall_s > 0 and len(closed) == 1


@pytest.mark.parametrize(("cost", "made"), [(CHEAP, SequentialVecEnv), (WAITING, ThreadVecEnv), (StepCost(9, 9), ParallelEnv)])
def test_auto_makes_what_it_chooses_and_says_so(cost, made, monkeypatch, capsys):
    monkeypatch.setattr(choice, "measure", lambda env_fn: cost)
    monkeypatch.setattr(choice, "usable_cores", lambda: [0, 1])
    with make_vec([Count] * 4, num_workers=2, timeout_s=30, respawn=True, copy=False) as env:
        assert type(env) is made and env.reset(seed=0).shape == (4, 2)
    assert capsys.readouterr().out.startswith("method auto: ")


@pytest.mark.parametrize(
    ("method", "made"), [("sequential", SequentialVecEnv), ("threads", ThreadVecEnv), ("processes", ParallelEnv)]
)
def test_a_method_can_be_named(method, made, capsys):
    with make_vec([Count] * 2, method) as env:
        assert type(env) is made
    assert not capsys.readouterr().out


def test_an_environment_that_fails_while_it_is_measured_is_named():
    with pytest.raises(EnvironmentFault, match="environment 0 raised ValueError in step: the wheel is gone"):
        make_vec([functools.partial(Broken, "raises")] * 2)
