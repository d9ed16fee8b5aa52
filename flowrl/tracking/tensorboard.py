"""Event files for TensorBoard. The only module that imports tensorboardX, and only when it is asked for.

Writing them never stops a run: if that fails, it goes on without them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flowrl.errors import BadInput
from flowrl.tracking.trackers import Tracker

FLUSH_S = 10
"""Seconds after which what was logged is in the file."""


def check_tensorboard() -> None:
    """
    Raises:
        BadInput: tensorboardX is missing.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise BadInput("--tensorboard needs tensorboardX, which writes event files: pip install -e '.[tensorboard]'")


def tensorboard_tracker(folder: Path, say: Callable[[str], None] = lambda line: None) -> Tracker:
    """One line of curves: a later attempt adds another event file, and TensorBoard shows them as one.

    Args:
        folder: where event files go; its name is the curve's.
        say: called with one line if writing fails.

    Raises:
        BadInput: tensorboardX is missing.
    """
    check_tensorboard()
    return _TensorboardTracker(folder, say)


class _TensorboardTracker:
    def __init__(self, folder: Path, say: Callable[[str], None]):
        self._folder, self._say = folder, say
        self._writer: Any = None
        self._has_failed = False

    def log(self, frames: int, values: Mapping[str, float | None]) -> None:
        known = {name: value for name, value in values.items() if value is not None}
        self._attempt(lambda: self._add(known, frames))

    def finish(self, summary: Mapping[str, Any], failed: bool) -> None:
        def last_words() -> None:
            numbers = {f"result/{name}": value for name, value in summary.items() if isinstance(value, (int, float))}
            self._add(numbers | {"result/failed": failed}, int(summary.get("frames") or 0))
            self._writer.close()

        self._attempt(last_words)

    def _add(self, values: Mapping[str, Any], frames: int) -> None:
        if self._writer is None:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), flush_secs=FLUSH_S)
        for name, value in values.items():
            self._writer.add_scalar(name, float(value), frames)

    def _attempt(self, report: Callable[[], None]) -> None:
        if self._has_failed:
            return
        try:
            report()
        except Exception as error:  # its thread writes: a full disk may show at any call
            self._has_failed = True
            self._say(
                f"TensorBoard's event files cannot be written ({type(error).__name__}: {error}); the run continues without "
                "them, metrics.jsonl has everything"
            )
