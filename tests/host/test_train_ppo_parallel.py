"""``train_ppo_parallel`` and ``train_parallel_timed`` as a user starts, kills and continues them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flowrl.files import read_json
from flowrl.host import command_line, train_parallel_timed, train_ppo_parallel
from flowrl.host.learning.actors import timed
from flowrl.host.learning.actors.settings import ActorLearnerSettings
from flowrl.own_folder import own_folder
from flowrl.paths import HostRunPaths
from tests.host.test_ends import expect_all_gone, new_names
from tests.host.test_ends import shared_before as shared_before
from tests.kept_programs import kept_programs  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--num-envs-per-worker", "2", "--num-steps", "8", "--layer-size", "8", "--eval-episodes", "1", "--eval-every", "0"]
SLOW = ["--env", "tests.host.games:Slow", "--num-workers", "2", *SMALL]


def command(folder: Path, *flags: str, module: str = "train_ppo_parallel") -> list[str]:
    return [sys.executable, "-m", f"flowrl.host.{module}", "--output-dir", str(folder), *flags]


def run(folder: Path, *flags: str, **how) -> subprocess.CompletedProcess:
    return subprocess.run(command(folder, *flags, **how), cwd=ROOT, capture_output=True, text=True, check=False)


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in HostRunPaths(folder).metrics.read_text().splitlines()]


def started(folder: Path, *flags: str) -> subprocess.Popen:
    return subprocess.Popen(
        command(folder, *SLOW, "--num-episodes", "1e6", *flags),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_until(process: subprocess.Popen, word: str) -> str:
    while word not in (line := process.stdout.readline()):
        assert line, process.stderr.read()
    return line


def test_a_killed_learner_takes_its_actors_along_and_the_same_command_goes_on(tmp_path, shared_before):
    process = started(tmp_path, "--checkpoint-s", "0")
    try:
        line = read_until(process, "frames/s")
        assert re.fullmatch(
            r"  frames/s: [\d,]+  \|  policy lag: mean \d+\.\d, largest \d+  \|  waiting: learner \d+%, actors \d+%  \|  "
            r"slots full: \d+\.\d of 4\n",
            line,
        )
        read_until(process, "frames/s")
        actors = [child.pid for child in psutil.Process(process.pid).children()]
        assert len(actors) == 2 and not new_names(shared_before)
        process.kill()
        expect_all_gone(actors, shared_before, within_s=5.0)
        process.communicate()
    finally:
        process.kill()
    saved = int(HostRunPaths(tmp_path).checkpoints()[-1].stem.split("_")[1])
    episodes = saved // 8
    more = run(tmp_path, *SLOW, "--num-episodes", str(episodes + 4))
    assert (more.returncode, more.stderr) == (0, "")
    assert f"Continuing after {episodes} episodes, {saved:,} frames" in more.stdout
    updates = [line["update"] for line in metrics(tmp_path) if "n_envs" in line]
    assert updates == list(range(1, len(updates) + 1)) and updates[-1] > saved // 32
    assert read_json(HostRunPaths(tmp_path).result)["frames"] == updates[-1] * 32


def test_ctrl_c_saves_what_was_learned_and_leaves_nothing_else(tmp_path, shared_before):
    process = started(tmp_path, "--checkpoint-s", "1000")
    try:
        read_until(process, "frames/s")
        killed, other = (child.pid for child in psutil.Process(process.pid).children())
        os.kill(killed, signal.SIGKILL)
        assert f"(process {killed}) was killed by SIGKILL" in read_until(process, "a new one replaces it")
        read_until(process, "frames/s")
        actors = [child.pid for child in psutil.Process(process.pid).children()]
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the learner and its actors
        shown, error = process.communicate(timeout=60)
        expect_all_gone([other, *actors], shared_before)
    finally:
        process.kill()
    assert (process.returncode, error) == (130, "") and "the same command continues" in shown
    assert len(HostRunPaths(tmp_path).checkpoints()) == 1


def test_a_folder_in_use_is_named_with_its_flag_before_a_session_is_started(tmp_path, capsys):
    with own_folder(tmp_path, HostRunPaths(tmp_path).lock, "--output_dir"):
        assert train_ppo_parallel.main(["--output-dir", str(tmp_path), "--tmux"]) == 3
    out, err = capsys.readouterr()
    assert out == "" and f"another process trains in {tmp_path}" in err and "or give another --output_dir\n" in err


def test_timed_training_ends_with_the_documents_table(tmp_path):
    flags = ["--duration", "0.0001", "--num-workers", "2", "--num-envs-per-worker", "4", "--sequential-s", "0.1"]
    flags += ["--layer-size", "8", "--num-steps", "8", "--eval-episodes", "1"]
    done = run(tmp_path, *flags, module="train_parallel_timed")
    assert (done.returncode, done.stderr) == (0, "")
    assert "🚀 Using 2 workers with 4 environments each, and a learner\n   Asynchronous: nobody waits" in done.stdout
    header, _, sequential, parallel, _, explained, advice = done.stdout.splitlines()[-7:]
    assert re.fullmatch(r"\| Mode +\| FPS +\| Iteration Time \| Status +\|", header)
    assert re.fullmatch(r"\| Sequential \(8 envs\) +\| [\d,]+ +\| [\d.e-]+ s +\| 1.00 x +\|", sequential)
    assert re.fullmatch(r"\| Parallel \(2 workers × 4 envs\) +\| [\d,]+ +\| [\d.e-]+ s +\| [\d.]+ x +\|", parallel)
    assert explained.startswith("An iteration is 1,024 frames")
    assert advice.startswith(("Use parallel training here", "Use sequential training here"))


@pytest.mark.parametrize(
    ("parallel", "says"),
    [
        (2000.0, "Use parallel training here: 2.00 x as many frames per second"),
        (1050.0, "parallel is no faster"),
        (500.0, "parallel is slower"),
    ],
)
def test_the_faster_one_is_recommended(parallel, says):
    settings = ActorLearnerSettings(num_workers=2, num_envs_per_worker=4)
    shown = timed.table(settings, timed.Sequential(1000.0, gradient_steps=160), parallel)
    assert says in shown and "| 1,000 | 1.02 s " in shown


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--num-workers", "0"], "--num_workers must be at least 1, found 0"),
        (["--num-envs-per-worker", "0"], "--num_envs_per_worker must be at least 1, found 0"),
        (["--env", "CartPol-v1"], "did you mean CartPole-v1"),
        (["--algorithm", "impal"], "did you mean impala"),
        (["--num-worker", "2"], "unknown flag '--num-worker'"),
        (["--config", "nowhere.yaml"], "one of flowrl's own: config/ppo_parallel.yaml"),
        (["--config"], "--config"),
    ],
)
@pytest.mark.parametrize("main", [train_ppo_parallel.main, train_parallel_timed.main], ids=["train_ppo_parallel", "timed"])
def test_bad_input_is_one_line(capsys, main, flags, says):
    assert main(flags) == 2
    out, err = capsys.readouterr()
    assert out == "" and says in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("num_wrkers: 2", "unknown key 'num_wrkers': did you mean num_workers"),
        ("num_workers: many", "--num_workers: expected a whole number"),
        ("num_workers: [2]", "num_workers must be one value, found list"),
        ("num_workers: 0", "--num_workers must be at least 1"),
        ("- 2", "must have a line 'flag: value' for each flag, found list"),
        ("a: [", "is not YAML"),
    ],
)
def test_what_is_wrong_in_a_config_file_is_one_line(tmp_path, capsys, text, says):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert train_ppo_parallel.main(["--config", str(path)]) == 2
    err = capsys.readouterr().err
    assert says in err and "mine.yaml" in err and err.count("\n") == 1


def settings(*flags: str) -> ActorLearnerSettings:
    return command_line.with_config(ActorLearnerSettings, list(flags), train_ppo_parallel.MODULE)


def test_a_config_file_is_read_and_flags_override_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = settings("--config", "config/ppo_parallel.yaml")
    assert (shipped.num_workers, shipped.num_envs_per_worker, shipped.most_episodes) == (4, 8, 3000)
    (tmp_path / "config").mkdir()
    mine = tmp_path / "config/ppo_parallel.yaml"  # a path wins over a name
    mine.write_text("num-workers: 3\nlearning_rate: 2e-4\nsynchronous: true\nanneal_lr: false\nstop_at:\nduration: 0.5\n")
    for named in (["--config", "config/ppo_parallel.yaml"], [f"--config={mine}"]):
        found = settings(*named, "--seed", "4", "--num-workers", "2", "--trajectories-per-update", "2")
        assert (found.num_workers, found.learning_rate, found.synchronous, found.anneal_lr) == (2, 2e-4, True, False)
        assert (found.seed, found.stop_at, found.most_episodes) == (4, None, None)


def test_more_workers_than_cores_are_warned_about(monkeypatch):
    monkeypatch.setattr("flowrl.host.learning.actors.settings.usable_cores", lambda: [0])
    assert "2 workers will share 1 core" in ActorLearnerSettings(num_workers=2).warning
    assert ActorLearnerSettings(num_workers=1).warning is None
