"""What a user sees of a training: a progress bar, and lines above it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flowrl.fire.training.checkpoints import Progress as TrainingProgress
from flowrl.fire.training.settings import FuelBreakSettings

_WIDTH_WHEN_PIPED = 120
_FIRST_LINES = 3
_EVERY = 10
"""Rounds between lines, once some were shown."""


class TrainingDisplay:
    """Standard output; a context manager. Without a terminal there is no bar."""

    def __init__(self, settings: FuelBreakSettings):
        console = Console(highlight=False)
        self._console = console if console.is_terminal else Console(width=_WIDTH_WHEN_PIPED, highlight=False)
        self._settings = settings
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[beside]}"),
            TimeElapsedColumn(),
            console=self._console,
            refresh_per_second=2,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None, beside="")
        self._stage = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Prints text as it is. A terminal that is gone is no error."""
        with contextlib.suppress(OSError, ValueError):
            self._console.print(text, markup=False, soft_wrap=True)

    def stage(self, name: str, total: int, completed: int = 0) -> None:
        """What the training does now, and how much of it there is."""
        if name != self._stage:
            self._bar.update(self._task, description=name, total=total, completed=completed, beside="")
            self._stage = name

    def progress(self, completed: int) -> None:
        """How much of the stage is done."""
        self._bar.update(self._task, completed=completed)

    def round_ended(self, progress: TrainingProgress, values: Mapping[str, Any]) -> None:
        """Shows a round: the first ones, those with news, and every tenth."""
        speed = f"{values['experiences_per_second']:,.0f} experiences/s"
        self._bar.update(self._task, completed=progress.rounds, beside=speed)
        news = "burned" in values or values.get("improved_areas")
        if progress.rounds <= _FIRST_LINES or news or progress.rounds % _EVERY == 0:
            self.say(_line(progress, self._settings.num_episodes, values))


def _line(progress: TrainingProgress, num_rounds: int, values: Mapping[str, Any]) -> str:
    parts = [f"round {progress.rounds}/{num_rounds}", f"{progress.seconds / 60:.1f} min", f"{progress.updates} updates"]
    if (share := values.get("mean_burned_share")) is not None:
        parts.append(f"episodes burn {share:.4f}")
    if (loss := values.get("mean_td_loss")) is not None:
        parts.append(f"loss {loss:.4f}")
    if "burned" in values:
        parts.append(f"agent's breaks: planning fires burn {values['burned']:.4f}")
    if count := values.get("improved_areas"):
        parts.append(f"better breaks found in {count} areas")
    return "   ".join([*parts, f"{values['experiences_per_second']:,.0f} experiences/s"])
