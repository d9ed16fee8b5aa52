"""Which version of an expert stays in the library."""

from __future__ import annotations

import numpy as np
import pytest

from flowrl.parallel.library.experts import Age, ExpertVersion, are_same, fingerprint
from flowrl.parallel.library.merge_rule import merge_action, merge_expert, planned_update
from flowrl.paths import ExperimentPaths
from flowrl.records.version_comparison import Comparison, Difference, Pair
from tests.parallel.fakes.experiments import put_in_library


def version(total_frames: int, acted: bool = True, acted_frames: int = 0) -> ExpertVersion:
    return ExpertVersion("Collect_Wood", 0, {"actor": {}, "critic": {}}, total_frames, acted_frames, acted)


@pytest.mark.parametrize(
    ("total_frames", "acted", "in_library", "action"),
    [
        (100, True, None, "new"),
        (100, False, None, "new"),
        (150, True, 130, "updated"),
        (130, True, 130, "kept"),
        (120, True, 130, "kept"),
        (150, False, 130, "kept"),
    ],
)
def test_an_expert_that_acted_and_is_older_replaces_the_librarys(total_frames, acted, in_library, action):
    present = None if in_library is None else Age(in_library, 0)
    assert merge_action(version(total_frames, acted), present) == action


@pytest.mark.parametrize(("acted_frames", "action"), [(21, "updated"), (20, "kept"), (19, "kept")])
def test_among_equals_the_one_that_acted_more_stays(acted_frames, action):
    assert merge_action(version(130, acted_frames=acted_frames), Age(130, 20)) == action
    assert merge_action(version(129, acted_frames=100), Age(130, 20)) == "kept"


def measured(low: float, high: float) -> Comparison:
    return Comparison(Pair("Collect_Wood", 0, "a", "b"), 256, 100, 100, Difference((low + high) / 2, low, high))


@pytest.mark.parametrize(
    ("total_frames", "low", "high", "action"),
    [
        (150, -0.3, -0.1, "kept"),
        (120, 0.1, 0.3, "updated"),
        (150, -0.1, 0.1, "updated"),
        (120, -0.1, 0.1, "kept"),
        (150, -0.2, 0.0, "updated"),
        (120, 0.0, 0.2, "kept"),
    ],
)
def test_a_version_that_is_better_by_more_than_the_interval_stays_and_else_frames_decide(total_frames, low, high, action):
    assert merge_action(version(total_frames), Age(130, 0), measured(low, high)) == action


def test_what_was_measured_does_not_let_a_version_in_that_did_not_act():
    assert merge_action(version(150, acted=False), Age(130, 0), measured(0.1, 0.3)) == "kept"
    assert merge_action(version(150), None, measured(-0.3, -0.1)) == "new"


def test_parameters_are_told_apart_by_every_bit():
    one = {"actor": {"w": np.array([1.0, np.nan], np.float32)}, "critic": {}}
    same = {"critic": {}, "actor": {"w": np.array([1.0, np.nan], np.float32)}}
    assert are_same(one, same) and fingerprint(one) == fingerprint(same)
    for other in (
        {"actor": {"w": np.array([1.0, 2.0], np.float32)}, "critic": {}},
        {"actor": {"w": np.array([1.0, np.nan])}, "critic": {}},
        {"actor": {"v": np.array([1.0, np.nan], np.float32)}, "critic": {}},
        {"actor": {"w": np.array([[1.0, np.nan]], np.float32)}, "critic": {}},
        {"actor": {}, "critic": {"w": np.array([1.0, np.nan], np.float32)}},
    ):
        assert not are_same(one, other) and fingerprint(one) != fingerprint(other)


def test_a_planned_update_reports_the_frames_that_the_library_has_afterwards(experiment: ExperimentPaths):
    assert planned_update(experiment, version(100)) == {"action": "new", "frames": 100}
    put_in_library(experiment.root, 0, "Collect_Wood", 130)
    assert planned_update(experiment, version(150)) == {"action": "updated", "frames": 150}
    assert planned_update(experiment, version(150, acted=False)) == {"action": "kept", "frames": 130}


def test_the_rule_is_asked_again_when_an_expert_is_saved(experiment: ExperimentPaths):
    """Two merges decided on the same library, and this one was killed: the other's version may be the older one by now."""
    put_in_library(experiment.root, 0, "Collect_Wood", 50)
    assert planned_update(experiment, version(130))["action"] == "updated"
    put_in_library(experiment.root, 0, "Collect_Wood", 150)
    before = experiment.expert_params(0, "Collect_Wood").read_bytes()
    merge_expert(experiment, version(130))
    assert experiment.expert_params(0, "Collect_Wood").read_bytes() == before
