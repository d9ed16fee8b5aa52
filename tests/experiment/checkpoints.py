"""A sequential run's checkpoint, of the documented form."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowrl.experiment.sequential_checkpoint import expert_shapes
from tests.experiment.fakes import PICKAXE, STONE, WOOD

OBSERVATION, ACTIONS, WIDTH = 1345, 17, 8
SKILLS = (WOOD, STONE, PICKAXE)


def sequential_checkpoint() -> dict[str, Any]:
    """Three skills of Craftax-Classic; the experts' indices are sparse."""
    return {
        "expert_params": {f"expert_{index}": expert(index) for index in (0, 5, 7)},
        "skills": {
            skill.name: {**skill.to_data(), "expert_idx": index, "total_frames": 1000 * (index + 1)}
            for skill, index in zip(SKILLS, (0, 5, 7), strict=True)
        },
    }


def expert(seed: int, width: int = WIDTH, observation: int = OBSERVATION, actions: int = ACTIONS) -> dict[str, Any]:
    """The parameters of one expert, drawn at random."""
    rng = np.random.default_rng(seed)
    tree: dict[str, Any] = {}
    for path, shape in expert_shapes(observation, width, actions).items():
        *folders, name = path.split("/")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[name] = rng.normal(size=shape).astype(np.float32)
    return tree
