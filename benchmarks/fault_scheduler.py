"""``python benchmarks/fault_scheduler.py FOLDER [slurm]``: the real scheduler on the skills of the fault campaign.

The same command resumes where an earlier one was killed. Before a run is merged, the content of its checkpoint is
recorded in ``ledger.jsonl``: the library is compared with that later, when the run's folder is gone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

from flowrl import pickles
from flowrl.bottomup_parallel import hangups_as_interrupts
from flowrl.errors import INTERRUPTED
from flowrl.files import read_json, write_json
from flowrl.parallel import backoff, watched_run
from flowrl.parallel.launchers import slurm
from flowrl.parallel.launchers.slurm import SlurmLauncher
from flowrl.parallel.scheduler import SkillScheduler
from flowrl.parallel.training_processor import process_completed_training
from flowrl.paths import RunPaths

UPDATES = 160
SETTINGS = {
    "env_name": "Gold", "total_timesteps": UPDATES * 16 * 8, "success_rate": 1.0, "num_envs": 16, "num_steps": 8,
    "layer_size": 16, "lr": 0.01, "gamma": 0.9, "update_epochs": 1, "num_minibatches": 2, "max_task_steps": 5,
}  # fmt: skip
SKILLS = {"Find_Gold": [], "Find_More": ["Find_Gold"], "Find_Much": ["Find_Gold"]}
"""The last two train the first one's expert side by side: at the merge the one that trained it longer wins, or the first."""

TRAINER = (sys.executable, str(Path(__file__).with_name("fault_trainer.py")))
MANY_RETRIES = 1000
"""Enough retries that no skill fails, whatever the killer does."""


def skill(name: str, dependencies: list[str]) -> dict:
    """A skill of the tiny game: ``wanted`` units of gold, on top of what the plan has found before."""
    wanted = len(dependencies) + 1
    return {
        "skill_name": name, "description": "", "requires": {}, "consumes": {}, "gains": {"gold": {"per": 1, "fixed": 0}},
        "task_is_done": f"def task_is_done(inventory, n):\n    return inventory.gold >= {3 * wanted} * n",
        "task_reward": "def task_reward(inventory_diff):\n    return 1.0 * inventory_diff.gold",
        "execution_plan": [{"skill_name": step, "n": 1} for step in (*dependencies, name)],
    }  # fmt: skip


def digest(tree: object) -> str:
    """One for each set of parameters: names, shapes and bits."""
    if isinstance(tree, dict):
        return hashlib.sha256("".join(f"{name}:{digest(tree[name])};" for name in sorted(tree)).encode()).hexdigest()
    return hashlib.sha256(f"{tree.shape}{tree.dtype}".encode() + tree.tobytes()).hexdigest()


def merge_and_tell(run_folder: Path, skill_name: str, **kwargs) -> dict:
    """Merges, after a line in the ledger about what will be merged."""
    run = RunPaths(Path(run_folder))
    if run.run_json.exists():
        result, order = read_json(run.result), read_json(run.run_json)
        checkpoint = pickles.load(run.folder / result["checkpoint"])
        versions = {
            str(expert["global_expert_idx"]): {
                "start": expert["total_frames"],
                "digest": digest(checkpoint["experts"][str(expert["local_expert_idx"])]["params"]),
            }
            for expert in order["experts"]
        }
        line = {
            "skill": skill_name, "attempt": result["attempt"], "frames": result["frames"], "versions": versions,
            "acted_frames": result["acted_frames"], "checkpoint_frames": checkpoint["metadata"]["frames"],
        }  # fmt: skip
        with open(kwargs["base_dir"] / "ledger.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
    return process_completed_training(run_folder=run_folder, skill_name=skill_name, **kwargs)


def main(folder: Path, launcher: str = "tmux") -> int:
    backoff.FIRST_BACKOFF_S, backoff.MAX_BACKOFF_S, watched_run.STOP_GRACE_S, watched_run.ORPHAN_GRACE_S = 0.05, 0.5, 2.0, 2.0
    slurm.ASK_EVERY_S = SlurmLauncher.poll_every_s = 0.5
    slurm.FRESH_S, slurm.FILES_GRACE_S = 0.2, 2.0
    flags = SimpleNamespace(
        max_parallel_skills=2,
        scheduler_poll_interval=0.5,
        max_retries=MANY_RETRIES,
        stall_timeout=2.0,
        keep_failed_session_s=0,
        launcher=launcher,
    )
    scheduler = SkillScheduler(flags, base_dir=folder, command=TRAINER)
    scheduler.set_callbacks(process_completed_training=merge_and_tell)
    if not scheduler.paths.config.exists():
        write_json(scheduler.paths.config, SETTINGS)
    with hangups_as_interrupts():
        scheduler.open()
        known = scheduler.known_skills()
        for name, dependencies in SKILLS.items():
            if name not in known:
                scheduler.add_skill(name, skill(name, dependencies), dependencies)
        scheduler.close()
        scheduler.run()
    return 0 if {entry["status"] for entry in scheduler.state["skills"]} == {"completed"} else 1


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("launcher", nargs="?", choices=("tmux", "slurm"), default="tmux")
    return parser.parse_args()


if __name__ == "__main__":
    given = parsed()
    try:
        sys.exit(main(given.folder.resolve(), given.launcher))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
