"""``metrics.jsonl`` of a training: a line for each round."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flowrl.files import append_line, forget_later_lines
from flowrl.fire.training.checkpoints import Progress
from flowrl.paths import FuelBreakPaths

BEFORE_ALL = -1
"""A round before that of pretraining, which is 0."""


class Metrics:
    """Appends lines; what came after the checkpoint that a training goes on from is removed first, as it is trained again.

    Args:
        rounds: of that checkpoint; `BEFORE_ALL` if there is none.
    """

    def __init__(self, paths: FuelBreakPaths, rounds: int):
        self._path = paths.metrics
        forget_later_lines(self._path, "round", rounds)

    def add(self, progress: Progress, values: Mapping[str, Any]) -> None:
        """One line."""
        line = {**values, "round": progress.rounds, "updates": progress.updates, "seconds": progress.seconds}
        append_line(self._path, json.dumps(line))
