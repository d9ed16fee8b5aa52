"""The benchmarks of host environments still run, and their rows say what was measured: at sizes that take seconds."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.kept_programs import kept_programs  # noqa: F401

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name):
        spec = importlib.util.spec_from_file_location(f"benchmarks.{name}", BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_every_way_of_stepping_is_measured_beside_gymnasiums(benchmark, capsys, tmp_path):
    path = tmp_path / "rows.json"
    flags = ["--cases", "cheap", "waiting", "--repeats", "1", "--seconds", "0.02", "--json", str(path)]
    assert benchmark("host_envs").main(flags) == 0
    shown, rows = capsys.readouterr().out, {row["what"]: row for row in json.loads(path.read_text())}
    for case in ("cheap", "waiting"):
        for way in ("auto", "sequential", "threads", "processes", "AsyncVectorEnv"):
            assert f"{case:8} {way:15}" in shown
    assert re.search(r"waiting: meanwhile other programs used \d+\.\d of \d+ cores\n", shown)
    assert rows["CartPole: ParallelEnv over Gymnasium's AsyncVectorEnv"]["wanted"] == 3.0
    assert rows["waiting for 2 ms: threads over sequential"]["value"] > 1
    assert 5 < rows["memory of a worker"]["value"] < 500
    assert any(what.startswith("waiting: auto over the best") for what in rows)


def test_wanted_figures_come_from_medians(benchmark):
    host_envs = benchmark("host_envs")
    rates = {way: [rate, 10 * rate, rate] for way, rate in zip(("auto", "sequential", "threads"), (90.0, 10.0, 100.0))}
    rates |= {"processes": [19.0] * 3, "AsyncVectorEnv": [15.0] * 3}
    rows = {row.what: row for row in host_envs.rows_of({"busy": rates, "waiting": rates})}
    busy = rows["2 ms of Python: ParallelEnv over sequential"]
    assert busy.value == pytest.approx(1.9) and busy.reached
    assert rows["busy: auto over the best (threads)"].value == pytest.approx(0.9)
    assert rows["waiting for 2 ms: threads over sequential"].value == pytest.approx(10)


def test_actors_and_a_learner_are_measured_beside_ppo(benchmark, capsys, tmp_path):
    path = tmp_path / "rows.json"
    flags = ["--games", "CartPole", "--workers", "1", "--envs_per_worker", "2", "--repeats", "1", "--seconds", "0.02"]
    flags += ["--seeds", "1", "--goal", "5", "--most_frames", "20000", "--json", str(path)]
    ways = ["impala", "PPO, sequential", "PPO, AsyncVectorEnv"]
    assert benchmark("actor_learner").main([*flags, "--ways", *ways]) == 0
    shown, rows = capsys.readouterr().out, {row["what"]: row for row in json.loads(path.read_text())}
    for way in ways:
        assert f"CartPole        {way:20}" in shown
    assert "CartPole-v1: meanwhile other programs used" in shown
    assert rows["CartPole: impala over PPO, sequential"]["wanted"] == 2.0
    assert rows["a million parameters, written and read"]["value"] > 0
    for which in ("impala, of the learner", "PPO, sequential, in all"):
        assert 0 < rows[f"CartPole: a frame's processor time, {which}"]["value"] < 1e5
    # The system counts an actor's time in hundredths of a second.
    assert rows["CartPole: a frame's processor time, impala, of actors"]["value"] < 1e5
    impala, sequential = (rows[f"CartPole to 5: {way}"] for way in ways[:2])
    assert impala["value"] > 0 and impala["wanted"] == sequential["value"] > 0


@pytest.mark.parametrize(("all_used_s", "cores"), [(100 + 30, 0.0), (100 + 30 + 15, 1.5)])
def test_the_load_of_other_programs_is_told_from_ours(benchmark, monkeypatch, all_used_s, cores):
    rows = benchmark("rows")

    class Ours(SimpleNamespace):
        def children(self, recursive):
            return [SimpleNamespace(cpu_times=lambda: SimpleNamespace(user=Ours.used_s, system=0.0))]

        def cpu_times(self):
            return SimpleNamespace(user=Ours.used_s, system=0.0)

    now = SimpleNamespace(s=0.0, all_s=100.0)
    Ours.used_s = 0.0
    monkeypatch.setattr(rows.psutil, "Process", Ours)
    monkeypatch.setattr(rows.psutil, "cpu_times", lambda: SimpleNamespace(user=now.all_s, nice=0.0, system=0.0))
    monkeypatch.setattr(rows.time, "perf_counter", lambda: now.s)
    others = rows.OtherPrograms()
    now.s, now.all_s, Ours.used_s = 10.0, all_used_s, 15.0
    assert others.cores == pytest.approx(cores)


def test_what_actors_collected_before_a_measurement_does_not_count(benchmark):
    actor_learner, updates = benchmark("actor_learner"), []
    made = SimpleNamespace(frames=64, flow=SimpleNamespace(num_slots=4, trajectories=2))
    measure = functools.partial(actor_learner._frames_per_s, lambda: updates.append(made) or made, seconds=0.0)
    measure(trained=SimpleNamespace(pids=[os.getpid()]))
    assert len(updates) == 4  # two for the four slots, one whose trajectories were begun before, and the one that counts
    updates.clear()
    measure(trained=SimpleNamespace())  # PPO
    assert len(updates) == 1


def test_the_computed_scaling_stays_within_what_cores_and_a_learner_can_do(benchmark):
    scaling = benchmark("host_scaling")
    for step_s in (2e-5, 2e-3, 2e-2):
        ratios = [scaling.step_ratio(step_s, cores) for cores in scaling.CORES]
        assert ratios == sorted(ratios) and all(ratio < cores for ratio, cores in zip(ratios, scaling.CORES))
    assert scaling.frames_per_s(2e-3, 2e-5, 2) == pytest.approx(2 / (2e-3 + 2e-5))
    assert scaling.frames_per_s(2e-3, 2e-5, 1000) == pytest.approx(1 / 2e-5)
    limit = scaling.cores_a_learner_keeps_busy(2e-3, 2e-5)
    assert scaling.frames_per_s(2e-3, 2e-5, limit) == pytest.approx(1 / 2e-5)
