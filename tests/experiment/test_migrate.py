"""From a sequential run's checkpoint to a library that parallel training goes on with."""

import copy
import json
import os
import pickle
from pathlib import Path

import jax
import numpy as np
import pytest

from flowrl import pickles
from flowrl.envs.observations import Layout
from flowrl.envs.registry import GAMES
from flowrl.errors import BadInput
from flowrl.experiment import migration
from flowrl.experiment.sequential_checkpoint import expert_shapes
from flowrl.parallel.scheduler import SkillScheduler
from flowrl.parallel.training_setup import prepare_training_run
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.skills.module import read_module
from flowrl.training.learning.networks import ExpertNetwork
from tests.experiment.checkpoints import ACTIONS, OBSERVATION, SKILLS, WIDTH, expert, sequential_checkpoint
from tests.experiment.fakes import spec


@pytest.fixture
def content() -> dict:
    """A checkpoint of the documented form; the experts' indices are sparse."""
    return sequential_checkpoint()


@pytest.fixture
def write(tmp_path):
    def write(content) -> Path:
        (tmp_path / "checkpoint.pkl").write_bytes(pickle.dumps(content, protocol=4))
        return tmp_path / "checkpoint.pkl"

    return write


def test_each_expert_gets_its_place_in_the_library(content, write, tmp_path):
    paths = ExperimentPaths(tmp_path / "exp")
    assert migration.main([str(write(content)), str(paths.root)]) == 0
    for skill, index in zip(SKILLS, (0, 5, 7), strict=True):
        found = pickles.load(paths.expert_params(index, skill.name))
        assert found["metadata"]["total_frames"] == 1000 * (index + 1)
        wanted = content["expert_params"][f"expert_{index}"]
        jax.tree.map(np.testing.assert_array_equal, found["params"], wanted)


def test_a_tilde_is_the_home_folder_and_an_empty_path_is_refused(content, write, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write(content)
    for arguments in (["", "~/exp"], ["~/checkpoint.pkl", ""]):
        assert migration.main(arguments) == 2
        assert capsys.readouterr().err.count("is empty; give a path") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pkl"]
    assert migration.main(["~/checkpoint.pkl", "~/exp"]) == 0
    assert ExperimentPaths(tmp_path / "exp").state.exists()


def test_the_module_has_the_plan_and_contiguous_local_experts(content, write, tmp_path):
    paths = ExperimentPaths(tmp_path / "exp")
    migration.migrate(write(content), paths.root)
    module = read_module(paths.skill_module(7, "Make_Pickaxe").read_text())
    assert module.global_to_local == {0: 0, 5: 1, 7: 2}
    assert [task.skill_name for task in module.tasks][-1] == "Make_Pickaxe"
    assert {task.skill_name for task in module.tasks} == {skill.name for skill in SKILLS}


def test_the_scheduler_goes_on_from_it(content, write, tmp_path):
    paths = ExperimentPaths(tmp_path / "exp")
    migration.migrate(write(content), paths.root)
    scheduler = SkillScheduler(base_dir=paths.root)
    scheduler.open()
    known = scheduler.known_skills()
    assert {name: (data["status"], data["expert_idx"]) for name, data in known.items()} == {
        "Collect_Wood": ("completed", 0), "Collect_Stone": ("completed", 5), "Make_Pickaxe": ("completed", 7),
    }  # fmt: skip
    assert scheduler.state["next_expert_idx"] == 8
    new = spec("Make_Sword", "wood_sword", consumes=["wood"]).to_data()
    folder, _, _ = prepare_training_run("Make_Sword", new, 8, ["Collect_Wood", "Make_Pickaxe"], known, paths.root)
    start = pickles.load(RunPaths(folder).initial)["experts"]
    jax.tree.map(np.testing.assert_array_equal, start["1"], content["expert_params"]["expert_7"])


def test_game_and_width_are_read_off_the_arrays_and_stored(content, write, tmp_path):
    migration.migrate(write(content), tmp_path / "exp")
    stored = json.loads((tmp_path / "exp" / "config.json").read_text())
    assert (stored["env_name"], stored["layer_size"]) == ("Craftax-Classic-Symbolic-v1", WIDTH)


def test_a_checkpoint_copied_to_where_the_seeds_say_is_taken_over(content, write, tmp_path):
    paths = ExperimentPaths(tmp_path / "exp")
    paths.checkpoints.mkdir(parents=True)
    paths.global_latest.write_bytes(write(content).read_bytes())
    migration.take_over_copied_checkpoint(paths)
    assert paths.library() == {0: "Collect_Wood", 5: "Collect_Stone", 7: "Make_Pickaxe"}
    assert set(pickles.load(paths.checkpoints / "sequential.pkl")) == {"expert_params", "skills"}
    assert "expert_params" not in pickles.load(paths.global_latest)
    assert migration.take_over_copied_checkpoint(paths) is None


def test_our_own_global_latest_is_no_sequential_checkpoint(content, write, tmp_path):
    paths = ExperimentPaths(tmp_path / "exp")
    migration.migrate(write(content), paths.root)
    paths.state.unlink()
    assert migration.take_over_copied_checkpoint(paths) is None


def test_a_killed_migration_can_be_done_again(content, write, tmp_path, monkeypatch):
    source = write(content)
    written = []

    def killed(run):
        written.append(run)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(migration, "_state", killed)
        with pytest.raises(KeyboardInterrupt):
            migration.migrate(source, tmp_path / "exp")
    assert written
    migration.migrate(source, tmp_path / "exp")
    assert (tmp_path / "exp" / "scheduler_state.json").exists()


def test_an_experiment_is_never_overwritten(content, write, tmp_path, capsys):
    source = str(write(content))
    assert migration.main([source, str(tmp_path / "exp")]) == 0
    before = snapshot(tmp_path / "exp")
    assert migration.main([source, str(tmp_path / "exp")]) == 2
    assert "already holds an experiment" in capsys.readouterr().err
    assert snapshot(tmp_path / "exp") == before


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change(content: dict, place: str, value) -> dict:
    content = copy.deepcopy(content)
    *folders, name = place.split("/")
    branch = content
    for folder in folders:
        branch = branch[folder]
    if value is None:
        del branch[name]
    else:
        branch[name] = value
    return content


@pytest.mark.parametrize(
    ("place", "value", "names"),
    [
        ("skills", None, ["expert_params and skills"]),
        ("optimizer", {}, ["optimizer"]),
        ("skills", {}, ["not empty"]),
        ("expert_params/expert_5", None, ["Collect_Stone", "expert_5"]),
        ("expert_params/expert_9", expert(9), ["9"]),
        ("expert_params/critic", expert(9), ["'critic'"]),
        ("expert_params/expert_5", expert(5, width=16), ["expert_5", "shape"]),
        ("expert_params/expert_5/actor/head/kernel", None, ["expert_5", "actor/head/kernel"]),
        ("expert_params/expert_0", {"actor": {"torso": {"Dense_0": {"kernel": np.ones((7, 8))}}}}, ["observation", "1345"]),
        ("skills/Collect_Stone/expert_idx", 0, ["each expert needs one skill"]),
        ("skills/Collect_Stone/expert_idx", "5", ["Collect_Stone", "expert_idx"]),
        ("skills/Collect_Stone/total_frames", -1, ["Collect_Stone", "total_frames"]),
        ("skills/Collect_Stone/success_rate", "high", ["Collect_Stone", "success_rate", "'high'"]),
        ("skills/Collect_Stone/success_rate", [0.5], ["Collect_Stone", "success_rate", "[0.5]"]),
        ("skills/Collect_Stone/success_rate", float("nan"), ["Collect_Stone", "success_rate", "nan"]),
        ("skills/Collect_Stone/reward_fn", "x", ["Collect_Stone", "'reward_fn'"]),
        ("skills/Collect_Stone/task_is_done", None, ["Collect_Stone", "task_is_done"]),
        ("skills/Collect_Stone/task_reward", "import os", ["Collect_Stone"]),
        ("skills/Collect_Stone/execution_plan", [{"skill_name": "Nothing", "n": 1}], ["Collect_Stone", "Nothing"]),
        ("skills/Collect_Stone/execution_plan", [{"skill_name": "Collect_Stone", "n": 0}], ["Collect_Stone", "whole number"]),
        ("skills/Collect_Stone/gains", {"stones": {"per": 1}}, ["Collect_Stone", "'stones'", "stone"]),
        ("skills/Collect_Wood", None, ["each expert needs one skill"]),
    ],
)
def test_what_is_not_known_is_refused_and_nothing_is_changed(place, value, names, content, write, tmp_path, capsys):
    assert migration.main([str(write(change(content, place, value))), str(tmp_path / "exp")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for name in names:
        assert name in error
    assert not (tmp_path / "exp").exists()


def test_experts_with_other_actions_than_the_games_are_refused(content, write, tmp_path, capsys):
    content["expert_params"] = {name: expert(0, actions=43) for name in content["expert_params"]}
    assert migration.main([str(write(content)), str(tmp_path / "exp")]) == 2
    error = capsys.readouterr().err
    assert "actor/head/" in error and "43" in error and "Craftax-Classic-Symbolic-v1 has 17 actions" in error
    assert not (tmp_path / "exp").exists()


def test_a_checkpoint_that_runs_code_is_refused(tmp_path, write, capsys):
    class Runs:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/witness",)

    assert migration.main([str(write({"expert_params": Runs(), "skills": {}})), str(tmp_path / "exp")]) == 2
    assert "numpy arrays and plain containers" in capsys.readouterr().err
    assert not (tmp_path / "witness").exists() and not (tmp_path / "exp").exists()


def test_a_missing_source_is_named(tmp_path, capsys):
    assert migration.main([str(tmp_path / "none.pkl"), str(tmp_path / "exp")]) == 2
    assert "none.pkl does not exist" in capsys.readouterr().err


def test_the_documented_shapes_are_those_that_training_makes():
    network = ExpertNetwork(Layout(num_columns=0, num_fields=0, num_scalars=OBSERVATION), ACTIONS, WIDTH)
    made = jax.tree_util.tree_flatten_with_path(network.init(jax.random.key(0)))[0]
    found = {"/".join(key.key for key in path): leaf.shape for path, leaf in made}
    assert found == expert_shapes(OBSERVATION, WIDTH, ACTIONS)
    assert GAMES["Craftax-Classic-Symbolic-v1"].observation_size == OBSERVATION


def test_a_folder_that_is_in_the_way_is_named(content, write, tmp_path):
    (tmp_path / "exp" / "skills" / "5_Another_Skill").mkdir(parents=True)
    with pytest.raises(BadInput, match="5_Another_Skill exists already"):
        migration.migrate(write(content), tmp_path / "exp")
