"""Moments of a training: few, evenly spread, those of this run alone, and never a reason to end it."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowrl.paths import RunPaths
from flowrl.records import moments as files
from flowrl.training.learning.ppo import Learner
from flowrl.training.run import parts
from flowrl.training.run.moments import FIRST_UPDATES, MOST, Moments
from flowrl.training.run.state import RunState
from tests.training.test_loop import Gold, specification, train

UPDATE = 100
"""Frames."""


def state(updates: int) -> RunState:
    """Two experts; the second one's parameters are the number of updates."""
    params = {"actor": {"bias": np.array([[-1.0], [updates]])}, "critic": {"bias": np.zeros((2, 1))}}
    return RunState(Learner(params, None), updates * UPDATE, updates, np.zeros(2, np.int64), None)


@pytest.fixture
def run(tmp_path) -> RunPaths:
    folder = tmp_path / "training_runs" / "skill_1_B"
    folder.mkdir(parents=True)
    return RunPaths(folder)


def watched(run: RunPaths, updates) -> list[int]:
    """Looks after each of these updates, as a run does; returns the moments that are on disk in the end, in updates."""
    kept = Moments(run, 1, UPDATE)
    for number in updates:
        kept.look(state(number))
    found = files.read(run.moments)
    assert all(moment.actor["bias"].tolist() == [moment.frames / UPDATE] for moment in found), "of the run's own expert"
    return [moment.frames // UPDATE for moment in found]


def test_the_first_moment_is_before_the_first_update_and_the_others_follow_at_equal_distances(run):
    assert watched(run, range(2)) == [0]
    assert watched(run, range(14)) == [0, 4, 8, 12]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 700))
def test_however_long_a_run_is_its_moments_are_few_and_evenly_spread(tmp_path_factory, last):
    folder = tmp_path_factory.mktemp("runs") / "training_runs" / "skill_1_B"
    folder.mkdir(parents=True)
    found = watched(RunPaths(folder), range(last + 1))
    distances = set(np.diff(found).tolist())
    assert found[0] == 0 and len(found) <= 1 + MOST and len(distances) <= 1
    if last >= FIRST_UPDATES * MOST:
        assert len(found) > MOST / 2 and last - found[-1] <= max(distances)


def test_a_run_that_goes_on_from_a_checkpoint_goes_on_with_its_moments(run):
    assert watched(run, range(31)) == [0, 8, 16, 24]
    # What the earlier attempt kept after its last checkpoint, of 20 updates, is not part of this training.
    assert watched(run, range(20, 33)) == [0, 8, 16, 24, 32]
    run.moments.write_bytes(b"damaged")
    assert watched(run, range(32, 37)) == [32, 36]


def test_a_disk_without_room_costs_the_moments_and_not_the_training(run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    assert watched(run, range(6)) == []


def test_a_training_keeps_them_and_the_first_is_the_expert_as_it_began(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "make_adapter", lambda env_name: Gold())
    run = specification(tmp_path)
    train(run)
    found = files.read(run.paths.moments)
    assert found[0].frames == 0 and set(found[0].actor) == {"torso", "head"}
