"""The parts of the machine that runs get."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from flowrl.errors import BadInput
from flowrl.parallel.scheduler import SkillScheduler
from flowrl.parallel.slots import cpu_slots, driver_environment, gpu_slots, plan_slots
from flowrl.records.run_record import Slot


def test_cores_are_dealt_out_and_none_is_left_over():
    assert [slot.cores for slot in cpu_slots(3, [0, 1, 2, 3, 4, 5, 6, 7])] == [(0, 1), (2, 3, 4), (5, 6, 7)]
    assert [slot.cores for slot in cpu_slots(1, [2, 5])] == [(2, 5)]


def test_surplus_slots_share_cores():
    assert [slot.cores for slot in cpu_slots(3, [0, 1])] == [(0,), (1,), (0,)]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_only_the_cores_that_we_may_use_are_dealt_out():
    allowed = os.sched_getaffinity(0)
    one = min(allowed)
    os.sched_setaffinity(0, {one})
    try:
        assert [slot.cores for slot in plan_slots(2, gpu_ids="none")] == [(one,), (one,)]
    finally:
        os.sched_setaffinity(0, allowed)


def test_skills_are_spread_over_the_gpus_before_they_share_one_and_share_their_memory():
    found = gpu_slots(8, ["0", "3"], skills_per_gpu=2, cores=[0, 1, 5])
    assert [slot.gpu for slot in found] == ["0", "3", "0", "3"]
    assert {slot.memory_fraction for slot in found} == {0.45}
    assert {slot.cores for slot in found} == {(0, 1, 5)}
    assert driver_environment(found[0]) == {"CUDA_VISIBLE_DEVICES": "0", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45"}


def test_a_gpu_trains_one_skill_unless_told_otherwise():
    assert len(gpu_slots(3, ["0"], skills_per_gpu=1, cores=[0])) == 1


def test_slots_match_run_json():
    assert json.loads(json.dumps(asdict(Slot(cores=(2, 3))))) == {"cores": [2, 3], "gpu": None, "memory_fraction": None}


@pytest.mark.parametrize("number", [0, -1, 1.5])
def test_a_number_of_slots_that_is_none_is_refused(number):
    with pytest.raises(BadInput, match="--max_parallel_skills must be a whole number, 1 or more"):
        plan_slots(number)


def test_a_scheduler_without_the_front_door_wants_a_number(tmp_path):
    with pytest.raises(BadInput, match="--max_parallel_skills must be a whole number, 1 or more, not 'auto'"):
        SkillScheduler(SimpleNamespace(max_parallel_skills="auto"), base_dir=tmp_path)
