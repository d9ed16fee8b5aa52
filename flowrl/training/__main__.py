"""``python -m flowrl.training RUN_FOLDER``: trains the skill of one prepared run, and records how it ended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flowrl.records.result import RunResult
from flowrl.training.host import process
from flowrl.training.run import attempt
from flowrl.training.run.attempt import Work

if TYPE_CHECKING:
    from flowrl.tracking.trackers import Tracker
    from flowrl.training.run.specification import RunSpecification


def read(folder: Path) -> RunSpecification:
    """The run of a skill, from its folder."""
    from flowrl.training.run import specification

    return specification.read(folder)


def train(run: RunSpecification, tracker: Tracker, lifetime: process.Lifetime) -> RunResult:
    """Chooses the reward if there are several, and trains with it, in the pane's sight."""
    from flowrl.training.run import loop, reward_trial
    from flowrl.training.run.supervision import watched
    from flowrl.training.run.view import PlanView

    names = [f"{task.skill_name} x{task.n}" for task in run.plan]
    title, settings = f"{run.skill_name} (expert {run.global_expert_idx})", run.settings
    goal = None if run.never_done else settings.success_rate
    view = PlanView(title, names, goal, settings.total_timesteps)
    with watched(run, view, tracker, lifetime) as supervision:
        tried = reward_trial.decide(run, supervision)
        return tried.completed(loop.train(tried.run, supervision))


TRAINING = Work("python -m flowrl.training", read, train)


def main(arguments: list[str]) -> int:
    """Returns the exit code; see `attempt.main`."""
    return attempt.main(arguments, TRAINING)


if __name__ == "__main__":
    attempt.run_process(sys.argv[1:], TRAINING)
