"""The live part of a rehearsal's pane: what its latest episodes unlocked, and each skill's success in them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from flowrl.rehearsal.progress import RehearsalReport, SkillUse
from flowrl.training.run.view import View, rate_cells, rates_grid

GOOD = 0.8
"""A skill whose tasks succeed this often is drawn in green."""


class RehearsalView(View):
    """A rehearsal, with the skills that act most often.

    Args:
        skill_names: the library's skills, in the order of a report's.
    """

    def __init__(self, title: str, skill_names: Sequence[str], total_frames: int):
        super().__init__(title, total_frames)
        self.skill_names = tuple(skill_names)
        self.report: RehearsalReport | None = None

    def rates(self, num_rows: int) -> RenderableType:
        report, grid = self.report, rates_grid()
        if report is None:
            return grid
        unlocked = report.achievements
        share = None if unlocked is None else unlocked / max(report.num_goals, 1)
        about = f"of {report.num_goals}, {report.episode_steps:.0f} steps ({report.episodes} episodes)" if share else ""
        value = Text("   -" if unlocked is None else f"{unlocked:4.1f}", "bold")
        grid.add_row(Text("achievements", "bold"), value, rate_cells(share, 1.0)[1], about)
        busiest = sorted(zip(self.skill_names, report.skills), key=lambda row: -row[1].share)
        shown = busiest if len(busiest) <= num_rows else busiest[: num_rows - 1]
        for name, use in shown:
            grid.add_row(Text(name), *rate_cells(use.success, GOOD), _remark(use))
        if hidden := len(busiest) - len(shown):
            grid.add_row(Text(f"{hidden} more skills", "dim"), "", "", "")
        return grid


def _remark(use: SkillUse) -> str:
    return f"{use.steps:.0f} steps, acts in {use.share:.0%}"
