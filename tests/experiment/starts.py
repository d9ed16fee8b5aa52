"""Starts of the front door in processes of their own, in one folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from flowrl.paths import CACHE, ExperimentPaths, cache_folder

CLASSIC = ("--env_name", "Craftax-Classic-Symbolic-v1", "--max_parallel_skills", "2")
SIZE = {"num_envs": 128, "num_steps": 4, "layer_size": 16, "update_epochs": 1, "num_minibatches": 2}
"""Of real trainings in all tests: the game and its networks are compiled once."""
TINY = tuple(word for name, value in {**SIZE, "max_task_steps": 5}.items() for word in (f"--{name}", str(value)))
CHECKOUT = Path(__file__).parents[2]


class Practice:
    """Starts of the front door in one folder."""

    def __init__(self, folder: Path, graph_path: str = "exp/test/"):
        self.folder = folder
        self.graph_path = graph_path
        self.paths = ExperimentPaths(folder / graph_path)
        self.started: list[subprocess.Popen] = []

    def start(self, *flags: str, wishes=None, module="tests.experiment.practice", **environ: str) -> subprocess.Popen:
        command = [sys.executable, "-m", module, "--graph-path", self.graph_path, *flags]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "WANDB_"))} | {
            "PYTHONPATH": str(CHECKOUT),
            "MARK_WISHES": json.dumps(wishes or {}),
            "HOME": str(self.folder),
            CACHE: str(cache_folder()),  # compiled programs are the user's own
            **environ,
        }
        process = subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.started.append(process)
        return process

    def run(self, *flags: str, **how) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        process = self.start(*flags, **how)
        output, error = process.communicate(timeout=240)
        return process.returncode, output, error

    def state(self) -> dict:
        return json.loads(self.paths.state.read_text()) if self.paths.state.exists() else {"skills": []}

    def skills(self) -> dict[str, dict]:
        return {skill["skill_name"]: skill for skill in self.state()["skills"]}

    def statuses(self) -> dict[str, str]:
        return {name: skill["status"] for name, skill in self.skills().items()}

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


def in_training(practice: Practice, *names: str) -> bool:
    """Whether these are running, and this many have recorded their pid: none is killed while it does."""
    if len(list(practice.paths.training_runs.glob("*/run.pid"))) < len(names):
        return False
    skills = practice.skills()
    return all(name in skills and skills[name]["status"] == "running" and skills[name]["tmux_session"] for name in names)
