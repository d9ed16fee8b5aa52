"""The live part of the pane: what the run does, its frames, and rates in bars, drawn from the latest report."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flowrl.training.run.curves import Curve
from flowrl.training.run.progress import Report, UpdateReport, duration, rate_text, share

RATE_BAR_WIDTH = 20
CURVE_WIDTH = 16
ROWS_BESIDE_TASKS = 13
"""Rows of the pane that are not tasks: nine of the run as a whole, the rest for lines above."""
CURVES = {"reward": "reward", "entropy": "entropy", "policy loss": "policy_loss", "value loss": "value_loss"}
"""What is drawn over the run: names, and the figure of a report."""


class View:
    """The newest of what every run shows, as something rich can draw; each kind of run adds its rates.

    Args:
        total_frames: the frame budget.
    """

    def __init__(self, title: str, total_frames: int):
        self.title = title
        self.total_frames = total_frames
        self.report: Report | None = None
        self._curves = {figure: Curve(CURVE_WIDTH) for figure in CURVES.values()}
        self.set_phase("starting")

    def add(self, report: Report) -> None:
        """The run's progress after one more update."""
        self.report = report
        for figure, curve in self._curves.items():
            curve.add(getattr(report, figure))

    def rates(self, num_rows: int) -> RenderableType:
        """What is drawn below the frames, in at most ``num_rows`` rows and a heading."""
        raise NotImplementedError

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
        memory = f"memory {report.memory.described()}" if report and report.memory else ""
        parts = [head, self._frames_bar(), _row(Text(speed), Text(memory, "dim"))]
        if report:
            parts += [Text(f"time: {report.time.described()}", "dim")] if report.time else []
            parts.append(self._curves_drawn(report))
        return Group(*parts, self.rates(max(num_rows - ROWS_BESIDE_TASKS, 1)))

    def _phase_line(self) -> Text:
        return Text(f"{self._phase} · {duration(time.monotonic() - self._phase_start_s)}", "cyan")

    def _curves_drawn(self, report: Report) -> RenderableType:
        """Two figures in a row, each with its value and its course so far."""
        grid = Table.grid(padding=(0, 1))
        cells = [
            (Text(name, "dim"), Text(f"{getattr(report, figure):.3f}"), Text(self._curves[figure].drawn(), "cyan"))
            for name, figure in CURVES.items()
        ]
        for _ in range(2):
            grid.add_column(no_wrap=True)
            grid.add_column(no_wrap=True, justify="right")
            grid.add_column(no_wrap=True, width=CURVE_WIDTH)
        for left, right in zip(cells[::2], cells[1::2], strict=True):
            grid.add_row(*left, *right)
        return grid

    def _frames_bar(self) -> RenderableType:
        frames = self.report.frames if self.report else 0
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        amount = f"{frames:,} / {self.total_frames:,} frames ({share(frames, self.total_frames)})"
        grid.add_row(ProgressBar(total=max(self.total_frames, 1), completed=frames), amount)
        return grid


class PlanView(View):
    """The run of a skill: its plan, with the success rate of each task.

    Args:
        task_names: the plan's tasks with their counts, as ``Collect_Wood x3``.
        goal: the success rate at which the run ends; None: there is nothing to succeed at, and no rate is shown.
    """

    def __init__(self, title: str, task_names: Sequence[str], goal: float | None, total_frames: int):
        super().__init__(title, total_frames)
        self.task_names = tuple(task_names)
        self.goal = goal
        self.report: UpdateReport | None = None

    def rates(self, num_rows: int) -> RenderableType:
        if self.goal is None:
            return Group()
        report, num_tasks = self.report, num_rows
        on_trial = report.candidate_rates if report else ()
        num_tasks = max(num_tasks - len(on_trial), 1)
        known = len(self.task_names) if report is None else len(report.task_rates)
        rates = (None,) * known if report is None else report.task_rates
        grid = rates_grid()
        aside = f"goal {self.goal:.2f}" + (f", recent {report.estimate:.2f}" if report else "")
        grid.add_row(Text("plan", "bold"), *rate_cells(report.success_rate if report else None, self.goal), aside)
        hidden = max(known - num_tasks, 0)
        if hidden:
            lowest = min((rate for rate in rates[:hidden] if rate is not None), default=None)
            grid.add_row(Text(f"{hidden} earlier tasks, the lowest", "dim"), *rate_cells(lowest, self.goal), "")
        for name, rate in list(zip(self.task_names, rates))[hidden:]:
            grid.add_row(Text(name), *rate_cells(rate, self.goal), "")
        for number, rate in enumerate(on_trial, 1):
            grid.add_row(Text(f"reward {number} on trial", "cyan"), *rate_cells(rate, self.goal), "recent")
        return Group(grid, _row(Text(f"tries {report.tried.described()}", "dim"), Text())) if report and report.tried else grid


def _row(left: Text, right: Text) -> RenderableType:
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(left, right)
    return grid


def rates_grid() -> Table:
    """A table of names, each with its rate, the rate's bar and a remark."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
    for _ in range(3):
        grid.add_column(no_wrap=True)
    return grid


def rate_cells(rate: float | None, goal: float) -> tuple[RenderableType, RenderableType]:
    """A rate and its bar; green from the goal on."""
    reached = rate is not None and rate >= goal
    style = "green" if reached else "yellow"
    bar = ProgressBar(total=1.0, completed=rate or 0.0, width=RATE_BAR_WIDTH, complete_style=style, finished_style=style)
    return Text(f"{rate_text(rate):>4}", style), bar
