"""The most frames that one skill may train (``--skill_budget_frames``), over all its runs.

A skill has a first run, and another one each time that it is trained further. A run keeps its frames over retries: each
attempt goes on from a checkpoint. So what a run may train is the budget without the frames of the runs before it, and that
is its ``total_timesteps``, however often it is retried. Frames that were lost with a killed process, and trained again,
count once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowrl.errors import BadInput
from flowrl.parallel.library.archive import EARLIER
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.records import result as run_result
from flowrl.records.result import NO_PROGRESS
from flowrl.records.scheduler_state import SkillEntry
from flowrl.records.training_settings import TrainingSettings


@dataclass(frozen=True)
class SkillBudget:
    """The budget of each skill of an experiment."""

    most_frames: int | None = None
    """None: no limit."""
    frames_of_a_run: int = TrainingSettings.total_timesteps
    """What a first run may train, apart from the budget, unless its skill has its own figure."""
    frames_per_update: int = 1

    def settings(self, paths: ExperimentPaths, entry: SkillEntry) -> dict[str, Any]:
        """What the settings of the skill's next run are, apart from those of the experiment.

        Raises:
            BadInput: the skill has used its budget.
        """
        extra = entry.extra_timesteps
        further = {} if extra is None else {"total_timesteps": extra, "stop_at_goal": entry.to_goal}
        if self.most_frames is None:
            return further
        trained = trained_frames(paths.skill_folder(entry.expert_idx, entry.skill_name))
        tried = given_up_frames(RunPaths(paths.run_folder(entry.expert_idx, entry.skill_name)))
        self._check(entry.skill_name, trained + tried)
        left = self.most_frames - trained
        own = (entry.skill_data or {}).get("settings", {}).get("total_timesteps", self.frames_of_a_run)
        return further if left >= (extra or own) else further | {"total_timesteps": left}

    def extra_frames(self, paths: ExperimentPaths, entry: SkillEntry, frames: int) -> int:
        """How many frames a completed skill may be trained further, of those that are asked for.

        Raises:
            BadInput: the skill has used its budget.
        """
        if self.most_frames is None:
            return frames
        trained = trained_frames(paths.skill_folder(entry.expert_idx, entry.skill_name))
        self._check(entry.skill_name, trained)
        return min(frames, self.most_frames - trained)

    def _check(self, name: str, trained: int) -> None:
        if trained + self.frames_per_update > self.most_frames:
            raise BadInput(
                f"{name} has trained {trained:,} frames, and --skill_budget_frames {self.most_frames:,} leaves less than an "
                f"update ({self.frames_per_update:,} frames); raise it to train {name} again"
            )


NO_LIMIT = SkillBudget()


def trained_frames(skill_folder: Path) -> int:
    """The frames of all runs of a skill that were merged, from the records that stay with it; 0 before the first."""
    return sum(run_result.frames_in(path) for path in _results(skill_folder))


def given_up_frames(run: RunPaths) -> int:
    """The frames of a run that was given up for lack of progress; 0 for any other, which may still have to be measured."""
    result = run_result.find(run.result)
    return (result.frames or 0) if result and result.reason == NO_PROGRESS else 0


def _results(skill_folder: Path) -> Iterator[Path]:
    yield skill_folder / run_result.NAME
    yield from (skill_folder / EARLIER).glob(f"*/{run_result.NAME}")
