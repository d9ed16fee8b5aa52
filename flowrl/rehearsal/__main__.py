"""``python -m flowrl.rehearsal RUN_FOLDER``: one prepared rehearsal, and how it ended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flowrl.records.result import RunResult
from flowrl.training.host import process
from flowrl.training.run import attempt
from flowrl.training.run.attempt import Work

if TYPE_CHECKING:
    from flowrl.rehearsal.specification import RehearsalSpecification
    from flowrl.tracking.trackers import Tracker


def read(folder: Path) -> RehearsalSpecification:
    """The rehearsal, from its folder."""
    from flowrl.rehearsal import specification

    return specification.read(folder)


def train(run: RehearsalSpecification, tracker: Tracker, lifetime: process.Lifetime) -> RunResult:
    """Rehearses to the end of the budget, in the pane's sight."""
    from flowrl.rehearsal import loop
    from flowrl.rehearsal.view import RehearsalView
    from flowrl.training.run.supervision import watched

    view = RehearsalView(run.skill_name, [skill.name for skill in run.library.skills], run.settings.total_timesteps)
    with watched(run, view, tracker, lifetime) as supervision:
        return loop.rehearse(run, supervision)


REHEARSAL = Work("python -m flowrl.rehearsal", read, train)


def main(arguments: list[str]) -> int:
    """Returns the exit code; see `attempt.main`."""
    return attempt.main(arguments, REHEARSAL)


if __name__ == "__main__":
    attempt.run_process(sys.argv[1:], REHEARSAL)
