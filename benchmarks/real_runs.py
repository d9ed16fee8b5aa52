"""Runs prepared as the scheduler prepares them, each with new code. Does not import JAX itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flowrl.parallel.library.experts import ExpertVersion, save_expert_to_skills
from flowrl.parallel.slots import plan_slots
from flowrl.parallel.training_setup import prepare_training_run, write_launch
from flowrl.paths import RunPaths

CODE_DONE = "def task_is_done(inventory):\n    return inventory.wood >= 99\n"


def code(salt: int) -> dict[str, str]:
    """A skill with new code."""
    pays = f"inventory_diff.wood * {1 + salt / 1e6} + health_penalty"
    reward = f"def task_reward(inventory_diff, health_penalty):\n    return {pays}\n"
    return {"task_is_done": CODE_DONE, "task_reward": reward}


def prepare(folder: Path, salt: int, num_tasks: int, settings: dict[str, Any]) -> RunPaths:
    """A run of a plan with ``num_tasks`` tasks, each with new code; all but the last are in the library already."""
    names = [f"Skill_{salt}_{number}" for number in range(num_tasks)]
    codes = [code(1000 * salt + number) for number in range(num_tasks)]
    folder.mkdir(parents=True)
    completed = put_in_library(folder, settings["env_name"], settings["layer_size"], names[:-1], codes)
    run, *_ = prepare_training_run(names[-1], codes[-1], num_tasks - 1, names[:-1], completed, folder, settings)
    write_launch(run, 1, plan_slots(1)[0])
    return RunPaths(run)


def put_in_library(
    folder: Path, env_name: str, layer_size: int, names: list[str], codes: list[dict]
) -> dict[str, dict[str, Any]]:
    """Puts fresh experts under these names into the library; returns what `prepare_training_run` needs to know about
    them."""
    if not names:
        return {}
    import jax
    import numpy as np

    from flowrl.envs.registry import make_adapter
    from flowrl.training.learning.networks import ExpertNetwork

    adapter = make_adapter(env_name)
    network = ExpertNetwork(adapter.layout, adapter.num_actions, layer_size)
    for index, name in enumerate(names):
        params = jax.tree.map(np.asarray, network.init(jax.random.key(index)))
        save_expert_to_skills(ExpertVersion(name, index, params, 0, 0), folder)
    return {name: {"expert_idx": index, **codes[index]} for index, name in enumerate(names)}
