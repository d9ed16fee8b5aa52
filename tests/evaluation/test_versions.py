"""Two versions of an expert are played in the same worlds, and a merge keeps the better one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from flowrl import pickles
from flowrl.evaluation import bench as benches
from flowrl.evaluation import statistics, versions
from flowrl.files import read_json, write_json
from flowrl.parallel.merge_guard import MergeGuard
from flowrl.parallel.training_processor import process_completed_training
from flowrl.parallel.training_setup import prepare_training_run, write_launch
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.records.run_record import Slot
from flowrl.records.version_comparison import Pair
from flowrl.training.playing.environments import Stage, begin_test
from tests.evaluation.camp import AMOUNTS, CODE, LAYER_SIZE, MAX_TASK_STEPS, Camp, camp_library, pressing
from tests.parallel.fakes.experiments import PATIENCE_S

EPISODES = 8
PLAYS_CAMP = (sys.executable, str(Path(__file__).parents[1] / "parallel" / "fakes" / "measuring_camp.py"))
SETTINGS = {"env_name": "Camp", "layer_size": LAYER_SIZE, "max_task_steps": MAX_TASK_STEPS, "total_timesteps": 1000}


@pytest.mark.parametrize(("library", "run", "counts"), [("CHOP", "WAIT", (8, 0)), ("WAIT", "CHOP", (0, 8))])
def test_each_version_plays_in_its_own_half(library, run, counts):
    pair = Pair("Chop", 0, "library", "run")
    (found,) = versions.compare(camp_library(Chop=library), Camp(), {pair: pressing(run)}, EPISODES)
    assert (found.pair, found.episodes, found.library_successes, found.run_successes) == (pair, EPISODES, *counts)
    assert (found.is_library_better, found.is_run_better) == (library == "CHOP", run == "CHOP")
    assert found.difference.value == (counts[1] - counts[0]) / EPISODES


def test_a_plan_in_which_others_act_too_is_played_with_the_librarys():
    """Build is worth nothing without the library's Chop, and is measured beside another pair in one go."""
    asked = {Pair("Build", 2, "a", "b"): pressing("WAIT"), Pair("Drink", 1, "c", "d"): pressing("DRINK")}
    build, drink = versions.compare(camp_library(), Camp(), asked, EPISODES)
    assert (build.library_successes, build.run_successes) == (EPISODES, 0) and build.is_library_better
    assert (drink.library_successes, drink.run_successes) == (EPISODES, EPISODES)
    assert not drink.is_library_better and not drink.is_run_better


def test_with_another_number_the_same_versions_play_in_other_worlds(monkeypatch):
    keys = []
    monkeypatch.setattr(versions, "_successes", lambda stage, params, key: keys.append(key) or np.zeros(2 * EPISODES, bool))
    pairs = [Pair("Chop", 0, "a", "b"), Pair("Drink", 1, "c", "d")]
    for worlds in (0, 0, 1, 7):
        versions.compare(camp_library(), Camp(), {pair: pressing("WAIT") for pair in pairs}, EPISODES, worlds)
    seeds = [int(jax.random.key_data(key)[1]) for key in keys]
    assert seeds[:2] == seeds[2:4] == [pair.seed for pair in pairs]
    assert len(set(seeds[2:])) == 6


def test_both_halves_begin_in_the_same_worlds():
    class Dawn(Camp):
        def reset(self, key):
            observation, state = super().reset(key)
            return observation, state._replace(water=jax.random.randint(key, (), 1, 1_000_000))

    bench = benches.set_up(camp_library(), Dawn(), 6)
    stage = Stage(bench.programs.world, bench.programs.acting, versions._judge_of(bench, bench.library.skills[0], 0))
    water = np.asarray(versions._in_pairs(begin_test(stage, jax.random.key(0), 6), 6).scene.state.water)
    assert len(set(water.tolist())) == 3 and water[:3].tolist() == water[3:].tolist()


def test_the_interval_of_a_difference_is_newcombes():
    """The first example of his paper, method 10."""
    found = statistics.difference((48, 56), (80, 70))
    assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert statistics.difference((256, 256), (256, 256)).low < 0 < statistics.difference((256, 256), (256, 256)).high
    assert statistics.difference((9, 9), (10, 10))[0] == 0.0


def trained(root: Path, index: int, name: str, after: dict[str, int], frames: int, **buttons: str) -> RunPaths:
    """A run of a skill that has ended, whose experts press these buttons; ``after``: what it builds on."""
    done, reward = CODE["Build" if name.startswith("Build") else name]
    amounts = AMOUNTS["Build" if name.startswith("Build") else name]
    data = {"skill_name": name, "description": "", "requires": {}, "consumes": {}, **amounts}
    data |= {"task_is_done": done, "task_reward": reward}
    completed = {other: {"expert_idx": other_index} for other, other_index in after.items()}
    run = RunPaths(prepare_training_run(name, data, index, list(after), completed, root, SETTINGS)[0])
    write_launch(run.folder, 1, Slot())
    records = read_json(run.run_json)["experts"]
    experts = {
        str(record["local_expert_idx"]): {"params": marked(pressing(buttons[record["skill_name"]]), index)}
        for record in records
    }
    pickles.dump(run.checkpoint(frames), {"experts": experts, "metadata": {"frames": frames}})
    acted = {str(record["global_expert_idx"]): frames // len(records) for record in records}
    checkpoint = f"{run.policies.name}/checkpoint_{frames}.pkl"
    write_json(
        run.result,
        {"outcome": "completed", "attempt": 1, "frames": frames, "checkpoint": checkpoint, "acted_frames": acted},
    )
    return run


def marked(params: dict, number: int) -> dict:
    """The same player, but another version of it."""
    params["actor"]["torso"]["Dense_1"]["bias"][:] += number
    return params


def merge(root: Path, run: RunPaths, frames: int) -> dict:
    guard = MergeGuard(command=PLAYS_CAMP, episodes=EPISODES)
    process_completed_training(run.folder, run.skill_name, run.expert_idx, root, frames, guard=guard)
    merged = ExperimentPaths(root).skill_folder(run.expert_idx, run.skill_name) / "merge.json"
    return read_json(merged)["expert_updates"]


@pytest.mark.parametrize(
    ("button", "kept", "decided_by", "rates"),
    [("WAIT", 1, "measured", (1.0, 0.0)), ("CHOP", 2, "frames", (1.0, 1.0))],
    ids=["broken", "equally good"],
)
def test_a_merge_plays_both_versions_and_keeps_the_one_that_works(tmp_path, button, kept, decided_by, rates):
    """Two runs train Chop side by side; the second one trains it longer, and in one case breaks it."""
    merge(tmp_path, trained(tmp_path, 0, "Chop", {}, 50, Chop="CHOP"), 50)
    first = trained(tmp_path, 1, "Build_A", {"Chop": 0}, 80, Chop="CHOP", Build_A="BUILD")
    second = trained(tmp_path, 2, "Build_B", {"Chop": 0}, 100, Chop=button, Build_B="BUILD")
    assert "competition" not in merge(tmp_path, first, 80)["0"]
    update = merge(tmp_path, second, 100)["0"]
    found = update["competition"]
    assert found["not_measured"] is None
    assert (found["library_success_rate"], found["run_success_rate"], found["decided_by"]) == (*rates, decided_by)
    params = pickles.load(ExperimentPaths(tmp_path).expert_params(0, "Chop"))["params"]
    assert params["actor"]["torso"]["Dense_1"]["bias"].tolist() == [kept] * LAYER_SIZE
    assert update == update | {"action": "kept" if kept == 1 else "updated", "frames": 150}
    assert not (tmp_path / "training_runs" / "skill_2_Build_B").exists()


def test_the_process_that_plays_ends_with_its_input(tmp_path):
    os.mkfifo(tmp_path / "request.json")  # nobody writes there: it would wait for ever
    command = [sys.executable, "-m", "flowrl.evaluation.compare_versions", str(tmp_path)]
    playing = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=Path(__file__).parents[2])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            playing.wait(1)
        playing.stdin.close()
        assert playing.wait(PATIENCE_S) == 1
    finally:
        playing.kill()
        playing.wait()


def test_the_process_that_plays_says_last_why_it_cannot(tmp_path):
    (tmp_path / "request.json").write_text("{}")
    command = [sys.executable, "-m", "flowrl.evaluation.compare_versions", str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as playing:
        assert "request.json is damaged" in playing.stdout.read().splitlines()[-1]
    assert playing.returncode != 0
