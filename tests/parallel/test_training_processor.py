"""A finished run becomes part of the library."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import re
import shutil
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

from flowrl import pickles
from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.parallel.library import archive, locks
from flowrl.parallel.library.locks import LockTimeout, merge_lock
from flowrl.parallel.observed_facts import keep_observed
from flowrl.parallel.processes import retry_until
from flowrl.parallel.trained_experts import DamagedCheckpoint, set_damaged_aside
from flowrl.parallel.training_processor import process_completed_training
from flowrl.parallel.training_setup import prepare_training_run, write_launch
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.records.liveness import is_held
from flowrl.records.run_record import Slot
from flowrl.skills.gate_report import check_module, unprobed
from flowrl.skills.module import read_module
from tests.parallel.fakes.experiments import PATIENCE_S, put_in_library, skill

M = 1_000_000


def finished_run(base_dir, index, name, dependencies, frames, acted=None, attempt=1, data=None):
    """A run of ``name`` on top of ``dependencies`` (name to index) that has ended after ``frames``.

    Its experts' weights say which run they come from. ``acted``: frames by global index; without, nobody counted.
    ``data``: the skill's, if not the usual.
    """
    completed = {other: {"expert_idx": other_index} for other, other_index in dependencies.items()}
    folder, _, _ = prepare_training_run(name, data or skill(name), index, list(dependencies), completed, base_dir)
    run = RunPaths(folder)
    write_launch(folder, attempt, Slot())
    tree = {"w": np.full(3, index, np.float32)}
    experts = {
        str(e["local_expert_idx"]): {"params": {"actor": tree, "critic": tree}} for e in read_json(run.run_json)["experts"]
    }
    pickles.dump(run.checkpoint(frames), {"format": "flowrl-checkpoint", "experts": experts, "metadata": {"frames": frames}})
    named = f"{index}_policies/checkpoint_{frames}.pkl"
    result = {"outcome": "completed", "attempt": attempt, "frames": frames, "checkpoint": named}
    write_json(run.result, result | ({"acted_frames": acted} if acted is not None else {}))
    run.log.write_text(f"log of {name}\n")
    run.metrics.write_text('{"update": 1}\n')
    return run


def merge(base_dir, run, frames):
    return process_completed_training(
        run_folder=run.folder, skill_name=run.skill_name, global_expert_idx=run.expert_idx,
        base_dir=base_dir, total_timesteps=frames,
    )["expert_updates"]  # fmt: skip


def expert(paths: ExperimentPaths, index, name):
    """Frames, and the index of the run that its weights come from."""
    data = pickles.load(paths.expert_params(index, name))
    return data["metadata"]["total_frames"], int(data["params"]["actor"]["w"][0])


def snapshot(root):
    """All files of the library, apart from locks."""
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"}


def test_the_seeds_conflict_keeps_the_version_with_most_frames(experiment):
    put_in_library(experiment.root, 0, "Collect_Wood", 50 * M)
    a = finished_run(experiment.root, 1, "Skill_A", {"Collect_Wood": 0}, 80 * M)
    b = finished_run(experiment.root, 2, "Skill_B", {"Collect_Wood": 0}, 100 * M)
    assert merge(experiment.root, a, 80 * M) == {
        0: {"action": "updated", "frames": 130 * M},
        1: {"action": "new", "frames": 80 * M},
    }
    assert expert(experiment, 0, "Collect_Wood") == (130 * M, 1)
    assert merge(experiment.root, b, 100 * M)[0] == {"action": "updated", "frames": 150 * M}
    assert expert(experiment, 0, "Collect_Wood") == (150 * M, 2)


def test_the_same_conflict_in_the_other_order_ends_the_same(experiment):
    put_in_library(experiment.root, 0, "Collect_Wood", 50 * M)
    a = finished_run(experiment.root, 1, "Skill_A", {"Collect_Wood": 0}, 80 * M)
    b = finished_run(experiment.root, 2, "Skill_B", {"Collect_Wood": 0}, 100 * M)
    merge(experiment.root, b, 100 * M)
    assert merge(experiment.root, a, 80 * M)[0] == {"action": "kept", "frames": 150 * M}
    assert expert(experiment, 0, "Collect_Wood") == (150 * M, 2)


def test_the_seeds_first_example(experiment):
    put_in_library(experiment.root, 0, "Collect_Wood", 50 * M)
    put_in_library(experiment.root, 1, "Collect_Stone", 40 * M)
    run = finished_run(experiment.root, 2, "Make_Pickaxe", {"Collect_Wood": 0, "Collect_Stone": 1}, 100 * M)
    assert merge(experiment.root, run, 100_000_000) == {
        0: {"action": "updated", "frames": 150_000_000},
        1: {"action": "updated", "frames": 140_000_000},
        2: {"action": "new", "frames": 100_000_000},
    }


def test_an_expert_that_did_not_act_never_replaces_the_librarys(experiment):
    put_in_library(experiment.root, 0, "Collect_Wood", 50 * M, weight=77)
    run = finished_run(experiment.root, 1, "Skill_A", {"Collect_Wood": 0}, 80 * M, acted={"0": 0, "1": 80 * M})
    assert merge(experiment.root, run, 80 * M)[0] == {"action": "kept", "frames": 50 * M}
    assert expert(experiment, 0, "Collect_Wood") == (50 * M, 77)


def test_frames_acted_in_are_summed_over_runs(experiment):
    put_in_library(experiment.root, 0, "Collect_Wood", 50 * M, acted_frames=45 * M)
    run = finished_run(experiment.root, 1, "Skill_A", {"Collect_Wood": 0}, 80 * M, acted={"0": 30 * M, "1": 50 * M})
    merge(experiment.root, run, 80 * M)
    metadata = pickles.load(experiment.expert_params(0, "Collect_Wood"))["metadata"]
    assert metadata == {"skill_name": "Collect_Wood", "global_expert_idx": 0, "total_frames": 130 * M, "acted_frames": 75 * M}


def test_sparse_experts_return_to_their_own_places(experiment):
    put_in_library(experiment.root, 0, "Collect_Wood", 10)
    put_in_library(experiment.root, 5, "Collect_Stone", 20)
    run = finished_run(experiment.root, 10, "Test", {"Collect_Wood": 0, "Collect_Stone": 5}, 100)
    assert {index: update["frames"] for index, update in merge(experiment.root, run, 100).items()} == {0: 110, 5: 120, 10: 100}
    assert experiment.library() == {0: "Collect_Wood", 5: "Collect_Stone", 10: "Test"}


def test_a_merged_run_stays_with_its_skill_and_its_folder_goes(experiment):
    run = finished_run(experiment.root, 0, "Collect_Wood", {}, 100)
    module = run.module.read_text()
    run.moments.write_bytes(b"moments")
    write_json(run.folder / "wandb_run.json", {"id": "a1", "project": "p"})
    merge(experiment.root, run, 100)
    folder = experiment.root / "skills" / "0_Collect_Wood"
    assert (folder / "training.log").read_text() == "log of Collect_Wood\n"
    assert (folder / "0.py").read_text() == module
    assert (folder / "expert_0_policy" / "params.pkl").exists()
    kept = {"metrics.jsonl", "run.json", "result.json", "moments.pkl", "wandb_run.json"}
    assert kept <= {path.name for path in folder.iterdir()}
    assert list(experiment.training_runs.iterdir()) == []


def report(run, text):
    """What wandb leaves without a network, its link to the newest report among it."""
    folder = run.folder / "wandb" / "offline-run-1"
    folder.mkdir(parents=True)
    (folder / "run-1.wandb").write_text(text)
    (folder.parent / "latest-run").symlink_to(folder.name)


def test_reports_that_were_not_sent_stay_with_the_skill(experiment):
    run = finished_run(experiment.root, 0, "Collect_Wood", {}, 100)
    report(run, "first")
    merge(experiment.root, run, 100)
    folder = experiment.skill_folder(0, "Collect_Wood") / "wandb"
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()] == [
        "offline-run-1/run-1.wandb"
    ]
    assert (folder / "offline-run-1" / "run-1.wandb").read_text() == "first"


def test_the_reports_of_another_run_of_the_skill_are_added(experiment):
    for text in ("first", "second", "second"):
        run = finished_run(experiment.root, 0, "Collect_Wood", {}, 100)
        report(run, text)
        merge(experiment.root, run, 100)
    folder = experiment.skill_folder(0, "Collect_Wood") / "wandb" / "offline-run-1"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"run-1.wandb": "first", "run-1_2.wandb": "second"}


def test_global_latest_holds_metadata_and_no_array(experiment):
    run = finished_run(experiment.root, 0, "Collect_Wood", {}, 100)
    merge(experiment.root, run, 100)
    latest = pickles.load(experiment.global_latest)
    assert latest["experts"]["0"]["total_frames"] == 100
    assert b"numpy" not in experiment.global_latest.read_bytes()


def test_a_merge_reads_only_the_experts_of_its_run(experiment, monkeypatch):
    put_in_library(experiment.root, 0, "Collect_Wood", 50)
    merge(experiment.root, finished_run(experiment.root, 1, "Other", {}, 100), 100)
    run = finished_run(experiment.root, 2, "Make_Pickaxe", {"Collect_Wood": 0}, 100)
    experiment.expert_params(1, "Other").write_bytes(b"not read: an expert is tens of megabytes")
    merge(experiment.root, run, 100)
    latest = pickles.load(experiment.global_latest)["experts"]
    assert {index: expert["total_frames"] for index, expert in latest.items()} == {"0": 150, "1": 100, "2": 100}


def test_records_are_kept_without_hard_links(experiment, monkeypatch):
    def refuse(source, target):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    run = finished_run(experiment.root, 0, "Collect_Wood", {}, 100)
    merge(experiment.root, run, 100)
    assert (experiment.skill_folder(0, "Collect_Wood") / "training.log").read_text() == "log of Collect_Wood\n"


def test_merging_the_same_run_again_reports_the_same_and_changes_nothing(experiment):
    put_in_library(experiment.root, 0, "Collect_Wood", 50)
    run = finished_run(experiment.root, 1, "Skill_A", {"Collect_Wood": 0}, 80)
    first = merge(experiment.root, run, 80)
    before = snapshot(experiment.root)
    assert merge(experiment.root, run, 80) == first
    assert snapshot(experiment.root) == before


class Killed(BaseException):
    """Stands for the end of the process: nothing in between catches it."""


WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree", "open"}


def die_at(number, root):
    """Ends this process, as a kill does, before its file operation of this number below ``root``."""
    count = 0

    def hook(event, arguments):
        nonlocal count
        if event not in CHANGES or (event == "open" and not (arguments[2] or 0) & WRITES):
            return
        named = isinstance(arguments[0], (str, bytes, os.PathLike))  # rmtree names what it removes within a folder
        if not named or os.fspath(arguments[0]).startswith(str(root)) or not os.path.isabs(os.fspath(arguments[0])):
            count += 1
            if count == number:
                os._exit(9)

    sys.addaudithook(hook)


def merge_and_die(root, run, number):
    """In a child: nothing that cleans up after an exception gets to run."""
    os.fsync = lambda descriptor: None  # the machine lives on
    die_at(number, root)
    merge(root, run, 80)


def a_new_skill(root):
    report(finished_run(root, 1, "Skill_A", {"Collect_Wood": 0}, 80), "not sent yet")


def a_skill_trained_further(root):
    merge(root, finished_run(root, 1, "Skill_A", {"Collect_Wood": 0}, 40), 40)
    finished_run(root, 1, "Skill_A", {"Collect_Wood": 0}, 80, attempt=2)


def a_chosen_reward(root):
    data = skill("Skill_A")
    other = data["task_reward"].replace("return", "return 7.0 *")
    run = finished_run(root, 1, "Skill_A", {}, 80, data=data | {"candidates": [other]})
    write_json(run.candidates, {"chosen": 2, "candidates": []})


@pytest.mark.parametrize("make", [a_new_skill, a_skill_trained_further, a_chosen_reward])
def test_a_merge_killed_at_any_file_operation_is_repaired_by_merging_again(experiment, tmp_path, monkeypatch, make):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    put_in_library(experiment.root, 0, "Collect_Wood", 50)
    make(experiment.root)
    shutil.copytree(experiment.root, tmp_path / "start", symlinks=True)
    expected_updates = merge(experiment.root, RunPaths(experiment.run_folder(1, "Skill_A")), 80)
    expected = without_paths(snapshot(experiment.root))
    kept = experiment.skill_folder(1, "Skill_A")
    assert (kept / "earlier" / "attempt_1" / "result.json").exists() == (make is a_skill_trained_further)
    assert ("7.0" in (kept / "1.py").read_text()) == (make is a_chosen_reward)
    context = multiprocessing.get_context("fork")
    for fatal in itertools.count(1):
        root = tmp_path / f"killed_{fatal}"
        shutil.copytree(tmp_path / "start", root, symlinks=True)
        run = RunPaths(ExperimentPaths(root).run_folder(1, "Skill_A"))
        process = context.Process(target=merge_and_die, args=(root, run, fatal))
        process.start()
        process.join(PATIENCE_S)
        assert merge(root, run, 80) == expected_updates
        archive.sweep(ExperimentPaths(root))
        assert without_paths(snapshot(root)) == expected, f"operation {fatal}"
        if process.exitcode == 0:
            break  # there is no operation of this number: the merge went through
        assert process.exitcode == 9
        shutil.rmtree(root)
    assert fatal > 40


def test_a_repeated_merge_does_not_undo_one_that_came_in_between(experiment, monkeypatch):
    put_in_library(experiment.root, 0, "Collect_Wood", 50)
    a = finished_run(experiment.root, 1, "Skill_A", {"Collect_Wood": 0}, 80)
    b = finished_run(experiment.root, 2, "Skill_B", {"Collect_Wood": 0}, 100)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        strike(patch, ["os.rename"], 1, "before")  # its decision is written down, and expert 0 replaced
        merge(experiment.root, a, 80)
    merge(experiment.root, b, 100)
    assert merge(experiment.root, a, 80)[0] == {"action": "updated", "frames": 130}
    assert expert(experiment, 0, "Collect_Wood") == (150, 2)


def strike(patch, operations, fatal, when):
    count = 0

    def deadly(original):
        def operation(*args, **kwargs):
            nonlocal count
            count += 1
            if count == fatal and when == "before":
                raise Killed
            result = original(*args, **kwargs)
            if count == fatal and when == "after":
                raise Killed
            return result

        return operation

    for module, name in (operation.split(".") for operation in operations):
        owner = {"os": os, "shutil": shutil}[module]
        patch.setattr(owner, name, deadly(getattr(owner, name)))


def without_paths(files):
    """run.json holds the experiment's own folder."""
    return {path: data for path, data in files.items() if path.name != "run.json"}


def test_leftovers_of_a_killed_merge_are_removed(experiment):
    run = finished_run(experiment.root, 0, "Collect_Wood", {}, 100)
    merge(experiment.root, run, 100)
    (experiment.training_runs / ".merged_skill_0_Collect_Wood").mkdir()
    (experiment.skills / ".new_1_Skill_A").mkdir()
    half = [experiment.root / ".scheduler_state.json.x.tmp", experiment.skill_folder(0, "Collect_Wood") / ".run.json.y.tmp"]
    for path in half:
        path.touch()
    archive.sweep(experiment)
    assert list(experiment.training_runs.iterdir()) == []
    assert [path.name for path in experiment.skills.iterdir()] == ["0_Collect_Wood"]
    assert not [path for path in half if path.exists()]


def test_a_run_without_checkpoint_is_refused_by_name(experiment):
    run = finished_run(experiment.root, 0, "Collect_Wood", {}, 100)
    run.checkpoint(100).unlink()
    with pytest.raises(BadInput, match="checkpoint_100.pkl, which the run's result names, is missing"):
        merge(experiment.root, run, 100)
    assert experiment.library() == {}


def test_a_damaged_checkpoint_is_not_merged_and_moved_aside_with_its_result(experiment):
    run = finished_run(experiment.root, 0, "Collect_Wood", {}, 100)
    flip_a_bit(run.checkpoint(100))
    with pytest.raises(DamagedCheckpoint, match="checkpoint_100.pkl is damaged"):
        merge(experiment.root, run, 100)
    assert experiment.library() == {}
    set_damaged_aside(run, 1)
    assert not run.result.exists() and run.checkpoints() == []
    assert {path.name for path in run.policies.iterdir()} == {"checkpoint_100.pkl.damaged"} | ({"initial.pkl"})
    assert (run.folder / "result_1.json").exists()


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_expert_of_the_library_is_replaced_by_the_run_that_trained_it_on(experiment):
    put_in_library(experiment.root, 0, "Collect_Wood", 50)
    run = finished_run(experiment.root, 1, "Skill_A", {"Collect_Wood": 0}, 80)
    params = experiment.expert_params(0, "Collect_Wood")
    flip_a_bit(params)
    assert merge(experiment.root, run, 80)[0] == {"action": "new", "frames": 130}
    assert expert(experiment, 0, "Collect_Wood") == (130, 1)
    assert params.with_name("params.pkl.damaged").exists()
    assert set(pickles.load(experiment.global_latest)["experts"]) == {"0", "1"}


def test_a_run_without_the_expert_asked_for_is_refused_and_stays(experiment):
    run = finished_run(experiment.root, 0, "A", {}, 100)
    with pytest.raises(BadInput, match="has no expert 7; its experts are: 0"):
        process_completed_training(run.folder, "A", 7, experiment.root, 100)
    assert run.run_json.exists() and not experiment.library()


def test_a_run_that_is_not_there_is_refused(experiment):
    with pytest.raises(BadInput, match="there is no run to merge in"):
        process_completed_training(experiment.run_folder(3, "Nothing"), "Nothing", 3, experiment.root, 100)


def merge_in_process(root, index):
    run = RunPaths(ExperimentPaths(root).run_folder(index, f"Skill_{index}"))
    merge(root, run, 1000 * index)


def test_50_processes_merging_at_once_lose_nothing(experiment):
    put_in_library(experiment.root, 0, "Collect_Wood", 50)
    indices = list(range(1, 51))
    for index in indices:
        finished_run(experiment.root, index, f"Skill_{index}", {"Collect_Wood": 0}, 1000 * index)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=merge_in_process, args=(experiment.root, index)) for index in indices]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
    assert [process.exitcode for process in processes] == [0] * len(indices)
    assert experiment.library() == {0: "Collect_Wood"} | {index: f"Skill_{index}" for index in indices}
    assert expert(experiment, 0, "Collect_Wood") == (50 + 50_000, 50)
    assert set(pickles.load(experiment.global_latest)["experts"]) == {str(index) for index in range(51)}


def is_free(paths):
    """Whether a merge could begin now."""
    try:
        with merge_lock(paths, 0.0):
            return True
    except LockTimeout:
        return False


def test_removing_the_lock_file_does_not_let_a_second_merge_in(experiment):
    with merge_lock(experiment):
        experiment.global_lock.unlink()
        with pytest.raises(LockTimeout, match="Failed to acquire global checkpoint lock"), merge_lock(experiment, 0.1):
            pytest.fail("two merges at once")
    assert is_free(experiment)


def hold_for_ever(root, held):
    with merge_lock(ExperimentPaths(root), doing="merging Make_Pickaxe"):
        held.set()
        threading.Event().wait()


@pytest.fixture
def holding_process(experiment):
    """Another process, in the middle of a merge."""
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold_for_ever, args=(experiment.root, held))
    process.start()
    assert held.wait(PATIENCE_S)
    yield process
    process.kill()
    process.join(PATIENCE_S)


def test_a_second_process_waits_for_the_holder_of_a_removed_lock_file(experiment, holding_process):
    subprocess.run(["rm", str(experiment.global_lock)], check=True)  # as an old guide advises
    how_to_find_it = re.escape(f"`lsof {experiment.checkpoints}` shows it")
    with pytest.raises(LockTimeout, match=how_to_find_it), merge_lock(experiment, 0.1):
        pytest.fail("two merges at once")
    waiting = threading.Thread(target=lambda: merged.append(merge(experiment.root, run, 100)), daemon=True)
    run, merged = finished_run(experiment.root, 0, "Collect_Wood", {}, 100), []
    waiting.start()
    waiting.join(0.2)
    assert merged == []
    assert experiment.library() == {}
    holding_process.kill()
    waiting.join(PATIENCE_S)  # the kernel has freed the lock of the dead process
    assert merged == [{0: {"action": "new", "frames": 100}}]


def test_a_lock_is_named_by_its_holder_and_ends_with_it(experiment, holding_process):
    named = f"held by process {holding_process.pid} on .*, merging Make_Pickaxe, since 2"
    with pytest.raises(LockTimeout, match=named), merge_lock(experiment, 0.1):
        pytest.fail("the lock is held")
    holding_process.kill()
    assert retry_until(lambda: is_free(experiment), PATIENCE_S)
    assert experiment.global_lock.exists()


@pytest.fixture
def unlockable_folders(monkeypatch):
    """As on NFS, where only a file that is open for writing can be locked."""
    flock = locks.fcntl.flock

    def refuse_folders(descriptor, how):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return flock(descriptor, how)

    monkeypatch.setattr(locks.fcntl, "flock", refuse_folders)


def test_where_a_folder_cannot_be_locked_the_file_is(experiment, unlockable_folders, holding_process):
    with pytest.raises(LockTimeout, match=f"held by process {holding_process.pid} on"), merge_lock(experiment, 0.1):
        pytest.fail("two merges at once")
    assert is_held(experiment.global_lock)
    holding_process.kill()
    assert retry_until(lambda: is_free(experiment), PATIENCE_S)
    with merge_lock(experiment):
        assert is_held(experiment.global_lock)
    assert not is_held(experiment.global_lock)


def test_another_error_of_the_lock_is_not_taken_for_a_file_system_that_has_none(experiment, monkeypatch):
    def no_locks(descriptor, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    with pytest.raises(OSError, match="No locks available"), merge_lock(experiment):
        pytest.fail("not locked")


def test_of_several_rewards_the_chosen_one_stays_with_the_skill(experiment):
    data = skill("Collect_Wood")
    other = data["task_reward"].replace("return", "return 7.0 *")
    reports = [unprobed(data["task_is_done"], reward, "ran") for reward in (data["task_reward"], other)]
    on_trial = {"gate": reports[0], "candidates": [other], "candidate_gates": [reports[1]]}
    folder, module, _ = prepare_training_run("Collect_Wood", data | on_trial, 0, [], {}, experiment.root)
    run = RunPaths(folder)
    assert "def candidate_1_reward" in module.read_text()
    assert [report["sha256"] for report in read_json(run.run_json)["gate"]] == [report["sha256"] for report in reports]
    check_module(module.read_text(), read_json(run.run_json)["gate"])
    tree = {"w": np.zeros(3, np.float32)}
    pickles.dump(run.checkpoint(100), {"experts": {"0": {"params": {"actor": tree, "critic": tree}}}})
    with pytest.raises(BadInput, match="candidates.json does not say which reward was chosen"):
        merge(experiment.root, run, 100)
    write_json(run.candidates, {"chosen": 2, "candidates": []})
    merge(experiment.root, run, 100)
    kept = experiment.skill_folder(0, "Collect_Wood")
    archived = read_json(kept / "skill.json")
    assert (archived["task_reward"], archived["gate"]) == (other, reports[1])
    assert not {"candidates", "candidate_gates"} & archived.keys()
    assert read_json(kept / "candidates.json")["chosen"] == 2
    _, later, _ = prepare_training_run(
        "Make_Table", skill("Make_Table"), 1, ["Collect_Wood"], {"Collect_Wood": {"expert_idx": 0}}, experiment.root
    )
    first = read_module(later.read_text()).tasks[0]
    assert "return 7.0 *" in first.task_reward and read_module((kept / "0.py").read_text()).candidates == []


def test_a_run_whose_rewards_are_on_trial_is_not_prepared_anew(experiment):
    data = skill("Collect_Wood")
    other = data["task_reward"].replace("return", "return 7.0 *")
    arguments = ("Collect_Wood", data | {"candidates": [other]}, 0, [], {}, experiment.root)
    folder, module, _ = prepare_training_run(*arguments)
    run, text = RunPaths(folder), module.read_text()
    pickles.dump(run.trial.checkpoint(50), {})
    prepare_training_run("Collect_Wood", data, *arguments[2:])
    assert module.read_text() == text
    run.trial.checkpoint(50).unlink()
    write_json(run.candidates, {"chosen": 2})
    prepare_training_run(*arguments)
    assert not run.candidates.exists()  # its checkpoints are gone


def test_a_reward_on_trial_that_has_not_passed_the_gate_is_refused(experiment):
    data = skill("Collect_Wood")
    other = data["task_reward"].replace("return", "return 7.0 *")
    report = unprobed(data["task_is_done"], data["task_reward"], "ran")
    on_trial = {"gate": report, "candidates": [other], "candidate_gates": [report]}
    with pytest.raises(BadInput, match="not the code that passed the gate"):
        prepare_training_run("Collect_Wood", data | on_trial, 0, [], {}, experiment.root)
    _, module, _ = prepare_training_run("Collect_Wood", data | {"candidates": [other]}, 0, [], {}, experiment.root)
    with pytest.raises(BadInput, match=r"Collect_Wood \(candidate 1\) has not passed the gate"):
        check_module(module.read_text(), [report])


OBSERVED = {
    "n": 1,
    "successes": 500,
    "failures": 12,
    "resources": {},
    "differences": [{"kind": "gain not declared", "resource": "achievement:COLLECT_WOOD", "text": "gained"}],
    "most_steps": 12,
    "added_gains": ["achievement:COLLECT_WOOD"],
}


def test_what_a_run_observed_goes_with_its_skill_into_the_library(experiment):
    run = finished_run(experiment.root, 0, "Collect_Wood", {}, 80)
    write_json(run.result, read_json(run.result) | {"observed": OBSERVED})
    declared = read_json(run.folder / "skill.json")
    keep_observed(run)
    once = read_json(run.folder / "skill.json")
    merge(experiment.root, run, 80)
    archived = read_json(experiment.skill_folder(0, "Collect_Wood") / "skill.json")
    assert archived == once  # a repeated merge changes nothing
    added = {"achievement:COLLECT_WOOD": {"per": 0, "fixed": 1}}
    assert archived == declared | {"gains": declared["gains"] | added, "observed": OBSERVED}


def test_a_run_that_observed_nothing_leaves_its_skill_as_it_was_declared(experiment):
    run = finished_run(experiment.root, 0, "Collect_Wood", {}, 80)
    declared = read_json(run.folder / "skill.json")
    merge(experiment.root, run, 80)
    assert read_json(experiment.skill_folder(0, "Collect_Wood") / "skill.json") == declared


# What an older attempt wrote when the next one had begun.


def test_a_checkpoint_that_an_older_attempt_wrote_too_late_is_not_merged(experiment):
    run = finished_run(experiment.root, 0, "Wood", {}, 100)
    write_launch(run.folder, 2, Slot())
    late = pickles.load(run.checkpoint(100)) | {"metadata": {"frames": 500, "attempt": 1}}
    pickles.dump(run.checkpoint(500), late)
    named = str(run.checkpoint(500).relative_to(run.folder))
    write_json(run.result, {"outcome": "completed", "attempt": 2, "frames": 500, "checkpoint": named})
    with pytest.raises(DamagedCheckpoint, match="written by attempt 1 when attempt 2 had begun"):
        process_completed_training(run.folder, "Wood", 0, experiment.root, 500)
    assert not experiment.skill_folder(0, "Wood").exists()
    set_damaged_aside(run, 2)
    assert [path.name for path in run.checkpoints()] == ["checkpoint_100.pkl"]


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK])
def test_two_schedulers_cannot_be_kept_apart_without_locks_and_that_is_said(experiment, monkeypatch, error):
    def no_locks(*arguments):
        raise OSError(error, os.strerror(error))

    experiment.root.mkdir(parents=True)
    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(BadInput, match="on a file system without locks"):
        locks.hold_scheduler_lock(experiment)
