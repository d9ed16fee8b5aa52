"""The layout that people type into jq, tail and cat."""

from pathlib import Path

import pytest

from flowrl.paths import ExperimentPaths, RunPaths

ROOT = Path("exp/parallel_test")


def test_an_experiment_lies_where_the_quick_start_says():
    paths = ExperimentPaths(ROOT)
    assert paths.state == ROOT / "scheduler_state.json"
    assert paths.expert_params(0, "Collect_Wood") == ROOT / "skills/0_Collect_Wood/expert_0_policy/params.pkl"
    assert paths.skill_module(0, "Collect_Wood") == ROOT / "skills/0_Collect_Wood/0.py"
    assert paths.run_folder(2, "Make_Pickaxe") == ROOT / "training_runs/skill_2_Make_Pickaxe"
    assert paths.global_latest == ROOT / "checkpoints/global_latest.pkl"
    assert paths.global_lock == ROOT / "checkpoints/global.lock"


def test_a_run_lies_where_the_quick_start_says():
    folder = ROOT / "training_runs/skill_2_Make_Pickaxe"
    run = RunPaths(folder)
    assert (run.expert_idx, run.skill_name) == (2, "Make_Pickaxe")
    assert run.module == folder / "2.py"
    assert run.checkpoint(8192) == folder / "2_policies/checkpoint_8192.pkl"
    assert run.log == folder / "training.log"


def test_checkpoints_are_sorted_by_frames_not_by_letters(tmp_path):
    run = RunPaths(tmp_path / "skill_0_X")
    run.policies.mkdir(parents=True)
    for name in ("checkpoint_10.pkl", "checkpoint_9.pkl", "checkpoint_x.pkl", ".checkpoint_11.pkl.tmp", "initial.pkl"):
        (run.policies / name).touch()
    assert [path.name for path in run.checkpoints()] == ["checkpoint_9.pkl", "checkpoint_10.pkl"]


def test_the_library_is_read_from_its_folders(tmp_path):
    paths = ExperimentPaths(tmp_path)
    assert paths.library() == {}
    for name in ("0_Collect_Wood", "12_Make_Pickaxe", "notes", ".new_3_Hidden"):
        (paths.skills / name).mkdir(parents=True)
    (paths.skills / "5_A_File").touch()
    assert paths.library() == {0: "Collect_Wood", 12: "Make_Pickaxe"}


@pytest.mark.parametrize("name", ["skill_Make_Pickaxe", "skill_2_", "2_Make_Pickaxe", "skill_x_Y"])
def test_a_folder_with_another_name_is_no_run(name):
    with pytest.raises(ValueError, match="skill_<index>_<Name>"):
        RunPaths(Path(name))
