"""Flags: the seeds' commands as printed, numbers as people write them, and one clear line for what is wrong."""

import json
import resource
import shlex
import subprocess
import sys

import pytest

from flowrl.bottomup_parallel import main
from flowrl.config import Settings
from flowrl.errors import BadInput
from flowrl.records.training_settings import TrainingSettings

PRINTED = {
    "basic usage": r"""python -m flowrl.bottomup_parallel \
  --env_name Craftax-Symbolic-v1 \
  --graph-path exp/parallel_test/ \
  --max_nodes 20 \
  --max_parallel_skills 3 \
  --scheduler_poll_interval 30 \
  --total_timesteps 1e8 \
  --use_wandb
""",
    "small test": r"""python -m flowrl.bottomup_parallel \
  --max_nodes 3 \
  --max_parallel_skills 2 \
  --total_timesteps 5e7 \
  --llm_name gpt-4o-mini \
  --no-use_wandb
""",
    "production run": r"""python -m flowrl.bottomup_parallel \
  --max_nodes 20 \
  --max_parallel_skills 4 \
  --total_timesteps 2e8 \
  --scheduler_poll_interval 60 \
  --use_wandb \
  --wandb_project flow_rl_parallel
""",
    "resume": "python -m flowrl.bottomup_parallel --graph-path exp/parallel_test/",
    "manual integration test": r"""python -m flowrl.bottomup_parallel \
  --max_nodes 3 \
  --max_parallel_skills 2 \
  --total_timesteps 1e7 \
  --no-use_wandb \
  --graph-path exp/test_parallel/
""",
    "cheaper model": r"""python -m flowrl.bottomup_parallel \
  --llm_name gpt-4o-mini \
  --max_nodes 3
""",
    "default model": r"""python -m flowrl.bottomup_parallel \
  --max_nodes 10
""",
    "flags of the module's readme": """python -m flowrl.bottomup_parallel
--max_parallel_skills 3           # Number of parallel training sessions
--scheduler_poll_interval 30      # Seconds between checks
--max_retries 2                   # Retries for failed skills
""",
}
EXPECTED = {
    "basic usage": {
        "env_name": "Craftax-Symbolic-v1", "graph_path": "exp/parallel_test", "max_nodes": 20, "max_parallel_skills": 3,
        "scheduler_poll_interval": 30, "total_timesteps": 100_000_000, "use_wandb": True, "proposer": "curriculum",
    },
    "small test": {
        "max_nodes": 3, "max_parallel_skills": 2, "total_timesteps": 50_000_000, "llm_name": "gpt-4o-mini",
        "proposer": "llm", "use_wandb": False,
    },
    "production run": {
        "max_nodes": 20, "max_parallel_skills": 4, "total_timesteps": 200_000_000, "scheduler_poll_interval": 60,
        "use_wandb": True, "wandb_project": "flow_rl_parallel",
    },
    "resume": {"graph_path": "exp/parallel_test", "max_nodes": 40, "layer_size": 512},
    "manual integration test": {
        "max_nodes": 3, "max_parallel_skills": 2, "total_timesteps": 10_000_000, "use_wandb": False,
        "graph_path": "exp/test_parallel",
    },
    "cheaper model": {"llm_name": "gpt-4o-mini", "proposer": "llm", "max_nodes": 3},
    "default model": {"max_nodes": 10, "llm_name": None, "proposer": "curriculum"},
    "flags of the module's readme": {"max_parallel_skills": 3, "scheduler_poll_interval": 30, "max_retries": 2},
}  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere_without_keys(tmp_path, monkeypatch):
    """An empty folder, and none of the developer's keys."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def dry_run(capsys, *arguments: str) -> dict:
    assert main([*arguments, "--dry_run"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys, *arguments: str) -> str:
    """The one line on standard error of a command that ends with exit code 2."""
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1, output.err
    assert "Traceback" not in output.err and "│" not in output.err
    return output.err


@pytest.mark.parametrize("title", PRINTED)
def test_every_command_in_the_seeds_works_as_printed(title, capsys, tmp_path):
    words = shlex.split(PRINTED[title].replace("\\\n", ""), comments=True)  # as a shell joins lines
    assert words[:3] == ["python", "-m", "flowrl.bottomup_parallel"]
    found = dry_run(capsys, *words[3:])
    assert {name: found[name] for name in EXPECTED[title]} == EXPECTED[title]
    assert list(tmp_path.iterdir()) == [], "a dry run touched the disk"


def test_a_command_in_the_seeds_works_in_a_shell(tmp_path):
    command = PRINTED["basic usage"].replace("python", sys.executable, 1).rstrip() + " --dry_run"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["max_nodes"] == 20


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    command = f"{sys.executable} -m flowrl.bottomup_parallel --dry_run | true"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", "")


def test_the_defaults_are_those_of_the_quick_start(capsys):
    found = dry_run(capsys)
    assert {"max_parallel_skills": 3, "scheduler_poll_interval": 30, "max_retries": 2, "max_nodes": 40}.items() <= found.items()
    assert {"num_envs": 1024, "env_name": "Craftax-Symbolic-v1", "graph_path": "exp/bottom_up"}.items() <= found.items()


def test_a_run_made_without_the_front_door_has_the_same_defaults():
    assert Settings().training() == TrainingSettings().training()


@pytest.mark.parametrize(
    ("text", "number"), [("1e8", 10**8), ("5e7", 5 * 10**7), ("2.5e3", 2500), ("100_000", 10**5), ("7", 7)]
)
def test_counts_are_read_as_people_write_them(text, number, capsys):
    assert dry_run(capsys, "--total_timesteps", text)["total_timesteps"] == number


def test_frames_without_progress_and_of_a_skill_are_limited_by_flags(capsys):
    found = dry_run(capsys)
    assert (found["no_progress_frames"], found["skill_budget_frames"]) == (10_000_000, None)
    assert dry_run(capsys, "--total_timesteps", "2e6")["no_progress_frames"] == 500_000
    found = dry_run(capsys, "--no_progress_frames", "1e6", "--skill-budget-frames", "5e6")
    assert (found["no_progress_frames"], found["skill_budget_frames"]) == (1_000_000, 5_000_000)
    assert dry_run(capsys, "--no-progress-frames=0")["no_progress_frames"] == 0


@pytest.mark.parametrize("flag", ["--max_nodes", "--max-nodes"])
@pytest.mark.parametrize("form", ["{flag} 7", "{flag}=7"])
def test_dash_and_underscore_are_the_same(flag, form, capsys):
    assert dry_run(capsys, *form.format(flag=flag).split())["max_nodes"] == 7


def test_the_number_of_skills_at_a_time_is_a_number_or_auto(capsys, tmp_path):
    assert dry_run(capsys, "--max_parallel_skills", "auto")["max_parallel_skills"] == "auto"
    assert dry_run(capsys, "--max-parallel-skills=1e1")["max_parallel_skills"] == 10
    assert list(tmp_path.iterdir()) == [], "a dry run touched the disk"


@pytest.mark.parametrize("flag", ["--graph_path", "--graph-path"])
def test_a_tilde_in_a_flag_is_the_home_folder(flag, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert dry_run(capsys, f"{flag}=~/x")["graph_path"] == str(tmp_path / "x")
    assert Settings(graph_path="~/x").graph_path == tmp_path / "x"


@pytest.mark.parametrize("flags", [["--graph_path", ""], ["--graph_path="], ["--graph-path= "]])
def test_an_empty_folder_is_one_line_and_exit_code_2(flags, capsys):
    assert main([*flags, "--dry_run"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "--graph_path: the path is empty" in said
    with pytest.raises(BadInput, match="--graph_path is empty"):
        Settings(graph_path="")


@pytest.mark.parametrize("flag", ["--no-anneal_lr", "--no_anneal_lr", "--no-anneal-lr"])
def test_an_on_off_flag_has_an_off(flag, capsys):
    assert dry_run(capsys)["anneal_lr"] is True
    assert dry_run(capsys, flag)["anneal_lr"] is False


def test_a_key_in_the_environment_chooses_the_model(capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    found = dry_run(capsys)
    assert (found["proposer"], found["llm_name"]) == ("llm", "gpt-5")
    assert "not-a-key" not in json.dumps(found)
    assert dry_run(capsys, "--proposer", "curriculum")["proposer"] == "curriculum"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--max_node", "3"], ["--max_node'", "--max_nodes"]),
        (["--skills_gpu", "1"], ["--skills_gpu", "--skills_per_gpu"]),
        (["--xyzzy"], ["--xyzzy", "valid are", "--env_name", "--max_nodes"]),
        (["--nope"], ["--nope", "valid are", "--env_name", "--max_nodes"]),
        (["--retry"], ["--retry", "did you mean --retry_failed?"]),
        (["--env_name", "Craftax"], ["'Craftax'", "Craftax-Symbolic-v1", "Craftax-Classic-Symbolic-v1"]),
        (["--proposer", "lm"], ["--proposer", "'lm'", "auto", "curriculum", "llm"]),
        (["--max_nodes", "few"], ["--max_nodes", "'few'", "40 or 1e8"]),
        (["--max_nodes", "1.5"], ["--max_nodes", "'1.5'"]),
        (["--max_nodes", "1e999"], ["--max_nodes", "'1e999'"]),
        (["--max_nodes", "0"], ["--max_nodes", "at least 1", "0"]),
        (["--max_nodes"], ["--max_nodes", "missing"]),
        (["--max_parallel_skills", "few"], ["--max_parallel_skills", "'few'", "whole number of at least 1", "auto"]),
        (["--max_parallel_skills", "1.5"], ["--max_parallel_skills", "'1.5'", "auto"]),
        (["--max_parallel_skills", "0"], ["--max_parallel_skills", "at least 1, or auto", "0"]),
        (["--max_parallel_skills"], ["--max_parallel_skills", "missing", "INT|auto"]),
        (["--max_retries", "-1"], ["--max_retries", "0 or more", "-1"]),
        (["--no_progress_frames", "-1"], ["--no_progress_frames", "0 or more", "-1"]),
        (["--skill_budget_frames", "0"], ["--skill_budget_frames", "at least 1", "0"]),
        (["--skill_budget_frames", "1e4"], ["--skill_budget_frames", "--num_envs * --num_steps (65536)", "10000"]),
        (
            ["--skill_budget_frames", "1e6", "--candidate_timesteps", "2e6"],
            ["--skill_budget_frames", "--candidate_timesteps (2000000)", "1000000"],
        ),
        (["--init_trial", "0"], ["--init_trial", "at least 1", "0"]),
        (["--init_trial", "3"], ["--init_trial 3", "--init_from none", "--init_from auto"]),
        (["--init_trial", "9", "--init_from", "auto", "--num_envs", "8"], ["--init_trial 9", "--num_envs 8"]),
        (["--lr", "fast"], ["--lr", "'fast'"]),
        (["--lr", "nan"], ["--lr", "nan"]),
        (["--lr", "0"], ["--lr", "more than 0"]),
        (["--success_rate", "80"], ["--success_rate", "from 0 to 1", "80"]),
        (["--gpu_ids", "0,a"], ["--gpu_ids", "'0,a'"]),
        (["--gpu_ids", "1,1"], ["--gpu_ids", "'1,1'"]),
        (["--num_minibatches", "7"], ["--num_minibatches 7", "--num_envs", "--num_steps"]),
        (["--use_wandb", "false"], ["'false'", "--no-FLAG"]),
        (["stray"], ["'stray'"]),
    ],
)
def test_bad_input_is_one_clear_line(arguments, names, capsys, tmp_path):
    line = refusal(capsys, *arguments)
    for name in names:
        assert name in line
    assert list(tmp_path.iterdir()) == []


def test_a_named_model_without_key_or_address_is_an_error(capsys, tmp_path):
    line = refusal(capsys, "--llm_name", "gpt-4o-mini")
    assert "gpt-4o-mini" in line and "OPENAI_API_KEY" in line and "--llm_base_url" in line and "curriculum" in line
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_flag_and_takes_less_than_a_second_of_a_core():
    # Of the processor's time: that of a clock says how busy the machine is.
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "flowrl.bottomup_parallel", "--help"], capture_output=True, text=True, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert (done.returncode, done.stderr) == (0, "")
    for name in Settings().to_json():
        assert f"--{name}" in done.stdout
    assert min(seconds) < 1.0


# A cluster.

GPU_JOBS = ("--launcher", "slurm", "--max_parallel_skills", "16", "--slurm_partition", "gpu", "--slurm_time", "4:00:00",
            "--slurm_gpus", "1", "--slurm_cpus", "8", "--slurm_mem", "16G", "--slurm_args", "--account=x --constraint=y",
            "--proposer", "curriculum")  # fmt: skip


def test_a_dry_run_for_a_cluster_prints_the_batch_script_of_a_first_job(capsys, tmp_path):
    assert main([*GPU_JOBS, "--graph_path", str(tmp_path / "exp"), "--dry_run"]) == 0
    printed = capsys.readouterr().out
    settings, _, script = printed.partition("\n#!/bin/bash\n")
    assert json.loads(settings)["slurm_args"] == "--account=x --constraint=y"
    for line in ("--partition=gpu", "--time=4:00:00", "--gres=gpu:1", "--cpus-per-task=8", "--mem=16G", "--account=x",
                 "--constraint=y", "--job-name=flowrl_e0_Collect_Wood", "--no-requeue"):  # fmt: skip
        assert f"#SBATCH {line}\n" in script
    assert f"{tmp_path / 'exp' / 'training_runs' / 'skill_0_Collect_Wood'} 1 -- " in script
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--max_parallel_skills", "auto"], "--max_parallel_skills auto measures this machine"),
        (["--gpu_ids", "0,1"], "--slurm_gpus"),
        (["--slurm_time", "2"], "--slurm_time must be at least 5 minutes"),
        (["--slurm_time", "soon"], "--slurm_time must be minutes"),
        (["--slurm_args", "--requeue"], "--slurm_args must not have '--requeue'"),
        (["--slurm_cpus", "0"], "--slurm_cpus must be at least 1"),
    ],
)
def test_what_cannot_be_asked_of_a_cluster_is_one_line_and_exit_code_2(capsys, tmp_path, flags, words):
    assert main(["--launcher", "slurm", "--graph_path", str(tmp_path / "exp"), "--dry_run", *flags]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not (tmp_path / "exp").exists()


def test_a_machine_without_slurm_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("flowrl.parallel.launchers.slurm_queue.shutil.which", lambda name: None)
    assert main(["--launcher", "slurm", "--proposer", "curriculum", "--graph_path", str(tmp_path / "exp")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("flowrl: sbatch, squeue, scancel, sinfo not found: --launcher slurm needs Slurm's commands")
    assert said.count("\n") == 1 and not (tmp_path / "exp").exists()
