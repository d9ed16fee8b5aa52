"""``result.json``, ``run.exit`` and ``run.pid``: read as they were written, and never mistaken for something else."""

from __future__ import annotations

import dataclasses
import json

import pytest

from flowrl.errors import BadInput
from flowrl.records import ending, liveness, result
from flowrl.records.ending import Ending
from flowrl.records.observed import Difference, DifferenceKind, Observed, ObservedResource
from flowrl.records.result import NO_PROGRESS, OUT_OF_MEMORY, Outcome, RunResult, TaskRate

COMPLETED = RunResult(
    2,
    Outcome.COMPLETED,
    "Collect_Wood",
    goal_reached=True,
    frames=640,
    acted_frames={"0": 600, "3": 40},
    success_rate=0.9,
    random_success_rate=0.1,
    tasks=(TaskRate("Collect_Wood", 1, 0.9, 0.1),),
    checkpoint="3_policies/checkpoint_640.pkl",
)


OBSERVED = Observed(
    n=1,
    successes=460,
    failures=52,
    resources={"wood": ObservedResource(0.1, None, None, 1.0, 0.98, 0.0, 1.0)},
    differences=(Difference(DifferenceKind.GAIN_NOT_DECLARED, "deed:CHOP", "Collect_Wood: declares no gain of deed:CHOP"),),
    most_steps=31,
    added_gains=("deed:CHOP",),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / result.NAME


@pytest.mark.parametrize(
    "written",
    [
        COMPLETED,
        dataclasses.replace(COMPLETED, observed=OBSERVED),
        RunResult(1, Outcome.FAILED, "A", error="no", reason=OUT_OF_MEMORY),
    ],
)
def test_a_result_is_read_as_it_was_written(path, written):
    result.write(path, written)
    assert result.read(path) == written == result.find(path, written.attempt)


def test_a_result_of_another_attempt_does_not_count(path):
    result.write(path, COMPLETED)
    assert result.find(path, 1) is None and result.find(path) == COMPLETED


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"attempt": 2}', '{"attempt": 2, "outcome": "perhaps"}'])
def test_what_is_no_result_is_none_and_one_line(path, text):
    path.write_text(text)
    assert result.find(path) is None
    with pytest.raises(BadInput) as error:
        result.read(path)
    assert str(path) in str(error.value)


def test_a_result_of_an_earlier_version_has_only_what_it_had(path):
    path.write_text(json.dumps({"attempt": 3, "skill_name": "A", "outcome": "cancelled", "error": "cancelled by Ctrl-C"}))
    assert result.find(path, 3) == RunResult(3, Outcome.CANCELLED, "A", error="cancelled by Ctrl-C")


@pytest.mark.parametrize(("outcome", "is_its_own"), [("completed", True), ("cancelled", True), ("failed", False)])
def test_an_outcome_of_the_run_itself_is_final_even_if_the_run_was_ended(outcome, is_its_own):
    assert Outcome(outcome).is_its_own is is_its_own


@pytest.mark.parametrize(("reason", "is_its_own"), [(NO_PROGRESS, True), (OUT_OF_MEMORY, False), (None, False)])
def test_no_progress_is_a_failure_that_no_end_from_outside_explains(reason, is_its_own):
    assert RunResult(1, Outcome.FAILED, "A", reason=reason).is_its_own is is_its_own
    assert RunResult(1, Outcome.COMPLETED, "A").is_its_own


def test_an_ending_is_of_one_attempt(tmp_path):
    path = tmp_path / "run.exit"
    ending.write(path, Ending(1, signal=9, out_of_memory=True, ended_at="2026-01-01T00:00:00+00:00"))
    assert ending.find(path, 1) == Ending(1, signal=9, out_of_memory=True)
    assert ending.find(path, 2) is None


def test_who_holds_a_run_is_named_with_its_host(tmp_path):
    path = tmp_path / "run.pid"
    assert liveness.find_holder(path) is None
    liveness.write_holder(path, 4)
    holder = liveness.find_holder(path)
    assert holder.attempt == 4 and holder.host and holder.process.is_alive()
    assert liveness.find_process(path, 4) == holder.process and liveness.find_process(path, 3) is None


def test_a_holder_that_an_earlier_version_wrote_is_found_without_a_host(tmp_path):
    path = tmp_path / "run.pid"
    path.write_text('{"pid": 1, "create_time": 1.5, "attempt": 2}')
    holder = liveness.find_holder(path)
    assert (holder.host, holder.attempt, holder.process.is_alive()) == ("", 2, False)
