"""The layout that people type into jq, tail and cat."""

import pwd
from pathlib import Path

import pytest

from flowrl.errors import BadInput
from flowrl.paths import (
    ExperimentPaths,
    RunPaths,
    cache_folder,
    cache_remark,
    calibrations,
    check_cache_folder,
    compile_cache,
    given_path,
    stored_programs,
)
from tests.full_disk import on_a_small_disk

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


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FLOWRL_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path / "home"


@pytest.fixture
def homeless(monkeypatch, home):
    """A user without a home: no variable, and no entry in the list of users, as in many containers."""

    def no_entry(user_id):
        raise KeyError(user_id)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", no_entry)


def test_a_tilde_is_the_home_folder_wherever_a_path_is_given(home):
    assert given_path("~/x", "--graph_path") == home / "x"
    assert ExperimentPaths("~/x").state == home / "x" / "scheduler_state.json"
    assert RunPaths("~/skill_0_X").folder == home / "skill_0_X"
    assert given_path("a/~/b", "--graph_path") == Path("a/~/b")


@pytest.mark.parametrize("path", ["", "  "])
def test_an_empty_path_is_not_the_current_folder(path):
    with pytest.raises(BadInput, match="--graph_path.* is empty; give a path"):
        ExperimentPaths(path)
    assert ExperimentPaths(".").root == Path(".")


def test_the_home_folder_of_nobody_is_refused(homeless):
    with pytest.raises(BadInput, match="--graph_path ~/x: the home folder of ~ is not known; give the path in full"):
        given_path("~/x", "--graph_path")


def test_the_cache_folder_that_is_named_counts_for_all_that_is_kept(home, monkeypatch):
    monkeypatch.setenv("FLOWRL_CACHE_DIR", "~/kept")
    assert cache_folder() == home / "kept"
    assert all(path.is_relative_to(home / "kept") for path in (compile_cache(), stored_programs(), calibrations()))
    check_cache_folder()
    assert cache_remark() is None and not home.exists()


@pytest.mark.parametrize("of_platformdirs", ["an error", "a path with ~"])  # which of them depends on its version
def test_a_user_without_a_home_is_told_which_variable_to_set(homeless, monkeypatch, of_platformdirs, tmp_path):
    monkeypatch.chdir(tmp_path)
    if of_platformdirs == "a path with ~":
        monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: f"~/.cache/{name}")
    with pytest.raises(BadInput, match="has no home folder.*set FLOWRL_CACHE_DIR to a writable folder"):
        check_cache_folder()
    monkeypatch.setenv("FLOWRL_CACHE_DIR", str(tmp_path / "cache"))
    check_cache_folder()
    assert list(tmp_path.iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_is_refused_with_the_reason(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FLOWRL_CACHE_DIR", str(tmp_path / "file" / "cache"))
    expected = f"{tmp_path}/file/cache, cannot be created: {tmp_path}/file is a file; set FLOWRL_CACHE_DIR"
    with pytest.raises(BadInput, match=expected):
        check_cache_folder()


@on_a_small_disk
def test_a_cache_folder_that_can_only_be_read_serves_and_is_remarked(disk, monkeypatch):
    (disk.root / "cache").mkdir()
    disk.make_read_only()
    monkeypatch.setenv("FLOWRL_CACHE_DIR", str(disk.root / "cache"))
    check_cache_folder()
    assert "cache is not writable" in cache_remark() and "FLOWRL_CACHE_DIR" in cache_remark()
    monkeypatch.setenv("FLOWRL_CACHE_DIR", str(disk.root / "other"))
    with pytest.raises(BadInput, match="cannot be created"):
        check_cache_folder()


def test_nodes_of_two_kinds_share_no_compiled_programs(monkeypatch, tmp_path):
    monkeypatch.setenv("FLOWRL_CACHE_DIR", str(tmp_path))
    here = compile_cache()
    assert compile_cache() == here
    monkeypatch.setattr("flowrl.paths.processor", lambda: "another processor")
    assert compile_cache() != here
