"""A picture as it is drawn, and the file in which it waits to be."""

from __future__ import annotations

import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from flowrl.pane.drawing import ROWS_BESIDE_RATES, drawn
from flowrl.pane.screen import Content, Screen
from flowrl.records import picture
from flowrl.records.picture import Figure, Picture, Rate, Rates, bar_share

FIGURES = tuple(Figure(name, "-0.010", "▁▂▃▄▅▆▇█") for name in ("reward", "entropy", "policy loss", "value loss"))


def rates(num: int, left_out: str = "first") -> Rates:
    parts = tuple(Rate(f"Task_{number} x1", f"0.{90 - number}", (90 - number) / 100) for number in range(num))
    return Rates(Rate("plan", "0.61", 0.61, remark="goal 0.80"), parts, left_out, "earlier tasks")


def a_picture(**changes) -> Picture:
    values = {"title": "Collect_Wood (expert 0)", "phase": "testing 3/512", "phase_began_at": 100.0, "frames": 1000,
              "total_frames": 4000, "speed": "4,321 frames/s", "memory": "1.2 GB", "time": "game 45%", "figures": FIGURES,
              "rates": rates(3), "note": "tries move 62%"}  # fmt: skip
    return Picture(**values | changes)


def rows_of(shown: Picture, num_rows: int = 40, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(drawn(shown, num_rows, 161.0))
    return out.getvalue().splitlines()


def test_all_of_it_is_drawn():
    text = "\n".join(rows_of(a_picture()))
    for part in ("Collect_Wood (expert 0)", "testing 3/512 · 1:01", "1,000 / 4,000 frames (25%)", "4,321 frames/s",
                 "memory 1.2 GB", "time: game 45%", "policy loss -0.010 ▁▂▃▄▅▆▇█", "plan      0.61", "goal 0.80",
                 "Task_2 x1 0.88", "tries move 62%"):  # fmt: skip
        assert part in text
    assert "·" not in "\n".join(rows_of(a_picture(phase="", phase_began_at=None)))


@pytest.mark.parametrize(
    ("left_out", "kept", "place"), [("first", ("Task_18 x1", "Task_19 x1"), 0), ("last", ("Task_0 x1", "Task_1 x1"), 2)]
)
def test_where_there_is_no_room_for_all_one_row_is_about_the_others(left_out, kept, place):
    below = rows_of(a_picture(rates=rates(20, left_out), note=""), num_rows=ROWS_BESIDE_RATES + 3)[-3:]
    about = below.pop(place)
    assert tuple(row[:10].strip() for row in below) == kept
    assert about.startswith(f"18 earlier tasks, the lowest {'0.73' if left_out == 'first' else '0.71'}")


@given(st.integers(1, 250), st.integers(1, 60), st.integers(0, 60), st.sampled_from(("first", "last")))
def test_it_is_as_wide_as_the_terminal_at_most_and_leaves_room_for_lines(width, num_rows, num_parts, left_out):
    rows = rows_of(a_picture(rates=rates(num_parts, left_out)), num_rows, width)
    assert max(map(cell_len, rows)) <= width
    assert len(rows) <= max(num_rows - 3, ROWS_BESIDE_RATES)


def test_before_the_first_update_and_without_a_goal_there_is_less():
    assert len(rows_of(Picture("Explore", "compiling", 100.0, 0, 4000))) == 3
    assert "plan" not in "\n".join(rows_of(a_picture(rates=None)))


def test_a_picture_is_read_as_it_was_written_and_only_for_its_attempt(tmp_path):
    path = tmp_path / "pane.json"
    assert picture.find(path, 2) is None
    picture.write(path, 2, a_picture())
    assert picture.find(path, 2) == a_picture() and picture.find(path, 1) is None
    assert [file.name for file in tmp_path.iterdir()] == ["pane.json"]


def test_a_share_that_is_no_number_is_not_known():
    assert [bar_share(value) for value in (None, math.nan, math.inf, 0.5)] == [None, None, None, 0.5]


def test_a_terminal_that_is_gone_is_no_error():
    out = io.StringIO()
    out.close()
    Screen(out).show(Content("text"))
