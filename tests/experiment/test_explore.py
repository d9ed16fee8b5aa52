"""`--explore_frames`: Explore comes first. Whole starts of the front door in real tmux; only the training is not real."""

from __future__ import annotations

import dataclasses
import json

import pytest

from flowrl import pickles
from flowrl.config import Settings
from flowrl.envs.registry import GAMES, game
from flowrl.errors import BadInput
from flowrl.evaluation import library
from flowrl.experiment import preflight
from flowrl.skills.facts import GameFacts
from tests.experiment.fakes import until
from tests.experiment.starts import CLASSIC, TINY, in_training

EXPLORE = ("--explore_frames", "2000", "--num_envs", "16", "--num_steps", "8", "--num_minibatches", "2")


def run_of(practice, index, name):
    return json.loads((practice.paths.skill_folder(index, name) / "run.json").read_text())


def test_explore_is_trained_first_for_its_frames_and_the_others_without_it(practice):
    wishes = {"Explore": {"frames": 2000}}
    code, output, error = practice.run(*CLASSIC, *EXPLORE, "--max_nodes", "3", "--skill_budget_frames", "1e6", wishes=wishes)
    assert (code, error) == (0, "")
    names = ["Explore", "Collect_Wood", "Collect_Stone", "Make_Pickaxe"]
    assert practice.paths.library() == dict(enumerate(names))
    explored = run_of(practice, 0, "Explore")
    assert explored["never_done"] and explored["settings"]["total_timesteps"] == 2000
    assert explored["plan"][0]["max_task_steps"] == 10_000
    for index, name in enumerate(names[1:], 1):
        run = run_of(practice, index, name)
        assert "Explore" not in [expert["skill_name"] for expert in run["experts"]] and "never_done" not in run
        assert run["settings"]["total_timesteps"] == 1_000_000  # all of the budget
    skills = practice.skills()
    assert all(skills["Explore"]["completed_at"] <= skills[name]["started_at"] for name in names[1:])
    assert "completed  Explore   2.0k frames" in output and "below the goal" not in output
    row = next(line for line in output[output.index("random policy") :].splitlines() if line.split()[:1] == ["Explore"])
    assert row.split()[2:6] == ["completed", "2.0k", "-", "-"]
    assert library.frames_trained(practice.paths) == 2000 + 3 * 1000


def test_a_front_door_that_is_killed_while_explore_trains_goes_on(practice):
    gate = practice.folder / "gate"
    wishes = {"Explore": {"gate": str(gate), "crash_attempts": [1]}}
    process = practice.start(*CLASSIC, *EXPLORE, "--max_nodes", "2", wishes=wishes)
    until(lambda: practice.skills().get("Explore", {}).get("attempt") == 2 and in_training(practice, "Explore"))
    process.kill()
    process.communicate()
    assert list(practice.statuses()) == ["Explore"]
    gate.touch()
    code, output, error = practice.run(wishes=wishes)
    assert (code, error) == (0, "")
    assert list(practice.statuses().values()) == ["completed"] * 3 and "completed  Explore" in output
    assert (run_of(practice, 0, "Explore")["attempt"], run_of(practice, 0, "Explore")["settings"]["total_timesteps"]) == (
        2,
        2000,
    )


def test_a_state_that_was_lost_is_made_again_from_the_library(practice):
    assert practice.run(*CLASSIC, *EXPLORE, "--max_nodes", "1")[0] == 0
    practice.paths.state.unlink()
    practice.paths.previous_state.unlink()
    code, output, _ = practice.run("--max_nodes", "2")
    assert code == 0 and list(practice.statuses()) == ["Explore", "Collect_Wood", "Collect_Stone"]
    assert [skill["never_done"] for skill in practice.skills().values()] == [True, False, False]


def test_explore_may_be_trained_further(practice):
    assert practice.run(*CLASSIC, *EXPLORE, "--max_nodes", "1")[0] == 0
    assert practice.run("--continue_skill", "Explore", "--extra_timesteps", "640")[0] == 0
    settings = run_of(practice, 0, "Explore")["settings"]
    assert (settings["total_timesteps"], settings["stop_at_goal"]) == (640, False)
    assert list(practice.statuses().values()) == ["completed"] * 2


def test_a_game_without_a_reward_of_its_own_is_refused(monkeypatch):
    entry = game("Craftax-Classic-Symbolic-v1")
    bare = GameFacts("Bare-v1", features=entry.facts.features)
    monkeypatch.setitem(GAMES, "Bare-v1", dataclasses.replace(entry, facts=bare))
    with pytest.raises(BadInput, match="--explore_frames needs a game that declares goals and its own reward, and Bare-v1"):
        preflight.check_explore(Settings(env_name="Bare-v1", explore_frames=100_000))
    preflight.check_explore(Settings(env_name="Bare-v1"))


@pytest.mark.parametrize("frames", [-1, 127])
def test_fewer_frames_than_an_update_are_refused(frames):
    with pytest.raises(BadInput, match="--explore_frames"):
        Settings(explore_frames=frames, num_envs=16, num_steps=8)


def test_explore_is_really_trained_and_the_next_skill_starts_from_it(practice):
    """Nothing is fake here: the built-in curriculum, tiny networks."""
    frames = ("--total_timesteps", "1024", "--explore_frames", "2048")
    flags = (*CLASSIC, *TINY, *frames, "--proposer", "curriculum", "--init_from", "auto", "--max_nodes", "1")
    code, output, error = practice.run(*flags, module="flowrl.bottomup_parallel")
    assert (code, error) == (0, ""), output
    assert practice.paths.library() == {0: "Explore", 1: "Collect_Wood"}
    explored, wood = practice.skills().values()
    assert (explored["frames"], explored["success_rate"], explored["goal_reached"]) == (2048, None, None)
    assert (wood["frames"], wood["success_rate"] is None) == (1024, False)
    assert run_of(practice, 1, "Collect_Wood")["init_from"] == "Explore"
    log = (practice.paths.skill_folder(1, "Collect_Wood") / "training.log").read_text()
    assert "the expert of Collect_Wood starts as a copy of that of Explore" in log
    metadata = pickles.load(practice.paths.expert_params(1, "Collect_Wood"))["metadata"]
    assert metadata["total_frames"] == 1024
    assert library.frames_trained(practice.paths) == 2048 + 1024
