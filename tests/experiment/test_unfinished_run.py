"""A training under way as a library: what it trains is as in its newest checkpoint, the rest as in the library."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from flowrl import pickles
from flowrl.envs.registry import game
from flowrl.errors import BadInput
from flowrl.experiment import stored_library, unfinished_run
from flowrl.parallel.training_setup import prepare_training_run
from flowrl.paths import RunPaths
from tests.api.experiments import kept_experiment

GAME = game("Craftax-Classic-Symbolic-v1")
TABLE = {
    "requirements": {"wood": "lambda n: 1"},
    "task_is_done": "def task_is_done(inventory, n):\n    return inventory.wood >= n\n",
    "task_reward": "def task_reward(inventory_diff):\n    return inventory_diff.wood\n",
}


@pytest.fixture
def paths(tmp_path):
    """Collect_Wood is in the library; Collect_Drink was interrupted after 6,400 frames."""
    return kept_experiment(tmp_path)


def bias_of(params):
    return params["actor"]["torso"]["Dense_1"]["bias"]


def test_the_skill_in_training_is_there_with_its_checkpoint(paths):
    assert unfinished_run.names(paths) == ["Collect_Drink"]
    library = unfinished_run.load(paths, "Collect_Drink", GAME)
    (skill,) = library.skills
    checkpoint = pickles.load(RunPaths(paths.run_folder(1, "Collect_Drink")).checkpoint(6400))
    assert np.array_equal(bias_of(skill.params), bias_of(checkpoint["experts"]["0"]["params"]))
    assert (skill.index, skill.total_frames, [task.skill_name for task in skill.plan]) == (1, 6400, ["Collect_Drink"])


def in_training_on_top_of_wood(paths) -> RunPaths:
    """Collect_More, whose first task is Collect_Wood, with a checkpoint in which both experts have moved on."""
    stored = stored_library.load(paths, GAME).skills[0]
    data = {"skill_name": "Collect_More", **TABLE, "execution_plan": [
        {"skill_name": "Collect_Wood", "n": 1}, {"skill_name": "Collect_More", "n": 3}]}  # fmt: skip
    folder, *_ = prepare_training_run(
        "Collect_More", data, 2, ["Collect_Wood"], {"Collect_Wood": {"expert_idx": 0}}, paths.root
    )
    run = RunPaths(folder)
    moved = {**stored.params, "actor": {**stored.params["actor"], "torso": {**stored.params["actor"]["torso"]}}}
    moved["actor"]["torso"]["Dense_1"] = {key: leaf + 1 for key, leaf in stored.params["actor"]["torso"]["Dense_1"].items()}
    experts = {"0": {"params": moved}, "1": {"params": stored.params}}
    pickles.dump(run.checkpoint(1280), {"experts": experts, "metadata": {"frames": 1280}})
    return run


def test_a_dependency_is_as_the_training_has_it_and_not_as_the_library_does(paths):
    in_training_on_top_of_wood(paths)
    before = stored_library.load(paths, GAME).skills[0]
    library = unfinished_run.load(paths, "Collect_More", GAME)
    wood, own = library.skills
    assert (wood.name, own.name, own.total_frames) == ("Collect_Wood", "Collect_More", 1280)
    assert np.array_equal(bias_of(wood.params), bias_of(before.params) + 1)
    assert np.array_equal(bias_of(own.params), bias_of(before.params))


def test_a_training_without_a_checkpoint_is_one_line(paths):
    run = RunPaths(paths.run_folder(1, "Collect_Drink"))
    run.checkpoint(6400).unlink()
    assert unfinished_run.names(paths) == []
    for name in ("Collect_Drink", "Collect_Coal"):
        with pytest.raises(BadInput, match=f"no training of {name} in .* has a checkpoint yet; wait for one"):
            unfinished_run.load(paths, name, GAME)


def test_a_checkpoint_that_goes_while_it_is_read_is_followed_by_the_next_one(paths, monkeypatch):
    run, load, gone = RunPaths(paths.run_folder(1, "Collect_Drink")), pickles.load, []

    def replaced_meanwhile(path):
        if path == run.checkpoint(6400) and not gone:
            gone.append(path)
            path.rename(run.checkpoint(12800))
        return load(path)

    monkeypatch.setattr(unfinished_run.pickles, "load", replaced_meanwhile)
    assert unfinished_run.load(paths, "Collect_Drink", GAME).skills[0].name == "Collect_Drink"
    assert gone


def test_what_is_damaged_is_one_line(paths):
    run = RunPaths(paths.run_folder(1, "Collect_Drink"))
    record = json.loads(run.run_json.read_text())
    record["experts"][0]["local_expert_idx"] = 7
    run.run_json.write_text(json.dumps(record))
    with pytest.raises(BadInput, match="has no expert 7, which run.json names; move it away"):
        unfinished_run.load(paths, "Collect_Drink", GAME)
    run.run_json.unlink()
    with pytest.raises(BadInput, match=r"run.json is missing, which says what is trained"):
        unfinished_run.load(paths, "Collect_Drink", GAME)
    shutil.rmtree(run.folder)
    assert unfinished_run.names(paths) == []
