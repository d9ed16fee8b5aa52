"""``metrics.jsonl`` of a training: a line for each round."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from typing import Any

from flowrl.files import append_line, write_whole
from flowrl.fire.training.checkpoints import Progress
from flowrl.paths import FuelBreakPaths


class Metrics:
    """Appends lines; what came after the checkpoint that a training goes on from is removed first, as it is trained again."""

    def __init__(self, paths: FuelBreakPaths, rounds: int):
        self._path = paths.metrics
        with contextlib.suppress(FileNotFoundError):
            lines = self._path.read_text().splitlines()
            kept = [line for line in lines if _round_of(line) <= rounds]
            if len(kept) < len(lines):
                write_whole(self._path, "".join(f"{line}\n" for line in kept))

    def add(self, progress: Progress, values: Mapping[str, Any]) -> None:
        """One line."""
        line = {**values, "round": progress.rounds, "updates": progress.updates, "seconds": progress.seconds}
        append_line(self._path, json.dumps(line))


def _round_of(line: str) -> float:
    try:
        return json.loads(line)["round"]
    except (ValueError, KeyError, TypeError):
        return math.inf  # torn by a crash
