"""What a run came to: the fields of ``result.json`` that only training knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowrl.training.playing.evaluation import Evaluation
from flowrl.training.run.clock import Clock
from flowrl.training.run.specification import RunSpecification
from flowrl.training.run.state import LocalExpert, RunState


def result(
    run: RunSpecification,
    experts: Sequence[LocalExpert],
    state: RunState,
    found: Evaluation,
    by_chance: Evaluation,
    checkpoint: str,
    clock: Clock,
) -> dict[str, Any]:
    """
    Args:
        found: the tests of the experts as they are now.
        by_chance: those of the random policy.
        checkpoint: the one to merge.
    """
    rates = [
        {"skill_name": task.skill_name, "n": task.n, "success_rate": rate, "random_success_rate": chance}
        for task, rate, chance in zip(run.plan, found.task_rates, by_chance.task_rates)
    ]
    return {
        "goal_reached": found.success_rate >= run.settings.success_rate,
        "frames": state.frames,
        "acted_frames": {str(expert.global_idx): int(frames) for expert, frames in zip(experts, state.acted_frames)},
        "success_rate": found.success_rate,
        "random_success_rate": by_chance.success_rate,
        "frames_per_success": None if found.frames_per_success is None else round(found.frames_per_success, 1),
        "tasks": rates,
        "checkpoint": checkpoint,
        **clock.timings(),
    }
