"""Skills and libraries that never needed training."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from flowrl import pickles
from flowrl.paths import ExperimentPaths
from flowrl.skills.module import TaskSource, render_module

FAKE_TRAINING = (sys.executable, str(Path(__file__).with_name("training.py")))
PATIENCE_S = 120.0  # far beyond what anything takes; a test that waits this long has failed


def skill(name: str, resource: str = "wood", **fake) -> dict:
    """The data of a skill; ``fake`` tells the fake training what to do."""
    return {
        "skill_name": name,
        "description": f"Get {resource}.",
        "requires": {}, "consumes": {}, "gains": {resource: {"per": 1, "fixed": 0}},
        "task_is_done": f"def task_is_done(inventory, n):\n    return inventory.{resource} >= n",
        "task_reward": f"def task_reward(inventory_diff):\n    return 1.0 * inventory_diff.{resource}",
        "fake": fake,
    }  # fmt: skip


def put_in_library(base_dir: Path, index: int, name: str, total_frames: int, acted_frames: int = 0, weight=None) -> Path:
    """A completed skill, as a merge leaves it. Its weights are its frames unless told otherwise."""
    paths = ExperimentPaths(Path(base_dir))
    tree = {"w": np.full(3, total_frames if weight is None else weight, np.float32)}
    metadata = {"skill_name": name, "global_expert_idx": index, "total_frames": total_frames, "acted_frames": acted_frames}
    pickles.dump(paths.expert_params(index, name), {"params": {"actor": tree, "critic": tree}, "metadata": metadata})
    data = skill(name)
    task = TaskSource(name, 1, 0, data["task_is_done"], data["task_reward"])
    paths.skill_module(index, name).write_text(render_module(name, index, {index: 0}, [task]))
    return paths.skill_folder(index, name)
