"""What the pane of a run shows: the picture of its latest report and of what it does."""

from __future__ import annotations

import time
from collections.abc import Sequence

from flowrl.pane.drawing import COURSE_WIDTH
from flowrl.pane.figures import duration, rate_text
from flowrl.records.picture import Figure, Picture, Rate, Rates, bar_share
from flowrl.training.run.curves import Curve
from flowrl.training.run.progress import Report, UpdateReport

CURVES = {"reward": "reward", "entropy": "entropy", "policy loss": "policy_loss", "value loss": "value_loss"}
"""What is drawn over the run: names, and the figure of a report."""


class View:
    """The newest of what every run shows; each kind of run adds its rates.

    Args:
        total_frames: the frame budget.
    """

    def __init__(self, title: str, total_frames: int):
        self.title = title
        self.total_frames = total_frames
        self.report: Report | None = None
        self.phase_began_at = 0.0
        """Seconds since the epoch."""
        self._curves = {figure: Curve(COURSE_WIDTH) for figure in CURVES.values()}
        self._phase_words = ""
        self.set_phase("starting")

    def add(self, report: Report) -> None:
        """The run's progress after one more update."""
        self.report = report
        for figure, curve in self._curves.items():
            curve.add(getattr(report, figure))

    def set_phase(self, text: str) -> None:
        """What the run does."""
        # A change of the count inside the text does not restart the phase's clock.
        words = text.rstrip("0123456789/, ")
        if words != self._phase_words:
            self._phase_words, self.phase_began_at = words, time.time()
        self._phase = text

    def rates(self) -> Rates | None:
        """The rates of the whole and of its parts; None if there are none to show."""
        raise NotImplementedError

    def note(self) -> str:
        """Lines below the rates; empty without any."""
        return ""

    def picture(self) -> Picture:
        """What is to be seen now."""
        report = self.report
        begun = Picture(self.title, self._phase, self.phase_began_at, 0, self.total_frames, rates=self.rates())
        if report is None:
            return begun
        left = "" if report.seconds_left is None else f", at most {duration(report.seconds_left)} left"
        return Picture(
            title=self.title,
            phase=self._phase,
            phase_began_at=self.phase_began_at,
            frames=report.frames,
            total_frames=self.total_frames,
            speed=f"{report.frames_per_s:,.0f} frames/s{left}",
            memory=report.memory.described() if report.memory else "",
            time=report.time.described() if report.time else "",
            figures=tuple(
                Figure(name, f"{getattr(report, figure):.3f}", self._curves[figure].drawn()) for name, figure in CURVES.items()
            ),
            rates=self.rates(),
            note=self.note(),
        )


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

    def rates(self) -> Rates | None:
        if self.goal is None:
            return None
        report = self.report
        of_tasks = report.task_rates if report else (None,) * len(self.task_names)
        aside = f"goal {self.goal:.2f}" + (f", recent {report.estimate:.2f}" if report else "")
        tasks = [rate_of(name, rate, self.goal) for name, rate in zip(self.task_names, of_tasks)]
        on_trial = [
            rate_of(f"reward {number} on trial", rate, self.goal, "recent", "cyan")
            for number, rate in enumerate(report.candidate_rates if report else (), 1)
        ]
        whole = rate_of("plan", report.success_rate if report else None, self.goal, aside)
        return Rates(whole, (*tasks, *on_trial), "first", "earlier tasks")

    def note(self) -> str:
        tried = self.report.tried if self.goal is not None and self.report else None
        if tried is None:
            return ""
        evenly = tried.entropies_described()
        return f"tries {tried.described()}" + (f"\nentropy of {evenly}" if evenly else "")


def rate_of(name: str, rate: float | None, goal: float, remark: str = "", style: str = "") -> Rate:
    """A rate of a run; good from the goal on."""
    return Rate(name, f"{rate_text(rate):>4}", bar_share(rate), rate is not None and rate >= goal, remark, style)
