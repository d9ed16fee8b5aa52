"""The live part of the pane: a plan with its rates, drawn from the latest report."""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flowrl.training.run.progress import UpdateReport, duration, rate_text, share

RATE_BAR_WIDTH = 20
ROWS_BESIDE_TASKS = 9
"""Rows of the pane that are not tasks: five of the plan as a whole, the rest for lines above."""


class View:
    """The newest of everything that is shown, as something rich can draw."""

    def __init__(self, title: str, task_names: tuple[str, ...], goal: float | None, start_frames: int, total_frames: int):
        self.title = title
        self.task_names = task_names
        self.goal = goal
        self.start_frames = start_frames
        self.total_frames = total_frames
        self.report: UpdateReport | None = None
        self.set_phase("starting")

    def set_phase(self, text: str) -> None:
        # A change of the count inside the text does not restart the phase's clock.
        words = text.rstrip("0123456789/, ")
        if words != getattr(self, "_phase_words", None):
            self._phase_words, self._phase_start_s = words, time.monotonic()
        self._phase = text

    def draw(self, num_rows: int) -> RenderableType:
        """The live part, no higher than ``num_rows`` with the lines above it."""
        report = self.report
        speed = f"{report.frames_per_s:,.0f} frames/s" if report else ""
        if report and report.seconds_left is not None:
            speed += f", at most {duration(report.seconds_left)} left"
        head = _row(Text(self.title, "bold"), self._phase_line())
        parts = [head, self._frames_bar(), _row(Text(speed), self._losses())]
        return Group(*parts) if self.goal is None else Group(*parts, self._rates(max(num_rows - ROWS_BESIDE_TASKS, 1)))

    def _phase_line(self) -> Text:
        return Text(f"{self._phase} · {duration(time.monotonic() - self._phase_start_s)}", "cyan")

    def _losses(self) -> Text:
        report = self.report
        return Text(f"reward {report.reward:.3f}  entropy {report.entropy:.2f}" if report else "", "dim")

    def _frames_bar(self) -> RenderableType:
        frames = self.report.frames if self.report else self.start_frames
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        amount = f"{frames:,} / {self.total_frames:,} frames ({share(frames, self.total_frames)})"
        grid.add_row(ProgressBar(total=max(self.total_frames, 1), completed=frames), amount)
        return grid

    def _rates(self, num_tasks: int) -> RenderableType:
        report = self.report
        on_trial = report.candidate_rates if report else ()
        num_tasks = max(num_tasks - len(on_trial), 1)
        known = len(self.task_names) if report is None else len(report.task_rates)
        rates = (None,) * known if report is None else report.task_rates
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
        for _ in range(3):
            grid.add_column(no_wrap=True)
        aside = f"goal {self.goal:.2f}" + (f", recent {report.estimate:.2f}" if report else "")
        grid.add_row(Text("plan", "bold"), *_rate_cells(report.success_rate if report else None, self.goal), aside)
        hidden = max(known - num_tasks, 0)
        if hidden:
            lowest = min((rate for rate in rates[:hidden] if rate is not None), default=None)
            grid.add_row(Text(f"{hidden} earlier tasks, the lowest", "dim"), *_rate_cells(lowest, self.goal), "")
        for name, rate in list(zip(self.task_names, rates))[hidden:]:
            grid.add_row(Text(name), *_rate_cells(rate, self.goal), "")
        for number, rate in enumerate(on_trial, 1):
            grid.add_row(Text(f"reward {number} on trial", "cyan"), *_rate_cells(rate, self.goal), "recent")
        return grid


def _row(left: Text, right: Text) -> RenderableType:
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(left, right)
    return grid


def _rate_cells(rate: float | None, goal: float) -> tuple[RenderableType, RenderableType]:
    reached = rate is not None and rate >= goal
    style = "green" if reached else "yellow"
    bar = ProgressBar(total=1.0, completed=rate or 0.0, width=RATE_BAR_WIDTH, complete_style=style, finished_style=style)
    return Text(f"{rate_text(rate):>4}", style), bar
