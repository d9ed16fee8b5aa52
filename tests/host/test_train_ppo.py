"""``python -m flowrl.host.train_ppo`` as a user starts, stops and continues it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from flowrl.errors import BadInput
from flowrl.files import read_json
from flowrl.host import environments, train_ppo
from flowrl.host.learning import session
from flowrl.host.learning.batch import make_batch
from flowrl.host.learning.settings import PPOSettings
from flowrl.host.learning.trainer import PPOTrainer
from flowrl.paths import HostRunPaths
from tests.kept_programs import kept_programs  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--num-steps", "16", "--update-epochs", "1", "--num-minibatches", "2", "--layer-size", "8"]
SLOW = ["--env", "tests.host.games:Slow", "--method", "sequential", *SMALL, "--eval-episodes", "1", "--eval-every", "0"]


def command(folder: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "flowrl.host.train_ppo", "--checkpoint-dir", str(folder), *flags]


def run(folder: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess:
    environ = os.environ | variables
    return subprocess.run(command(folder, *flags), cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in HostRunPaths(folder).metrics.read_text().splitlines()]


def test_the_command_of_the_document_says_and_leaves_what_it_shows(tmp_path):
    flags = ["--n-envs", "2", "--num-episodes", "40", "--device", "cpu", "--learning-rate", "3e-4", "--eval-every", "20"]
    flags += [*SMALL, "--method", "processes", "--parallel-start-method", "spawn", "--eval-episodes", "10"]
    first = run(tmp_path, *flags, "--use-wandb", WANDB_MODE="offline", WANDB_SILENT="true")
    assert (first.returncode, first.stderr) == (0, "")
    shown = first.stdout
    assert shown.startswith("🚀 Using 2 parallel environments for training\n   Start method: spawn\n")
    assert "Parallel mode: 2 environments\n" in shown
    block = r"Episode \d+/40\n  Reward: +[\d.]+  \|  Length: +\d+  \|  Mean\(100\): +[\d.]+\n"
    assert re.search(block + r"  n_completed_episodes: \d+  \|  n_envs: 2\n", shown)
    assert "Evaluation on a single environment: mean reward" in shown and "over 10 episodes" in shown
    assert list(tmp_path.glob("wandb/offline-run-*"))

    updates = [line for line in metrics(tmp_path) if "n_envs" in line]
    assert [line["update"] for line in updates] == list(range(1, len(updates) + 1))
    assert sum(line["n_completed_episodes"] for line in updates) == updates[-1]["episodes"] >= 40
    evaluations = [line for line in metrics(tmp_path) if "evaluation_reward" in line]
    assert [line["evaluation_episodes"] for line in evaluations] == [1, 10]
    result = read_json(HostRunPaths(tmp_path).result)
    assert result["frames"] == len(updates) * 2 * 16 and result["evaluation_reward"] == evaluations[-1]["evaluation_reward"]

    # What was learned is still there: the evaluation is the same. And workers may be forked, before JAX is imported.
    again = run(tmp_path, *flags, "--parallel-start-method", "fork")
    assert (
        (again.returncode, again.stderr) == (0, "")
        and "Nothing left to train" in again.stdout
        and "larger --num-episodes" in again.stdout
    )
    assert read_json(HostRunPaths(tmp_path).result)["evaluation_reward"] == result["evaluation_reward"]

    other = run(tmp_path, *flags, "--env", "Acrobot-v1")
    assert other.returncode == 2 and "trained on CartPole-v1, not on Acrobot-v1" in other.stderr
    wider = run(tmp_path, *flags, "--layer-size", "16")
    assert wider.returncode == 2 and "shape" in wider.stderr and wider.stderr.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_training_that_is_ended_goes_on_where_it_was(tmp_path, number, code):
    checkpoint_s = "0" if number == signal.SIGKILL else "1000"  # the others save as they end
    endless = command(tmp_path, *SLOW, "--checkpoint-s", checkpoint_s, "--num-episodes", "1e6")
    process = subprocess.Popen(endless, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(2):  # updates; the first one is over for sure when the second is shown
            while "n_completed_episodes" not in (line := process.stdout.readline()):
                assert line, process.stderr.read()
        if number == signal.SIGKILL:
            while len(metrics(tmp_path)) < 3:
                assert process.poll() is None
        if number == signal.SIGINT:
            second = run(tmp_path, *SLOW)
            assert second.returncode == 3 and "another process trains in" in second.stderr
        process.send_signal(number)
        shown, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, error) == (code, "")
    assert ("the same command continues" in shown) == (number != signal.SIGKILL)
    saved = HostRunPaths(tmp_path).checkpoints()
    frames = int(saved[-1].stem.split("_")[1])
    assert len(saved) <= 2 and 0 <= metrics(tmp_path)[-1]["frames"] - frames <= 16  # an update may have been under way

    more = run(tmp_path, *SLOW, "--num-episodes", str(frames // 8 + 2))
    assert (more.returncode, more.stderr) == (0, "") and f"Continuing after {frames // 8} episodes" in more.stdout
    found = [line["update"] for line in metrics(tmp_path) if "n_envs" in line]
    assert found == list(range(1, len(found) + 1)) and found[-1] == frames // 16 + 1


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_is_used(tmp_path):
    flags = [*SLOW, "--checkpoint-s", "0"]
    assert run(tmp_path, *flags, "--num-episodes", "4").returncode == 0
    earlier, newest = HostRunPaths(tmp_path).checkpoints()
    data = newest.read_bytes()
    newest.write_bytes(data[:-300] + bytes([data[-300] ^ 1]) + data[-299:])
    again = run(tmp_path, *flags, "--num-episodes", "4")
    assert again.returncode == 0 and "is damaged" in again.stdout
    assert f"{int(earlier.stem.split('_')[1]):,} frames" in again.stdout and newest.exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--n-envs", "0"], "--n_envs must be at least 1, found 0"),
        (["--env", "CartPol-v1"], "--env CartPol-v1: Environment `CartPol` doesn't exist; did you mean CartPole-v1"),
        (["--env", "CartPole-v77"], "did you mean CartPole-v1"),
        (["--env", "ALE/Pongg-v5"], "did you mean ALE/Pong-v5"),
        (["--env", "Pong-v5"], "did you mean ALE/Pong-v5"),
        (["--env", "LunarLander-v2"], "Please use `LunarLander-v3` instead"),
        (["--env", "nowhere.at_all:Env"], "No module named 'nowhere'"),
        (["--env", "tests.host.games:Gues"], "did you mean Guess"),
        (["--n-env", "4"], "unknown flag '--n-env'"),
        (["--method", "processs"], "did you mean processes"),
        (["--learning-rate", "fast"], "expected a number"),
        (["--num-workers", "0"], "--num_workers must be at least 1"),
    ],
)
def test_bad_input_is_one_line(capsys, flags, says):
    assert train_ppo.main(flags) == 2
    out, err = capsys.readouterr()
    assert out == "" and says in err and err.count("\n") == 1


def test_a_training_ends_once_its_newest_episodes_are_good_enough(tmp_path):
    # Each episode of 8 steps pays 36, so the first 100 decide.
    small = {"num_steps": 16, "update_epochs": 1, "num_minibatches": 2, "layer_size": 8, "eval_episodes": 1}
    settings = PPOSettings(env="tests.host.games:Slow", num_episodes=10**6, stop_at=36.0, checkpoint_dir=tmp_path, **small)
    with make_batch(settings) as env:
        assert session.train(settings, env).mean == 36.0
    assert read_json(HostRunPaths(tmp_path).result)["episodes"] == 100


def test_an_environment_that_fails_ends_the_training_and_what_was_learned_is_saved(tmp_path):
    failed = run(tmp_path, *SLOW, "--env", "tests.host.games:Fragile")
    assert failed.returncode == 1 and "environment 0 raised ValueError in step: the wheel is gone" in failed.stderr
    assert [path.name for path in HostRunPaths(tmp_path).checkpoints()] == ["checkpoint_32.pkl"]  # two updates of 16 steps


def test_a_training_survives_the_death_of_a_worker():
    settings = PPOSettings(env="tests.host.games:Slow", n_envs=2, method="processes", num_workers=2, num_steps=16, layer_size=8)
    with make_batch(settings) as env:
        trainer = PPOTrainer(env, settings)
        trainer.train_episode_vectorized()
        os.kill(env.worker_pids[1], signal.SIGKILL)
        made = trainer.train_episode_vectorized()
        assert env.lost.workers == 1 and made.frames == 32 and trainer.state.updates == 2
        assert np.isfinite(list(made.statistics.values())).all()


def test_an_environment_that_cannot_be_made_shows_its_error(capsys):
    assert train_ppo.main(["--env", "tests.host.games:Broken"]) == 1  # it needs an argument
    assert "environment 0 raised TypeError in its function" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("ALE/Pong-v5", "ale_py", "atari"), ("ALE/Pong-v5", "cv2", "atari"), ("LunarLander-v3", "Box2D", "box2d")],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, name, package, extra):
    find = environments.importlib.util.find_spec
    monkeypatch.setattr(environments.importlib.util, "find_spec", lambda wanted: None if wanted == package else find(wanted))
    for loaded in [module for module in sys.modules if module.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadInput) as caught:
        environments.check_environment(name)
    assert f"pip install -e '.[{extra}]'" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_one_line(tmp_path, device):
    found = run(tmp_path, "--device", device, CUDA_VISIBLE_DEVICES="")
    assert found.returncode == 2 and found.stderr.count("\n") == 1, found.stderr
    assert found.stderr.startswith(f"error: --device {device}: JAX finds no such device (")
    assert "use --device cpu, or pip install" in found.stderr


def test_more_workers_than_cores_are_warned_about(monkeypatch, caplog):
    monkeypatch.setattr("flowrl.host.processes.usable_cores", lambda: [0])
    make_batch(PPOSettings(n_envs=2, num_workers=2, method="processes")).close()
    assert "2 workers" in caplog.text and "core" in caplog.text


def test_an_agent_learns_from_the_pixels_of_pong():
    """That it runs on the real game; docs/host.md says what it learns."""
    settings = PPOSettings(env="ALE/Pong-v5", n_envs=2, method="sequential", num_steps=8, update_epochs=1, num_minibatches=1)
    with make_batch(settings) as env:
        assert env.single_observation_space.shape == (4, 84, 84)
        trainer = PPOTrainer(env, settings)
        before = trainer.state.learner.params
        made = trainer.train_episode_vectorized()
        after = trainer.state.learner.params
    assert settings.learns_from_signs and made.frames == 16 and np.isfinite(list(made.statistics.values())).all()
    kernels = [params["net"]["ResidualStage_0"]["Conv_0"]["kernel"] for params in (before, after)]
    assert kernels[0].shape == (3, 3, 4, 16) and not np.array_equal(*kernels)


def test_a_training_in_a_tmux_session_can_be_looked_at_and_leaves_its_result(tmp_path):
    folder = tmp_path / "in tmux"
    flags = [*SLOW, "--tmux", "--num-episodes", "1e6"]
    started = run(folder, *flags)
    assert (started.returncode, started.stderr) == (0, "")
    assert "To look at it: tmux attach -t flowrl_host_in_tmux\n" in started.stdout
    tmux = {"capture_output": True, "text": True, "check": False}
    assert subprocess.run(["tmux", "list-sessions", "-F", "#S"], **tmux).stdout == "flowrl_host_in_tmux\n"
    wait_until(lambda: HostRunPaths(folder).metrics.exists() and len(metrics(folder)) > 2)
    again = run(folder, *flags)
    assert again.returncode == 3 and "another process trains in" in again.stderr
    subprocess.run(["tmux", "send-keys", "-t", "flowrl_host_in_tmux", "C-c"], **tmux)
    wait_until(lambda: HostRunPaths(folder).checkpoints())  # Ctrl-C in its pane saves what was learned
    assert not list(folder.glob("run.sh"))


def wait_until(holds, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)
