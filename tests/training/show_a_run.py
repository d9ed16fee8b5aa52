"""Shows a run that is not there: ``python -m tests.training.show_a_run LOG NUM_TASKS GO_ON``.

It reports its first updates, goes on with more until the file ``GO_ON`` is there, and ends with a last line.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from flowrl.records.tried import Tried
from flowrl.training.run.pane import Pane
from flowrl.training.run.progress import UpdateReport
from flowrl.training.run.resources import MemoryUse, TimeShares
from flowrl.training.run.view import PlanView


def report(update: int, num_tasks: int) -> UpdateReport:
    rates = (*tuple(round(0.99 - number / 100, 2) for number in range(num_tasks - 1)), None)
    tried = Tried({"move": 0.62, "use": 0.3, "make": 0.08}, {"move": 1.2, "make": 0.4}, "DO", 0.3)
    losses = (0.0123, 2.34, -0.01, 0.25, 0.004)
    used = TimeShares(0.6, 0.25, 0.35, 0.05), MemoryUse(1_234_000_000, None, None)
    return UpdateReport(update, update * 8192, 3_000_000, 4321.0, 678.0, 0.61, 0.58, rates, *losses, (), tried, *used)


def main(log: Path, num_tasks: int, go_on: Path) -> None:
    names = [f"Collect_Wood_{number} x{number + 1}" for number in range(num_tasks)]
    with Pane(PlanView("Make_Iron_Pickaxe (expert 12)", names, 0.8, 3_000_000), log) as pane:
        pane.line("started")
        pane.phase("training")
        update = 0
        while update < 5 or not go_on.exists():
            update += 1
            pane.update(report(update, num_tasks))
            time.sleep(0.02)
        pane.line("goal reached")
    print("printed after the pane")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
