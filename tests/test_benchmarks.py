"""The benchmarks still run, and what they print adds up: on a game so small that this takes seconds."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from flowrl.files import read_json, write_json
from flowrl.paths import RunPaths
from flowrl.training.calibration import workload
from tests.parallel.fakes.experiments import put_in_library
from tests.parallel.test_training_processor import finished_run
from tests.training.test_choice_of_update import Patterned
from tests.training.test_loop import Gold

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
GAME = "Craftax-Classic-Symbolic-v1"
SIZE = ["--env_name", GAME, "--num_envs", "16", "--num_steps", "8", "--layer_size", "8"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Programs that several benchmarks call are compiled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def benchmark(monkeypatch, cache):
    """Loads a benchmark, which then plays `Gold`."""
    monkeypatch.setenv("FLOWRL_CACHE_DIR", str(cache))
    monkeypatch.setattr(workload, "make_adapter", lambda env_name: Gold())
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(BENCHMARKS.parent))

    def load(name):
        spec = importlib.util.spec_from_file_location(f"benchmarks.{name}", BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(module, "make_adapter", lambda env_name: Gold(), raising=False)
        for holder in (module, importlib.import_module("sizes")):
            monkeypatch.setattr(holder, "use_compile_cache", lambda: None, raising=False)
        return module

    return load


def numbers(text, pattern):
    return [float(found.replace(",", "")) for found in re.findall(pattern, text)]


def test_the_parts_of_an_update_add_up_to_the_whole(benchmark, capsys, monkeypatch):
    monkeypatch.setenv("FLOWRL_FUSED_ROLLOUT", "0")
    benchmark("whereabouts").main([*SIZE, "--repeats", "1"])
    said = capsys.readouterr().out
    shares = numbers(said, r" s +(-?[\d.]+)%")
    assert len(shares) == 7 and sum(shares) == pytest.approx(100, abs=1)
    assert shares[-1] > 0  # the host's is what is left of the whole: more cannot have been found in the parts
    assert "GFLOP/s" in said


def test_runs_of_a_table_are_compared_with_the_first(benchmark, capsys, tmp_path):
    arguments = ["--mixed_precision", "--repeats", "1", "--warm_up", "1"]
    benchmark("training_speed").main([*SIZE, *arguments, "--json", str(tmp_path / "rows.json")])
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["run"] for row in rows] == ["1 expert", "1 expert, mixed precision"]
    assert rows[0]["ratio"] == 1 and all(row["frames_per_s"] > 0 for row in rows)
    assert "a plain matrix product" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mix", "expected"), [("balanced", [4, 4, 4, 4]), ("skewed", [10, 2, 2, 2]), ("single", [16, 0, 0, 0])]
)
def test_experts_act_in_as_many_environments_as_the_mix_says(benchmark, monkeypatch, mix, expected):
    made = {}
    monkeypatch.setattr(workload.Workload, "__init__", lambda self, *sizes, **how: made.update(how))
    speed = benchmark("training_speed")
    speed.OurRun(speed.Size(GAME, 16, 8, 8, num_experts=4, mix=mix))
    assert made["num_experts"] == 4 and np.bincount(made["acting"], minlength=4).tolist() == expected


def test_growth_is_shown_along_every_axis(benchmark, capsys, monkeypatch):
    class Run:
        """Takes as many seconds as it has experts."""

        def __init__(self, size):
            self.size = size

        def update(self):
            return {"total": float(self.size.num_experts)}

    growth = benchmark("growth")
    monkeypatch.setattr(growth, "OurRun", Run)
    growth.main([*SIZE, "--repeats", "1"])
    said = capsys.readouterr().out
    shown = re.findall(r"  (num_\w+|layer_size) (\d+) .* ([\d.]+) x the first", said)
    assert [found[:2] for found in shown] == [(axis, str(value)) for axis, values in growth.AXES.items() for value in values]
    assert [float(ratio) for axis, _, ratio in shown if axis == "num_experts"] == [1, 0.5, 0.25, 0.12, 0.06]


def test_three_ways_to_multiply_columns_come_to_the_same(benchmark, capsys, monkeypatch):
    monkeypatch.setattr(workload, "make_adapter", lambda env_name: Patterned())
    rare_columns = benchmark("rare_columns")
    monkeypatch.setattr(rare_columns, "UPDATES_BEFORE", 0)
    rare_columns.main([*SIZE, "--repeats", "1"])
    said = capsys.readouterr().out
    assert re.search(r"\d+ columns shown", said) and len(numbers(said, r"([\d.]+) times as fast")) == 3
    of_itself, *differences = numbers(said, r"a parameter ([\de.+-]+)")
    assert of_itself == 0 and len(differences) == 2 and max(differences) < 1e-3


def test_an_update_reports_its_page_faults_and_memory(benchmark, capsys):
    pages = benchmark("large_pages")
    told = io.StringIO()
    pages.updates(pages.parsed(SIZE), ["\n", "\n"], told)
    lines = [json.loads(line) for line in told.getvalue().splitlines()]
    assert len(lines) == 2 and all(line["total"] > 0 and line["faults"] >= 0 and line["peak_mb"] > 50 for line in lines)


A_RUN_TOLD_WHAT_TO_SAY = """
import json, pathlib, sys
turns, seconds = pathlib.Path(sys.argv[0]).with_suffix(".turns"), {SECONDS}[sys.argv[-1]]
if seconds is None:
    sys.exit(1)
for _ in sys.stdin:
    with turns.open("a") as file:
        print(sys.argv[-1], file=file)
    print(json.dumps({"total": seconds.pop(0), "faults": 7, "peak_mb": 1}), flush=True)
"""


@pytest.fixture
def memory_benchmark(benchmark, tmp_path, monkeypatch):
    """`large_pages`, whose runs take the seconds that they are given."""

    def load(seconds):
        pages = benchmark("large_pages")
        fake = tmp_path / "fake.py"
        fake.write_text(A_RUN_TOLD_WHAT_TO_SAY.replace("{SECONDS}", repr(dict(zip(pages.MODES, seconds)))))
        monkeypatch.setattr(pages, "__file__", str(fake))
        return pages

    return load


def test_memory_modes_take_turns_and_are_compared_with_the_default(memory_benchmark, capsys, tmp_path):
    pages = memory_benchmark([[9.0, 4, 3, 5], [9.0, 2, 2, 2], [9.0, 1, 1, 1]])
    pages.main([*SIZE, "--repeats", "3", "--warm_up", "1"])
    assert (tmp_path / "fake.turns").read_text().splitlines() == [*pages.MODES] * 4
    said = capsys.readouterr().out
    assert numbers(said, r"([\d.]+) s an update") == [4, 2, 1] and numbers(said, r"([\d.]+) x as fast") == [1, 2, 4]


@pytest.mark.parametrize("kept", [[1.0], None], ids=["at its second update", "before its first"])
def test_a_run_that_breaks_off_is_named(memory_benchmark, kept):
    pages = memory_benchmark([[1.0, 1], kept, [1.0, 1]])
    with pytest.raises(SystemExit, match="'kept' ended with exit code 1"):
        pages.main([*SIZE, "--repeats", "2", "--warm_up", "0"])


def test_an_order_to_a_dead_run_is_not_another_error(memory_benchmark):
    pages = memory_benchmark([None, None, None])
    run = pages.start("kept", GAME, pages.parsed(SIZE))
    run.wait()
    with pytest.raises(SystemExit, match="'kept' ended with exit code 1"):
        pages.in_turn({"kept": run}, 1)
    pages.end(run)
    run.stdout.close()


def test_each_way_prepares_its_process_before_the_updates(benchmark, monkeypatch):
    pages = benchmark("large_pages")
    done = []
    monkeypatch.setattr(pages, "MODES", {"plain": [], "both": [lambda: done.append("first"), lambda: done.append("second")]})
    monkeypatch.setattr(pages, "updates", lambda *_: done.append("updates"))
    monkeypatch.setattr(pages.os, "_exit", lambda code: done.append(code))
    pages.main([*SIZE, "--one", "plain"])
    pages.main([*SIZE, "--one", "both"])
    assert done == ["updates", 0, "first", "second", "updates", 0]


def test_a_benchmark_has_the_memory_of_a_training(benchmark, monkeypatch):
    benchmark("training_speed")
    sizes, done = importlib.import_module("sizes"), []
    monkeypatch.setattr(sizes.heap, "begin_with_large_pages", lambda: done.append("large pages"))
    monkeypatch.setattr(sizes.heap, "settle", lambda: done.append("settled"))
    with pytest.raises(SystemExit) as ended:
        sizes.as_a_training(lambda: done.append("main") or 3)
    assert done == ["large pages", "settled", "main"] and ended.value.code == 3


def test_a_rollout_as_one_program_is_compared_number_by_number(benchmark, capsys):
    fused_rollout = benchmark("fused_rollout")
    fused_rollout.main([*SIZE, "--repeats", "2"])
    said = capsys.readouterr().out
    ((different, compared),) = re.findall(r"([\d,]+) of ([\d,]+) numbers differ", said)
    assert different == "0" and int(compared.replace(",", "")) > 2 * 16 * 8 * 5
    one = [np.float32([1, 2, 3]), np.arange(3), np.array([True, False])]
    other = [np.float32([1, 2.01, 3.00001]), np.array([0, 1, 3]), np.array([True, True])]
    assert fused_rollout.count_different(one, other) == 3


@struct.dataclass
class Counter:
    """A game that counts its steps, up to nine of which fit into the pocket."""

    steps: jax.Array
    inventory: jax.Array


class Counting:
    """What `observations` asks of an adapter; ``wrong`` numbers of each observation are not those of the small one."""

    num_actions = 2

    def __init__(self, wrong):
        self.layout, self._wrong = self, wrong

    def reset(self, key):
        return None, Counter(jnp.int32(0), jnp.int32(0))

    def step(self, key, state, action):
        state = state.replace(steps=state.steps + 1)
        return self.observe(state) + (jnp.arange(5) < self._wrong), state, state.steps == 3

    def observe(self, state):
        return jnp.full(5, state.steps * 10 + state.inventory)

    def expand(self, small):
        return small


@pytest.mark.parametrize("wrong", [0, 2])
def test_every_number_of_an_observation_that_differs_is_counted(benchmark, monkeypatch, wrong):
    observations = benchmark("observations")
    monkeypatch.setattr(observations, "make_adapter", lambda env_name: Counting(wrong))
    monkeypatch.setattr(observations, "BATCH", 4)
    assert observations.compare(GAME, 39) == (40, 40 * wrong)


A_TRAINING = """#!/bin/sh
[ "$1 $2" = "-m flowrl.training" ] || exit 9
for seconds in {seconds}; do echo "{{\\"seconds\\": $seconds}}" >> "$3/metrics.jsonl"; done
[ {code} = alive ] || exit {code}
exec sleep 300
"""


@pytest.fixture
def start(benchmark, tmp_path, monkeypatch):
    """`second_start`, whose trainings say when each of their updates was done, and then end with a code or stay alive."""

    def load(seconds, code):
        second_start = benchmark("second_start")
        python = tmp_path / "python"
        python.write_text(A_TRAINING.format(seconds=seconds, code=code))
        python.chmod(0o755)
        monkeypatch.setattr(second_start, "sys", SimpleNamespace(executable=str(python)))
        run = RunPaths(tmp_path / "skill_0_A")
        run.folder.mkdir()
        return second_start, run

    return load


def test_the_overhead_of_a_start_is_what_its_first_update_took_longer_than_later_ones(start, tmp_path):
    second_start, run = start("10 12 14 17 18 99", "alive")
    assert second_start.overhead_s(run, tmp_path) == (8, 2)


def test_a_training_that_ends_before_its_updates_is_named(start, tmp_path):
    second_start, run = start("10 12", 3)
    with pytest.raises(SystemExit, match="skill_0_A ended with exit code 3: see .*training.log"):
        second_start.overhead_s(run, tmp_path)


# A library beside plain agents


def whole(achievements: float) -> dict:
    interval = {"value": achievements, "low": achievements - 0.2, "high": achievements + 0.2}
    rates = {"COLLECT_WOOD": {"value": 1.0}, "EAT_COW": {"value": achievements - 1}}
    return {"episodes": 8, "achievements": interval, "score": 10.0, "episode_steps": {"value": 100.0}, "rates": rates}


def test_a_library_and_plain_agents_are_compared_over_seeds_and_nothing_is_done_twice(benchmark, monkeypatch, tmp_path, capsys):
    vs_flat, calls = benchmark("vs_flat_ppo"), []
    reached = {"0": (1.5, 1.25), "1": (1.75, 1.5)}

    def flowrl(command, *arguments, **_):
        folder = next(Path(text) for text in arguments if "seed_" in text)
        state = folder / "scheduler_state.json"
        if command == "grow":
            assert "--no-use_wandb" in arguments
            assert "--continue_skill" in arguments or {"--explore_frames", "30000"} <= set(arguments)
        if "--continue_skill" in arguments:
            assert {"--hold_dependencies", "Collect_Coal", "10000"} <= set(arguments)
            calls.append("further")
            (folder / "skills" / "4_Collect_Coal" / "earlier").mkdir(parents=True)
            return
        calls.append(command)
        if command == "grow" and not folder.exists():
            coal = {
                "skill_name": "Collect_Coal",
                "status": "completed",
                "extra_timesteps": None,
                "expert_idx": 4,
                "minutes": 1.5,
            }
            folder.mkdir(parents=True)
            write_json(state, {"skills": [coal], "rehearsals": []})
        elif command == "rehearse":
            known = read_json(state)
            number = len(known["rehearsals"]) + 1
            assert arguments[1:3] == ("--frames", {1: "20000", 2: "80000"}[number])
            known["rehearsals"].append({"minutes": 1.0, "status": "completed"})
            write_json(state, known)
            frames = 20_000 * number**2
            write_json(folder / f"rehearsals/{number}/result.json", {"attempt": 1, "outcome": "completed", "frames": frames})
        elif command == "evaluate":
            composed, plain = reached[folder.name[-1]]
            skill = {"skill_name": "Collect_Coal", "is_learned": True, "random_success_rate": 0.1}
            flat = {
                "small batches": whole(plain) | {"frames": 100_000},
                "small batches, falling learning rate": whole(1.125) | {"frames": 100_000},
                "settings of the skills": whole(1.0) | {"frames": 100_000},
            }
            found = {"frames": 100_000, "whole": whole(composed), "flat": flat, "skills": [skill]}
            write_json(folder / "evaluation.json", found)

    monkeypatch.setattr(vs_flat, "flowrl", flowrl)
    sizes = ["--seeds", "2", "--frames", "1e5", "--episodes", "8", "--further", "Collect_Coal=0.1", "Of_Another_Game=0.1"]
    sizes += ["--most_explore_frames", "3e4"]
    command = [str(tmp_path / "vs"), *sizes, "--json", str(tmp_path / "found.json")]
    vs_flat.main(command)
    found = json.loads((tmp_path / "found.json").read_text())
    assert calls == ["grow", "rehearse", "further", "rehearse", "evaluate"] * 2
    mean = found["composed"]["achievements"]
    # Student's interval of two values: 12.706 standard errors of 0.125 on both sides.
    assert mean == {"value": 1.625, "low": pytest.approx(0.037, abs=1e-3), "high": pytest.approx(3.213, abs=1e-3)}
    assert (found["composed"]["minutes"], found["composed"]["frames"], found["composed"]["skills_learned"]) == (3.5, 100_000, 1)
    assert found["best_flat"]["name"] == "small batches" and found["best_flat"]["achievements"]["value"] == 1.375
    assert "1.62 (0.04 to 3.21)" in capsys.readouterr().out
    calls.clear()
    vs_flat.main(command)
    assert calls == ["grow"] * 2  # which finds that nothing is left to do
    vs_flat.main([*command, "--seeds", "1", "--first_seed", "1"])
    second = json.loads((tmp_path / "found.json").read_text())
    assert second["seeds"] == 1 and second["composed"]["achievements"]["value"] == 1.75
    said, folder = capsys.readouterr().out, tmp_path / "vs" / "seed_1"
    assert f"flowrl evaluate {folder} --log" in said and f"flowrl watch {folder} Collect_Coal" in said


def test_a_short_comparison_rehearses_with_all_that_explore_leaves(benchmark, monkeypatch, tmp_path):
    vs_flat, calls = benchmark("vs_flat_ppo"), []

    def flowrl(command, *arguments, **_):
        folder = next(Path(text) for text in arguments if "seed_" in text)
        calls.append(command)
        coal = {"skill_name": "Collect_Coal", "status": "completed", "extra_timesteps": None, "expert_idx": 4, "minutes": 1.5}
        if command == "grow":
            assert {"--explore_frames", "80000"} <= set(arguments)
            result = folder / "skills/0_Explore/result.json"
        elif command == "rehearse":
            assert arguments[1:3] == ("--frames", "18000")
            result = folder / "rehearsals/1/result.json"
        else:
            found = {"frames": 98_000, "whole": whole(1.5), "flat": {}, "skills": []}
            return write_json(folder / "evaluation.json", found)
        result.parent.mkdir(parents=True)
        # Whole updates: Explore trained 2,000 frames more than were asked for.
        write_json(result, {"attempt": 1, "outcome": "completed", "frames": 82_000 if command == "grow" else 16_384})
        rehearsals = [{"minutes": 1.0, "status": "completed"}] * (command == "rehearse")
        return write_json(folder / "scheduler_state.json", {"skills": [coal], "rehearsals": rehearsals})

    monkeypatch.setattr(vs_flat, "flowrl", flowrl)
    vs_flat.main([str(tmp_path / "vs"), "--seeds", "1", "--frames", "1e5", "--no_flat"])
    assert calls == ["grow", "rehearse", "evaluate"]


def test_plain_agents_are_trained_and_played_once_for_each_seed(benchmark, monkeypatch, tmp_path, capsys):
    plain, calls = benchmark("plain_agents"), []

    def train(experiment, entry, variant, settings, frames, on_frames):
        paths = plain.plain_agents.folder_of(experiment, variant)
        if not paths.root.exists():
            calls.append(("train", settings["seed"]))
            assert (entry.env_name, settings["lr"], frames) == (GAME, 5e-4, 50_000)
            paths.root.mkdir(parents=True)
        return paths

    def play(options, variant, agent, seed, out):
        calls.append(("play", seed))
        return {**whole(1.25 + seed), "frames": 50_000, "episodes": options.episodes}

    monkeypatch.setattr(plain.plain_agents, "train", train)
    monkeypatch.setattr(plain, "play", play)
    monkeypatch.setattr(plain.process, "take_slot", lambda slot: None)
    command = [str(tmp_path), "--seeds", "2", "--frames", "5e4", "--variants", "small batches", "--episodes", "8"]
    plain.main([*command, "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["flat"]["small batches"]["achievements"]["value"] == 1.75
    assert "plain, small batches" in capsys.readouterr().out
    assert calls == [("train", 0), ("play", 0), ("train", 1), ("play", 1)]
    plain.main(command)
    assert len(calls) == 4
    plain.main([*command[:-1], "16"])  # more episodes: they are played, and nothing is trained
    assert calls[4:] == [("play", 0), ("play", 1)]


def test_merges_are_measured_before_and_after_and_nothing_is_done_twice(benchmark, monkeypatch, tmp_path, capsys):
    merges = benchmark("merges")
    fake = Path(__file__).parent / "parallel/fakes/measuring.py"
    monkeypatch.setattr(merges, "COMMAND", (sys.executable, str(fake), "library"))  # whatever is merged becomes worse

    def grow(paths, options, seed, max_nodes, guard):
        if paths.root.exists():
            return
        assert max_nodes == 2
        put_in_library(paths.root, 0, "Collect_Wood", 50, acted_frames=40)
        longer = finished_run(paths.root, 1, "Skill_A", {"Collect_Wood": 0}, 100, acted={"0": 60, "1": 40})
        shorter = finished_run(paths.root, 2, "Skill_B", {"Collect_Wood": 0}, 80, acted={"0": 30, "2": 50})
        for run, frames in ((longer, 100), (shorter, 80)):
            merges.merge_and_keep(run.folder, run.skill_name, run.expert_idx, paths.root, total_timesteps=frames, guard=None)

    monkeypatch.setattr(merges, "grow", grow)
    command = [str(tmp_path / "merges"), "--merges", "4", "--max_nodes", "2", "--json", str(tmp_path / "found.json")]
    merges.main(command)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found.keys() == {"guard", "changes", "frames"}
    of_frames = found["frames"]
    # Two experiments of two merges: the first one changes the expert, and the second one's version is given up.
    assert (of_frames["merges"], of_frames["changed_experts"], of_frames["worse_experts"]) == (4, 2, 2)
    assert (of_frames["competing_experts"], of_frames["worse_of_competing"], of_frames["lost_acted_frames"]) == (2, 0, 60)
    printed = capsys.readouterr().out
    assert printed.count("measuring Collect_Wood, changed by 1_Skill_A") == 6
    merges.main(command)
    again = capsys.readouterr().out
    assert "measuring Collect_Wood" not in again and json.loads((tmp_path / "found.json").read_text()) == found
