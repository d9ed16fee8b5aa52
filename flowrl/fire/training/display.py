"""What a user sees of a training: a progress bar, and lines above it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowrl.fire.training.checkpoints import Progress
from flowrl.fire.training.settings import FuelBreakSettings
from flowrl.lines_and_bar import LinesAndBar

_FIRST_LINES = 3
_EVERY = 10
"""Rounds between lines, once some were shown."""


class TrainingDisplay(LinesAndBar):
    """Standard output; a context manager. Without a terminal there is no bar."""

    def __init__(self, settings: FuelBreakSettings):
        super().__init__("starting", None, "")
        self._settings, self._stage = settings, ""

    def stage(self, name: str, total: int, completed: int = 0) -> None:
        """What the training does now, and how much of it there is."""
        if name != self._stage:
            self.show(description=name, total=total, completed=completed, unit=f"/{total}", speed="")
            self._stage = name

    def progress(self, completed: int) -> None:
        """How much of the stage is done."""
        self.show(completed=completed)

    def round_ended(self, progress: Progress, values: Mapping[str, Any]) -> None:
        """Shows a round: the first ones, those with news, and every tenth."""
        speed = f"{values['experiences_per_second']:,.0f} experiences/s"
        self.show(completed=progress.rounds, speed=speed)
        news = "burned" in values or values.get("improved_areas")
        if progress.rounds <= _FIRST_LINES or news or progress.rounds % _EVERY == 0:
            self.say(_line(progress, self._settings.num_episodes, values))


def _line(progress: Progress, num_rounds: int, values: Mapping[str, Any]) -> str:
    parts = [f"round {progress.rounds}/{num_rounds}", f"{progress.seconds / 60:.1f} min", f"{progress.updates} updates"]
    if (share := values.get("mean_burned_share")) is not None:
        parts.append(f"episodes burn {share:.4f}")
    if (loss := values.get("mean_td_loss")) is not None:
        parts.append(f"loss {loss:.4f}")
    if "burned" in values:
        parts.append(f"agent's breaks: planning fires burn {values['burned']:.4f}")
    if count := values.get("improved_areas"):
        parts.append(f"better breaks found in {count} {'area' if count == 1 else 'areas'}")
    return "   ".join([*parts, f"{values['experiences_per_second']:,.0f} experiences/s"])
