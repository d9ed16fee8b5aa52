"""Ten thousand skills in 64 slots: how good the schedule is, and that deciding and saving stay cheap."""

from __future__ import annotations

import json
import random
import statistics
from datetime import UTC, datetime

import pytest

from flowrl.parallel.core import SchedulerCore
from flowrl.parallel.state import Rendering, SchedulerState, SkillEntry, Status
from tests.parallel.simulation.schedules import FirstCome, layered_graph, lower_bound_s, run, tech_tree

SLOTS = 64


class CountingCore(SchedulerCore):
    """Counts the skills that it looks at to find those that it launches."""

    looks = 0

    def _is_due(self, name, now):
        type(self).looks += 1
        return super()._is_due(name, now)


@pytest.mark.parametrize("num_layers", [50, 100])
def test_ten_thousand_skills_take_hardly_longer_than_they_must_and_each_is_looked_at_once(num_layers):
    jobs = layered_graph(10_000, num_layers, random.Random(num_layers))
    counting = type("Counting", (CountingCore,), {})
    schedule = run(jobs, SLOTS, counting)
    assert schedule.makespan_s <= 1.05 * lower_bound_s(jobs, SLOTS)
    assert counting.looks == len(jobs)


def test_the_longest_path_first_beats_first_come():
    ratios = []
    for seed in range(40):
        jobs = tech_tree(100, random.Random(seed))
        ratios.append(run(jobs, 8).makespan_s / run(jobs, 8, FirstCome).makespan_s)
    assert statistics.median(ratios) < 0.995
    assert statistics.mean(ratios) < 0.995


def finished(index: int) -> SkillEntry:
    return SkillEntry(skill_name=f"S{index}", status=Status.COMPLETED, expert_idx=index, completed_at=datetime.now(UTC))


@pytest.mark.parametrize("num_finished", [10, 1000])
def test_of_the_finished_skills_only_a_new_one_is_worked_out_for_a_save(num_finished, monkeypatch):
    state = SchedulerState(skills=[finished(index) for index in range(num_finished)] + [SkillEntry(skill_name="Runs")])
    rendering, worked_out = Rendering(), []
    first = rendering.text(state)
    dump = SkillEntry.model_dump_json
    monkeypatch.setattr(SkillEntry, "model_dump_json", lambda self, **how: worked_out.append(self.skill_name) or dump(self, **how))
    assert rendering.text(state) == first
    assert worked_out == ["Runs"]
    state.skills[0] = finished(0)
    state.skills[-1].status = Status.FAILED
    rendering.text(state)
    assert worked_out[1:] == ["S0", "Runs"]


def test_what_was_worked_out_once_is_what_the_state_is_whatever_becomes_of_it():
    state = SchedulerState(skills=[finished(0), finished(1), SkillEntry(skill_name="Blocked")])
    rendering = Rendering()

    def same():
        assert SchedulerState.model_validate_json(rendering.text(state)) == state
        assert json.loads(rendering.text(state)) == state.to_data() == rendering.data(state)

    same()
    state.skills[2].status, state.skills[2].blocked_by = Status.BLOCKED, ["S7"]
    same()
    state.skills[2].blocked_by = ["S8"]
    same()
    state.skills[2].status, state.skills[2].blocked_by = Status.WAITING, []
    same()
    state.skills[1].status, state.skills[1].attempt = Status.RUNNING, 2  # a finished skill is trained further
    same()
    state.skills[1].status, state.skills[1].frames = Status.COMPLETED, 200
    same()
    state.skills[1].error = "not trained further: planted"
    same()
    state.skills[1] = finished(1)
    rendering.data(state)["skills"][0]["status"] = "spoilt by whoever asked"
    same()
    state.skills = []
    same()
