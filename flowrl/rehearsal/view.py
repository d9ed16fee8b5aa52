"""What a rehearsal's pane shows: what its latest episodes unlocked, and each skill's success in them."""

from __future__ import annotations

from collections.abc import Sequence

from flowrl.records.picture import Rate, Rates, bar_share
from flowrl.rehearsal.progress import RehearsalReport, SkillUse
from flowrl.training.run.view import View, rate_of

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

    def rates(self) -> Rates | None:
        report = self.report
        if report is None:
            return None
        busiest = sorted(zip(self.skill_names, report.skills), key=lambda row: -row[1].share)
        skills = tuple(rate_of(name, use.success, GOOD, _remark(use)) for name, use in busiest)
        return Rates(_unlocked(report), skills, "last", "more skills")


def _unlocked(report: RehearsalReport) -> Rate:
    if report.achievements is None:
        return Rate("achievements", "   -", None)
    about = f"of {report.num_goals}, {report.episode_steps:.0f} steps ({report.episodes} episodes)"
    share = report.achievements / max(report.num_goals, 1)
    return Rate("achievements", f"{report.achievements:4.1f}", bar_share(share), share >= 1, about)


def _remark(use: SkillUse) -> str:
    return f"{use.steps:.0f} steps, acts in {use.share:.0%}"
