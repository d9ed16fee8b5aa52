"""What the pane of a rehearsal shows, on its own terminal and in the session of a job."""

from __future__ import annotations

import io

from rich.console import Console

from flowrl.pane.drawing import ROWS_BESIDE_RATES, drawn
from flowrl.records import picture
from flowrl.rehearsal.progress import RehearsalReport, SkillUse
from flowrl.rehearsal.view import RehearsalView

REPORT = RehearsalReport(
    update=3, frames=30_000, total_frames=1_000_000, frames_per_s=5000.0, seconds_left=194.0, achievements=11.04, num_goals=22,
    episode_steps=250.4, episodes=800, skills=(SkillUse(0.5, 20.0, 0.1), SkillUse(0.9, 8.0, 0.7), SkillUse(0.3, 30.0, 0.2)),
    reward=0.1, entropy=1.5, policy_loss=-0.02, value_loss=0.3, kl=0.01,
)  # fmt: skip


def rows_of(view: RehearsalView, num_rows: int = 40) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=90).print(drawn(view.picture(), num_rows, 0.0))
    return out.getvalue().splitlines()


def a_view(report: RehearsalReport | None = REPORT) -> RehearsalView:
    view = RehearsalView("rehearsal_1", ["Collect_Wood", "Explore", "Eat_Cow"], 1_000_000)
    if report:
        view.add(report)
    return view


def test_it_shows_what_was_unlocked_and_the_skills_that_act_most_first():
    rows = rows_of(a_view())
    text = "\n".join(rows)
    assert "achievements 11.0" in text and "of 22, 250 steps (800 episodes)" in text
    assert [row.split()[0] for row in rows[-3:]] == ["Explore", "Eat_Cow", "Collect_Wood"]
    assert "8 steps, acts in 70%" in rows[-3]


def test_the_skills_that_act_least_are_left_out_first():
    rows = rows_of(a_view(), ROWS_BESIDE_RATES + 2)
    assert rows[-2].startswith("Explore") and rows[-1].startswith("2 more skills, the lowest 0.30")


def test_before_the_first_update_and_the_first_episode_less_is_known():
    assert "achievements" not in "\n".join(rows_of(a_view(None)))
    unknown = REPORT._replace(achievements=None, episode_steps=None, episodes=0)
    assert "achievements    -" in "\n".join(rows_of(a_view(unknown)))


def test_its_picture_can_be_written_and_read(tmp_path):
    shown = a_view().picture()
    picture.write(tmp_path / "pane.json", 1, shown)
    assert picture.find(tmp_path / "pane.json", 1) == shown
