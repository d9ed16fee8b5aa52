"""How many trainings at a time: what is tried, what is chosen, what is kept, and what happens when it does not work."""

from __future__ import annotations

import json
import subprocess
import sys

import psutil
import pytest

from flowrl import machine
from flowrl.errors import FlowrlError
from flowrl.parallel import calibration, gpus, slots, throughput
from flowrl.parallel.calibration import Arrangement, Calibration, candidates, choose, key_of
from flowrl.parallel.processes import retry_until
from flowrl.records.training_settings import TrainingSettings
from tests.parallel.fakes.calibration import COMMAND
from tests.parallel.fakes.experiments import PATIENCE_S

SMALL = TrainingSettings().training() | {"num_envs": 16, "num_steps": 8, "layer_size": 16, "num_minibatches": 2}


def updates(seconds: float, **more) -> dict:
    return {"updates": [[seconds, False]] * 3, **more}


@pytest.fixture(autouse=True)
def four_cores_at_once(monkeypatch):
    """A machine with four cores; nothing is measured for longer than it takes."""
    monkeypatch.setattr(throughput, "LEAST_S", 0.0)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    set_cores(monkeypatch, 4)


def set_cores(monkeypatch, number: int) -> None:
    for module in (slots, calibration):
        monkeypatch.setattr(module, "usable_cores", lambda: list(range(number)))


class Found:
    """One search for the number, with processes that do what ``wishes`` say, by the cores that each of them has."""

    def __init__(self, folder, wishes, settings=SMALL, busy=0.0):
        self.lines: list[str] = []
        self.log = folder / "log"
        self.path = folder / "calibration.json"
        command = (*COMMAND, json.dumps(wishes), str(self.log))
        calibration = Calibration("Gold", settings, self.lines.append, None, self.path, command, lambda: busy)
        self.arrangement = calibration.arrangement()

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    def started(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


def test_the_numbers_worth_a_try():
    assert [arrangement.max_parallel for arrangement in candidates(6, 0)] == [1, 2, 4, 6]
    assert [arrangement.max_parallel for arrangement in candidates(8, 0)] == [1, 2, 4, 8]
    assert candidates(1, 0) == [(1, 1)]
    assert candidates(16, 2) == [(2, 1), (4, 2), (6, 3), (8, 4)]


@pytest.mark.parametrize(
    ("frames_per_s", "number"),
    [
        ({1: 100.0}, 1),
        ({1: 100.0, 2: 104.0}, 1),  # as good as equal: each skill is done sooner
        ({1: 100.0, 2: 180.0, 4: 185.0}, 2),
        ({1: 100.0, 2: 180.0, 4: 300.0}, 4),
        ({1: 100.0, 2: 60.0}, 1),
        ({4: 90.0, 2: 95.0, 1: 50.0}, 2),
    ],
)
def test_the_smallest_number_with_about_the_most_frames_is_chosen(frames_per_s, number):
    assert choose(frames_per_s) == number


def test_each_number_is_tried_in_the_slots_of_real_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proposer")
    monkeypatch.setenv("WANDB_API_KEY", "wandb-secret")
    monkeypatch.setenv("XLA_FLAGS", "--xla_of_a_user")
    found = Found(tmp_path, {"4": updates(1.0), "2": updates(1.5), "1": updates(4.0)})
    assert found.arrangement == Arrangement(2)
    frames = 16 * 8
    assert json.loads(found.path.read_text())["answers"][0]["frames_per_s"] == {
        "1": pytest.approx(frames), "2": pytest.approx(2 * frames / 1.5), "4": pytest.approx(frames),
    }  # fmt: skip
    started = found.started()
    assert [process["task"]["slot"]["cores"] for process in started[:1]] == [[0, 1, 2, 3]]
    assert sorted(process["task"]["slot"]["cores"] for process in started[1:3]) == [[0, 1], [2, 3]]
    assert sorted(process["task"]["slot"]["cores"] for process in started[3:]) == [[0], [1], [2], [3]]
    for process in started:
        assert process["task"]["settings"] == SMALL and process["task"]["env_name"] == "Gold"
        assert process["environment"]["XLA_FLAGS"] == "--xla_of_a_user"
        assert "secret" not in str(process["environment"]) and "sk-" not in str(process["environment"])
        assert not psutil.pid_exists(process["pid"])
    assert "measuring 1, 2, 4 trainings of Gold at a time (16 x 8, width 16)" in found.said
    assert "2 at a time: 171 frames/s in all, 100 MB of memory each" in found.said
    assert "chosen: 2 at a time" in found.lines[-1] and str(found.path) in found.lines[-1]


def test_an_answer_is_kept_for_the_same_work_on_the_same_machine(tmp_path, monkeypatch):
    wishes = {"4": updates(1.0), "2": updates(1.0), "1": updates(1.0)}
    first = Found(tmp_path, wishes)
    num_started = len(first.started())
    again = Found(tmp_path, {"4": {"exits": 1}})
    assert again.arrangement == first.arrangement == Arrangement(4)
    assert len(again.started()) == num_started
    assert len(again.lines) == 1 and "4 at a time (frames/s in all: 1: 128, 2: 256, 4: 512; measured" in again.said

    other = Found(tmp_path, wishes | {"1": updates(9.0)}, SMALL | {"layer_size": 32})
    assert other.arrangement == Arrangement(2)
    set_cores(monkeypatch, 2)
    assert Found(tmp_path, {"2": updates(1.0), "1": updates(9.0)}).arrangement == Arrangement(1)
    set_cores(monkeypatch, 4)
    assert Found(tmp_path, {}).arrangement == Arrangement(4)


def test_what_an_answer_depends_on(monkeypatch):
    key = key_of("Gold", SMALL, [])
    assert key["cpu"] and key["cores"] == 4 and key["gpus"] == [] and key["memory_gb"] > 0 and key["jax"]
    assert {name: key[name] for name in ("env_name", "num_envs", "num_steps", "layer_size")} == {
        "env_name": "Gold", "num_envs": 16, "num_steps": 8, "layer_size": 16,
    }  # fmt: skip
    monkeypatch.setattr(gpus, "find_gpus", lambda: gpus.Gpus(("0", "1"), ("NVIDIA H200", "T4")))
    assert key_of("Gold", SMALL, ["1", "0"])["gpus"] == ["T4", "NVIDIA H200"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\x80\x04\x95", b"[]", b'{"version": 2, "answers": []}', b'{"version": 1, "answers": [{"max_parallel": 0}]}'],
)
def test_a_damaged_or_foreign_file_is_measured_anew(content, tmp_path):
    (tmp_path / "calibration.json").write_bytes(content)
    wishes = {"4": updates(1.0), "2": updates(9.0)}
    assert Found(tmp_path, wishes).arrangement == Arrangement(1)
    assert Found(tmp_path, {}).arrangement == Arrangement(1)  # kept now


def test_an_answer_that_cannot_be_kept_is_an_answer(tmp_path):
    (tmp_path / "calibration.json").mkdir()
    found = Found(tmp_path, {"4": updates(1.0), "2": updates(9.0)})
    assert found.arrangement == Arrangement(1)
    assert "not kept, because" in found.said and "cannot be written" in found.said


def test_figures_of_a_busy_machine_are_not_kept(tmp_path):
    found = Found(tmp_path, {"4": updates(1.0), "2": updates(9.0)}, busy=0.6)
    assert found.arrangement == Arrangement(1)
    assert "not kept, because other processes used 60% of the cores" in found.said
    assert not found.path.exists()


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"exits": 1}, "one of them ended with exit code 1: RESOURCE_EXHAUSTED: planted"),
        ({"killed": True}, "one of them was killed from outside, as the kernel does when memory runs out"),
    ],
)
def test_a_number_with_which_a_training_dies_does_not_work(wish, words, tmp_path):
    found = Found(tmp_path, {"4": updates(1.0), "2": updates(1.0), "1": wish})
    assert found.arrangement == Arrangement(2)
    assert f"4 at a time: does not work here, {words}" in found.said
    assert not any(psutil.pid_exists(process["pid"]) for process in found.started())


def test_where_not_even_one_training_runs_that_is_one_clear_line(tmp_path):
    with pytest.raises(
        FlowrlError, match="1 at a time does not work here, .*RESOURCE_EXHAUSTED: planted; give a smaller"
    ) as caught:
        Found(tmp_path, {"4": {"exits": 3}})
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1
    assert not (tmp_path / "calibration.json").exists()


def test_on_gpus_it_is_found_how_many_share_one(tmp_path, monkeypatch):
    for module in (slots, calibration):
        monkeypatch.setattr(module, "visible_gpus", lambda: ["0", "1"])
    found = Found(tmp_path, {"0.9": updates(1.0), "0.45": updates(1.2), "0.3": {"exits": 1}})
    assert found.arrangement == Arrangement(max_parallel=4, skills_per_gpu=2)
    tried = [
        (process["environment"]["CUDA_VISIBLE_DEVICES"], process["task"]["slot"]["gpu"]) for process in found.started()[:6]
    ]
    assert sorted(tried[:2]) == [("0", "0"), ("1", "1")] and sorted(tried[2:]) == [("0", "0")] * 2 + [("1", "1")] * 2
    assert "4 at a time (2 on each GPU): 427 frames/s in all" in found.said
    assert "6 at a time (3 on each GPU): does not work here" in found.said
    assert Found(tmp_path, {}).arrangement == found.arrangement


def test_more_than_the_memory_holds_is_not_tried(tmp_path):
    most_mb = psutil.virtual_memory().total / 2**20
    found = Found(tmp_path, {"4": updates(1.0, peak_mb=most_mb / 2), "2": updates(1.0, peak_mb=most_mb / 2)})
    assert len(found.started()) in (1, 3)  # 1 or 2 at a time, as much as is free of the machine's memory
    assert f"at a time: not tried, as it needs {2 if len(found.started()) == 1 else 4} x" in found.said


def test_more_than_a_container_holds_is_not_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "ROOT", str(tmp_path))
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/\n")
    (group / "memory.max").write_text(f"{2**30}\n")
    (group / "memory.current").write_text(f"{2**29}\n")
    found = Found(tmp_path, {"4": updates(1.0, peak_mb=300.0)})
    assert len(found.started()) == 1
    assert "2 at a time: not tried, as it needs 2 x 300 MB of memory, and 461 MB are free" in found.said
    assert json.loads(found.path.read_text())["answers"][0]["key"]["memory_gb"] == 1


def test_still_more_are_not_tried_where_more_were_slower(tmp_path):
    found = Found(tmp_path, {"4": updates(1.0), "2": updates(3.0), "1": {"exits": 1}})
    assert found.arrangement == Arrangement(1)
    assert len(found.started()) == 3
    assert "higher numbers are not tried" in found.said


def test_one_core_needs_no_measurement(tmp_path, monkeypatch):
    set_cores(monkeypatch, 1)
    found = Found(tmp_path, {})
    assert found.arrangement == Arrangement(1) and not found.started()


def test_an_update_that_had_to_compile_is_not_counted(tmp_path):
    slow_first = {"updates": [[50.0, True], [50.0, True], [1.0, False], [2.0, False], [1.0, False]]}
    measured = throughput.measure(slots.cpu_slots(1, [0, 1]), "Gold", SMALL, (*COMMAND, json.dumps({"2": slow_first})))
    assert measured == (16 * 8 / 1.0, 100)


def test_real_trainings_are_measured_side_by_side(monkeypatch):
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # the second time, nothing is compiled
    command = (sys.executable, "-m", "tests.parallel.fakes.gold_calibration")
    measured = throughput.measure(slots.cpu_slots(2, slots.usable_cores()[:2]), "Gold", SMALL, command)
    assert measured.frames_per_s > 0
    assert 50 < measured.peak_mb < 10_000
    assert not [child for child in psutil.Process().children(recursive=True) if child.cmdline()[1:3] == list(command[1:])]


def test_a_calibrating_process_ends_with_who_asked_for_it():
    process = subprocess.Popen(throughput.COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.stdin.write(json.dumps({"env_name": "Gold", "settings": SMALL, "slot": {}}) + "\n")
    process.stdin.close()
    try:
        assert retry_until(lambda: process.poll() is not None, PATIENCE_S)
        assert process.returncode == 0  # a game that it does not know would be another end, had it gone on
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
