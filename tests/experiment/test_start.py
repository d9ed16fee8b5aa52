"""Whole starts of the front door, in processes of their own and real tmux; only the training is not real."""

import json
import os
import pickle
import re
import signal
import subprocess
from types import SimpleNamespace

import pytest

from flowrl import pickles
from flowrl.config import Settings
from flowrl.evaluation.library import frames_trained
from flowrl.experiment import stored_settings
from flowrl.experiment.further import below_goal
from flowrl.experiment.start import opening_lines
from flowrl.files import write_json
from flowrl.parallel.library.locks import hold_scheduler_lock
from flowrl.parallel.processes import of_runs_below
from flowrl.paths import ExperimentPaths
from tests.experiment.checkpoints import sequential_checkpoint
from tests.experiment.fakes import until
from tests.experiment.starts import CLASSIC, Practice, in_training
from tests.full_disk import on_a_small_disk


def sessions() -> list[str]:
    done = subprocess.run(["tmux", "list-sessions", "-F", "#{session_name}"], capture_output=True, text=True, check=False)
    return sorted(done.stdout.split())


def test_skills_are_proposed_trained_merged_and_told_in_a_table(practice):
    code, output, error = practice.run(*CLASSIC, "--max_nodes", "4", wishes={"Collect_Wood": {"seconds": 5}})
    assert (code, error) == (0, "")
    assert practice.paths.library() == {0: "Collect_Wood", 1: "Collect_Stone", 2: "Make_Pickaxe", 3: "Collect_Coal"}
    assert practice.skills()["Make_Pickaxe"]["dependencies"] == ["Collect_Wood", "Collect_Stone"]
    assert "watch: tmux attach -t flowrl_e0_Collect_Wood" in output
    table = output[output.index("random policy") :]
    for name in practice.paths.library().values():
        row = next(line for line in table.splitlines() if line.split()[:1] == [name])
        assert row.split()[2:6] == ["completed", "1.0k", "0.90", "0.10"]
    assert "run minutes in" in table
    assert "jq . exp/test/scheduler_state.json" in table
    assert "--max_nodes" not in table  # the proposer has no more skills than these


def test_skills_are_trained_where_modules_have_filled_the_environment(practice):
    modules = ":".join(["/cluster/modules/" + "x" * 180] * 200)  # 40 kB
    large = {"PATH": f"{os.environ['PATH']}:{modules}", "LD_LIBRARY_PATH": modules}
    code, output, error = practice.run(*CLASSIC, "--max_nodes", "1", **large)
    assert (code, error, practice.statuses()) == (0, "", {"Collect_Wood": "completed"})
    assert "--max_nodes 2\n" in output


def test_the_folder_alone_goes_on(practice):
    assert practice.run(*CLASSIC, "--max_nodes", "2", "--layer_size", "64")[0] == 0
    # What `auto` came to: a key that a later shell happens to have asks no language model.
    assert json.loads(practice.paths.config.read_text())["proposer"] == "curriculum"
    code, output, _ = practice.run("--max_nodes", "3")
    assert code == 0
    assert "continuing: 2 of 2 skills completed" in output
    assert list(practice.statuses()) == ["Collect_Wood", "Collect_Stone", "Make_Pickaxe"]
    run = json.loads((practice.paths.skill_folder(2, "Make_Pickaxe") / "run.json").read_text())
    assert run["settings"]["layer_size"] == 64
    assert run["env_name"] == "Craftax-Classic-Symbolic-v1"
    assert practice.run()[0] == 0


def test_a_type_of_numbers_that_is_asked_for_in_vain_is_told_once(practice):
    _, output, _ = practice.run(*CLASSIC, "--max_nodes", "2", JAX_ENABLE_X64="1")
    assert output.count("note: JAX_ENABLE_X64=1 has no effect") == 1


def test_a_gpu_that_trains_fewer_than_were_asked_for_is_told(practice):
    _, output, _ = practice.run(*CLASSIC, "--max_nodes", "1", "--max_parallel_skills", "3", MARK_GPUS="0,1")
    assert "2 skills at a time" in output and "not 3: each GPU trains --skills_per_gpu 1 at a time" in output
    assert practice.state()["max_parallel"] == 2
    _, output, _ = practice.run("--skills_per_gpu", "2", MARK_GPUS="0,1")
    assert "3 skills at a time" in output and "each GPU" not in output


def test_a_gpu_that_is_not_trained_on_is_told_at_the_start(practice):
    node = practice.folder / "nvidia0"
    node.touch()
    flags = (*CLASSIC, "--max_nodes", "1")
    code, output, _ = practice.run(*flags, MARK_DEVICE_NODE=str(node), JAX_PLATFORMS="cpu")
    first = output.splitlines()[0]
    assert code == 0 and "note: trainings run on the CPU: JAX_PLATFORMS=cpu is set, and there is a GPU" in first
    node.unlink()
    code, output, _ = practice.run(*flags, MARK_DEVICE_NODE=str(node), JAX_PLATFORMS="cpu")
    assert code == 0 and "on the CPU" not in output


def test_a_proposer_without_more_is_an_end_like_another(practice):
    code, output, _ = practice.run(*CLASSIC, "--max_nodes", "9")
    assert code == 0
    assert len(practice.statuses()) == 4
    assert "no more skills" in output


def test_something_failed_is_exit_code_1_and_says_how_to_try_again(practice):
    code, output, _ = practice.run(
        *CLASSIC, "--max_nodes", "3", "--max_retries", "0",
        wishes={"Collect_Stone": {"outcome": "failed", "error": "planted"}},
    )  # fmt: skip
    assert code == 1
    assert practice.statuses()["Collect_Stone"] == "failed"
    assert practice.statuses().get("Make_Pickaxe", "blocked") == "blocked"
    assert "planted" in output and "--retry_failed" in output


def test_a_second_command_on_the_folder_leaves_with_exit_code_3(practice):
    first = practice.start(*CLASSIC, "--max_nodes", "1", wishes={"*": {"seconds": 300}})
    until(lambda: in_training(practice, "Collect_Wood"))
    before = practice.paths.config.read_text()
    code, output, error = practice.run("--max_nodes", "2")
    assert (code, error.count("\n")) == (3, 1)
    assert practice.paths.config.read_text() == before
    assert first.poll() is None


@pytest.mark.parametrize(("number", "wait_s"), [(signal.SIGINT, 5), (signal.SIGTERM, 0.3), (signal.SIGHUP, 0.3)])
def test_interrupted_once_trainings_go_on_and_are_taken_up_again(practice, number, wait_s):
    gate = practice.folder / "gate"
    wishes = {"*": {"gate": str(gate)}}
    process = practice.start(*CLASSIC, "--max_nodes", "2", wishes=wishes, MARK_SECOND_CTRL_C_S=str(wait_s))
    until(lambda: in_training(practice, "Collect_Wood", "Collect_Stone"))
    process.send_signal(number)
    output, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "")
    assert re.search(r"continue with: \S+ -m flowrl.bottomup_parallel --graph_path exp/test", output)
    assert sessions() == ["flowrl_e0_Collect_Wood", "flowrl_e1_Collect_Stone"]
    gate.touch()
    assert practice.run(wishes=wishes)[0] == 0
    assert {name: skill["attempt"] for name, skill in practice.skills().items()} == {"Collect_Wood": 1, "Collect_Stone": 1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_twice_the_trainings_end_and_wait_and_nothing_is_left(practice, number):
    process = practice.start(*CLASSIC, "--max_nodes", "2", wishes={"*": {"seconds": 300, "stray": True}})
    until(lambda: in_training(practice, "Collect_Wood", "Collect_Stone"))
    process.send_signal(number)
    for line in process.stdout:
        if "Ctrl-C again" in line:
            break
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert set(practice.statuses().values()) == {"waiting"}
    assert {skill["retry_count"] for skill in practice.skills().values()} == {0}
    assert sessions() == []
    assert of_runs_below(practice.folder) == []
    assert [path for path in practice.folder.rglob("*") if path.name.endswith(".tmp")] == []


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ('{"version": 99, "skills": []}', ["newer flowrl", "version 99", "update flowrl"]),
        ('{"version": 1, "skills": [', ["not valid JSON", "move it away"]),
        ('{"version": 1, "skills": "none"}', ["not a scheduler state", "skills", "move it away"]),
        (None, ["cannot be read (Is a directory)", "move it away"]),
    ],
)
def test_a_state_file_that_cannot_be_used_is_refused_and_nothing_is_changed(practice, content, names):
    practice.paths.root.mkdir(parents=True)
    if content is None:
        practice.paths.state.mkdir()  # what cannot be read by anyone: permissions do not stop root
    else:
        practice.paths.state.write_text(content)
    before = everything(practice.folder)
    code, output, error = practice.run(*CLASSIC)
    assert (code, output, error.count("\n")) == (2, "", 1)
    for name in ["flowrl: ", str(practice.paths.state.name), *names]:
        assert name in error
    assert everything(practice.folder) == before


@pytest.mark.parametrize(("graph_path", "named"), [("new/exp", ""), ("experiment", "/experiment")])
@on_a_small_disk
def test_a_folder_that_is_not_writable_is_refused_and_nothing_is_changed(disk, graph_path, named):
    """On a read-only mount, which stops root as well: a new experiment, and one that was started when it was writable."""
    practice = Practice(disk.root, graph_path)
    stored_settings.write(ExperimentPaths(disk.root / "experiment"), Settings(env_name=CLASSIC[1]))
    before = everything(disk.root)
    disk.make_read_only()
    code, output, error = practice.run(*CLASSIC)
    assert (code, output, error.count("\n")) == (2, "", 1)
    assert error.startswith(f"flowrl: {disk.root}{named} is not writable; ") and "choose another --graph_path" in error
    assert everything(disk.root) == before


def everything(folder):
    """All files and folders with their content and the time of their last change."""
    return {path: (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("flags", "environ", "names"),
    [
        (["--use_wandb"], {}, ["--use_wandb", "WANDB_MODE=offline"]),
        ([], {"PATH": "/nowhere"}, ["tmux is missing"]),
        (["--llm_name", "gpt-4o-mini"], {}, ["gpt-4o-mini", "OPENAI_API_KEY"]),
        (["--gpu_ids", "7"], {}, ["7"]),
        ([], {"FLOWRL_CACHE_DIR": "/dev/null/cache"}, ["/dev/null/cache, cannot be created", "set FLOWRL_CACHE_DIR"]),
    ],
)
def test_what_is_missing_is_told_before_anything_is_launched(practice, flags, environ, names):
    code, output, error = practice.run(*CLASSIC, *flags, **environ)
    assert (code, error.count("\n")) == (2, 1)
    for name in names:
        assert name in error
    assert practice.files() == {}
    assert sessions() == []


def test_a_tmux_that_cannot_be_used_is_told_before_anything_is_proposed(practice, tmp_path):
    folder, old = tmp_path / ("long" * 40), tmp_path / "old" / "tmux"
    folder.mkdir()
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho tmux 3.1c\n")
    old.chmod(0o755)
    for variable, value, name in (
        ("TMUX_TMPDIR", str(folder), "TMUX_TMPDIR"), ("PATH", f"{old.parent}:{os.environ['PATH']}", "tmux 3.1c"),
    ):  # fmt: skip
        code, output, error = practice.run(*CLASSIC, **{variable: value})
        assert (code, output, error.count("\n")) == (2, "", 1) and name in error
        assert list(practice.files()) == [str(old)]


@pytest.fixture
def copied(practice):
    """A sequential checkpoint of Craftax-Classic, of width 8, where the seeds say that it is copied to."""
    practice.paths.checkpoints.mkdir(parents=True)
    practice.paths.global_latest.write_bytes(pickle.dumps(sequential_checkpoint(), protocol=4))
    return practice


def test_a_copied_checkpoint_says_which_game_and_width_the_experiment_has(copied):
    code, output, error = copied.run("--max_parallel_skills", "2", "--max_nodes", "4")
    assert (code, error) == (0, "")
    assert "Craftax-Classic-Symbolic-v1 in" in output and "took over 3 skills" in output
    stored = json.loads(copied.paths.config.read_text())
    found = [stored[name] for name in ("env_name", "layer_size", "observation_size", "max_nodes")]
    assert found == ["Craftax-Classic-Symbolic-v1", 8, 1345, 4]
    assert list(copied.statuses()) == ["Collect_Wood", "Collect_Stone", "Make_Pickaxe", "Collect_Coal"]
    run = json.loads((copied.paths.skill_folder(8, "Collect_Coal") / "run.json").read_text())
    assert (run["env_name"], run["settings"]["layer_size"]) == ("Craftax-Classic-Symbolic-v1", 8)
    code, output, error = copied.run("--max_nodes", "4")
    assert (code, error) == (0, "")
    assert "continuing: 4 of 4" in output


@pytest.mark.parametrize(
    ("flag", "value", "own"), [("--layer_size", "512", "8"), ("--env_name", "Craftax-Symbolic-v1", "Craftax-Classic")]
)
def test_a_flag_that_conflicts_with_a_copied_checkpoint_is_refused_by_name(copied, flag, value, own):
    before = copied.files()
    code, _, error = copied.run(flag, value)
    assert (code, error.count("\n")) == (2, 1)
    assert flag in error and value in error and own in error
    assert copied.files() == before


def test_a_dry_run_tells_of_a_copied_checkpoint_and_touches_nothing(copied):
    before = copied.files()
    code, output, _ = copied.run("--dry_run")
    assert code == 0
    described = json.loads(output)
    assert (described["env_name"], described["layer_size"]) == ("Craftax-Classic-Symbolic-v1", 8)
    assert copied.files() == before


def test_two_starts_do_not_both_take_over_a_copied_checkpoint(copied):
    lock = hold_scheduler_lock(copied.paths)
    before = copied.files()
    code, _, error = copied.run("--max_nodes", "3")
    assert (code, error.count("\n")) == (3, 1)
    assert copied.files() == before
    lock.release()


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"MARK_SKILLS": '["Make_Pickaxe"]'}, ["Make_Pickaxe needs"]),
        ({"MARK_NEEDS": '{"Collect_Wood": ["Mine_Diamond"]}'}, ["get_skill_dependencies", "'Mine_Diamond'"]),
        ({"MARK_NEEDS": '{"Collect_Wood": null}'}, ["get_skill_dependencies returned None for Collect_Wood"]),
        ({"MARK_NEEDS": '{"Collect_Wood": "Collect_Stone"}'}, ["get_skill_dependencies returned 'Collect_Stone'"]),
    ],
)
def test_a_first_skill_of_no_use_leaves_no_new_folder(practice, environ, names):
    code, _, error = practice.run(*CLASSIC, **environ)
    assert (code, error.count("\n")) == (2, 1)
    for name in names:
        assert name in error
    assert [path.name for path in practice.folder.iterdir() if path.name != "asked.log"] == []
    assert practice.run(*CLASSIC, "--max_nodes", "1")[0] == 0


def test_what_the_hook_said_is_kept_from_start_to_start(practice):
    needs = json.dumps({"Collect_Stone": ["Collect_Wood"], "Make_Pickaxe": None})
    gate = practice.folder / "gate"
    process = practice.start(*CLASSIC, "--max_nodes", "2", wishes={"Collect_Wood": {"gate": str(gate)}}, MARK_NEEDS=needs)
    until(lambda: in_training(practice, "Collect_Wood") and "Collect_Stone" in practice.skills())
    process.kill()
    process.communicate()
    assert practice.skills()["Collect_Stone"]["dependencies"] == ["Collect_Wood"]
    gate.touch()
    code, output, error = practice.run("--max_nodes", "3", MARK_NEEDS=needs)
    assert (code, error) == (1, "")
    assert "The proposer gave up: get_skill_dependencies returned None for Make_Pickaxe, expected a list" in output
    assert practice.statuses() == {"Collect_Wood": "completed", "Collect_Stone": "completed"}
    assert (practice.folder / "asked.log").read_text().split() == ["Collect_Wood", "Collect_Stone", "Make_Pickaxe"]


def expert_of(practice, name):
    index = next(index for index, known in practice.paths.library().items() if known == name)
    return pickles.load(practice.paths.expert_params(index, name))


def test_a_completed_skill_is_trained_further_from_its_expert(practice):
    assert practice.run(*CLASSIC, "--max_nodes", "2", wishes={"*": {"frames": 500}})[0] == 0
    config, before = practice.paths.config.read_text(), expert_of(practice, "Collect_Wood")["metadata"]["total_frames"]
    code, output, error = practice.run("--continue_skill", "Collect_Wood", "--extra_timesteps", "3e2")
    assert (code, error) == (0, "")
    assert set(practice.statuses().values()) == {"completed"} and len(practice.statuses()) == 2
    expert, skill = expert_of(practice, "Collect_Wood"), practice.skills()["Collect_Wood"]
    # The fake training adds its 500 frames to each weight, whatever it was asked for.
    assert expert["metadata"]["total_frames"] == before + 500 == expert["params"]["actor"]["w"][0]
    assert (skill["expert_idx"], skill["attempt"], skill["extra_timesteps"]) == (0, 2, None)
    folder = practice.paths.skill_folder(0, "Collect_Wood")
    settings = json.loads((folder / "run.json").read_text())["settings"]
    assert (settings["total_timesteps"], settings["stop_at_goal"]) == (300, False)
    assert "attempt 2" in (folder / "training.log").read_text()
    assert "attempt 1" in (folder / "earlier" / "attempt_1" / "training.log").read_text()
    assert practice.paths.config.read_text() == config
    assert list(practice.paths.training_runs.iterdir()) == []


def test_all_skills_below_the_goal_are_trained_further_until_they_reach_it(practice):
    wishes = {"Collect_Stone": {"rate": 0.5}, "Make_Pickaxe": {"rate": 0.7}}
    assert practice.run(*CLASSIC, "--max_nodes", "3", wishes=wishes)[0] == 0
    further = ("--continue_skill", "below_goal", "--extra_timesteps", "300")
    code, output, error = practice.run(*further)
    assert (code, error) == (0, "") and "below the goal of 0.8: Collect_Stone, Make_Pickaxe\n" in output
    assert [practice.skills()[name]["attempt"] for name in ("Collect_Wood", "Collect_Stone", "Make_Pickaxe")] == [1, 2, 2]
    assert not practice.skills()["Make_Pickaxe"]["to_goal"]
    settings = json.loads((practice.paths.skill_folder(1, "Collect_Stone") / "run.json").read_text())["settings"]
    assert (settings["total_timesteps"], settings["stop_at_goal"]) == (300, True)
    # An evaluation of the library as it is counts more than what the trainings measured, and an older one does not.
    rates = {"Collect_Wood": 0.9, "Collect_Stone": 0.85, "Make_Pickaxe": 0.75}
    found = [{"skill_name": name, "success_rate": {"value": rate}} for name, rate in rates.items()]
    trained = frames_trained(practice.paths)
    for frames, expected in ((trained, ["Make_Pickaxe"]), (trained - 1, ["Collect_Stone", "Make_Pickaxe"])):
        write_json(practice.paths.evaluation, {"frames": frames, "skills": found})
        assert below_goal(practice.paths, list(practice.skills().values()), 0.8) == expected
    write_json(practice.paths.evaluation, {"frames": trained, "skills": found})
    code, output, error = practice.run(*further, "--success_rate", "0.7")
    assert (code, error) == (0, "") and "every skill is at the goal of 0.7\n" in output
    assert frames_trained(practice.paths) == trained


def test_further_training_that_fails_leaves_the_expert_as_it_was(practice):
    wishes = {"Collect_Wood": {"crash_attempts": [2]}}
    assert practice.run(*CLASSIC, "--max_nodes", "2", "--max_retries", "0", wishes=wishes)[0] == 0
    before = expert_of(practice, "Collect_Wood")["metadata"]
    assert practice.run("--continue_skill", "Collect_Wood", "--extra_timesteps", "300")[0] == 1
    assert expert_of(practice, "Collect_Wood")["metadata"] == before
    skill = practice.skills()["Collect_Wood"]
    assert skill["status"] == "completed" and "not trained further: attempt 2" in skill["error"]
    assert set(practice.statuses().values()) == {"completed"}


def test_further_training_keeps_to_the_budget_of_the_skill(practice):
    flags = (*CLASSIC, "--num_envs", "4", "--num_steps", "8", "--skill_budget_frames", "700")
    assert practice.run(*flags, "--max_nodes", "1", wishes={"*": {"frames": 500}})[0] == 0
    further = ("--continue_skill", "Collect_Wood", "--extra_timesteps", "300")
    code, output, error = practice.run(*further)
    assert (code, error) == (0, "")
    assert "Collect_Wood is trained for 200 frames, not 300: --skill_budget_frames leaves no more" in output
    settings = json.loads((practice.paths.skill_folder(0, "Collect_Wood") / "run.json").read_text())["settings"]
    assert settings["total_timesteps"] == 200
    code, _, error = practice.run(*further)  # the fake training has trained its 500 frames again
    assert (code, error.count("\n")) == (2, 1)
    assert "Collect_Wood has trained 1,000 frames, and --skill_budget_frames 700 leaves less than an update (32" in error
    assert practice.statuses() == {"Collect_Wood": "completed"}


def test_a_run_without_progress_is_announced_with_its_reason_and_not_tried_again(practice):
    line = "no progress: Collect_Wood succeeds in 0.000 of fresh episodes"
    wishes = {"Collect_Wood": {"outcome": "failed", "error": line, "reason": "no_progress"}}
    code, output, error = practice.run(*CLASSIC, "--max_nodes", "1", wishes=wishes)
    assert (code, error) == (1, "")
    assert f"failed     Collect_Wood: {line}" in output and "failed, no progress" in output
    assert "--retry_failed" not in output and "retry" not in output
    assert practice.skills()["Collect_Wood"]["attempt"] == 1


def test_further_training_whose_scheduler_is_killed_goes_on_and_counts_once(practice):
    gate = practice.folder / "gate"
    gate.touch()
    assert practice.run(*CLASSIC, "--max_nodes", "2", wishes={"Collect_Wood": {"gate": str(gate)}})[0] == 0
    before = expert_of(practice, "Collect_Wood")["metadata"]["total_frames"]
    gate.unlink()
    flags = ("--continue_skill", "Collect_Wood", "--extra_timesteps", "300")
    process = practice.start(*flags)
    until(lambda: in_training(practice, "Collect_Wood"))
    process.kill()
    process.communicate()
    gate.touch()
    assert practice.run(*flags)[0] == 0
    assert expert_of(practice, "Collect_Wood")["metadata"]["total_frames"] == before + 1000
    assert practice.skills()["Collect_Wood"]["attempt"] == 2


@pytest.fixture
def half_done(practice):
    """One skill completed, one failed."""
    wishes = {"Collect_Stone": {"outcome": "failed", "error": "planted"}}
    assert practice.run(*CLASSIC, "--max_nodes", "2", "--max_retries", "0", wishes=wishes)[0] == 1
    return practice


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--continue_skill", "Collect_Silver", "--extra_timesteps", "1e6"], ["no skill Collect_Silver", "Collect_Wood"]),
        (["--continue_skill", "Collect_Stone", "--extra_timesteps", "1e6"], ["Collect_Stone is failed", "completed skill"]),
        (["--continue_skill", "Collect_Wood"], ["--extra_timesteps"]),
        (["--continue_skill", "Collect_Wood", "--extra_timesteps", "0"], ["at least 1"]),
        (["--continue_skill", "most_useful", "--extra_timesteps", "5e3"], ["--extra_timesteps", "65536", "5000"]),
    ],
)
def test_what_cannot_be_trained_further_is_one_line_and_exit_code_2(half_done, flags, words):
    code, _, error = half_done.run(*flags)
    assert (code, error.count("\n")) == (2, 1)
    assert all(word in error for word in words)
    assert half_done.statuses() == {"Collect_Wood": "completed", "Collect_Stone": "failed"}


def test_no_folder_is_made_to_find_no_skill_in_it(practice):
    code, _, error = practice.run("--continue_skill", "Collect_Wood", "--extra_timesteps", "1e6")
    assert (code, error.count("\n")) == (2, 1) and "which holds no skills" in error
    assert not practice.paths.root.exists()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"slurm_partition": "gpu"}, "note: --slurm_partition has no effect: this machine trains; give --launcher slurm"),
        ({"slurm_gpus": 1, "slurm_time": "4:00:00"}, "note: --slurm_time, --slurm_gpus have no effect"),
        ({"slurm_gpus": 1, "launcher": "slurm"}, None),
        ({}, None),
    ],
)
def test_flags_of_a_cluster_without_a_cluster_are_pointed_out(tmp_path, flags, line):
    """Otherwise a login node would train, and nobody would notice."""
    settings = Settings(graph_path=tmp_path, **flags)
    scheduler = SimpleNamespace(max_parallel=3, state={"skills": []})
    lines = [text for text in opening_lines(settings, tmp_path, scheduler, built_in_proposer()) if "no effect" in text]
    assert [text.startswith(line or "") for text in lines] == ([True] if line else [])


def built_in_proposer():
    return SimpleNamespace(describe=lambda: "the built-in curriculum")
