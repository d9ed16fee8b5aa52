"""A run's picture as something rich can draw: what the run does, its frames, and rates in bars."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flowrl.pane.figures import duration, share
from flowrl.records.picture import Figure, Picture, Rate, Rates

RATE_BAR_WIDTH = 20
COURSE_WIDTH = 16
"""Blocks in the course of a figure, at most."""
ROWS_BESIDE_RATES = 14
"""Rows of the pane that are not rates of its parts: ten of the run as a whole, the rest for lines beside them."""


def drawn(picture: Picture, num_rows: int, now_s: float) -> RenderableType:
    """The picture, no higher than ``num_rows`` with the lines beside it where there are that many.

    Args:
        now_s: seconds since the epoch, for the clock of the phase.
    """
    parts: list[RenderableType] = [
        _row(Text(picture.title, "bold"), _phase(picture, now_s)),
        _frames_bar(picture),
        _row(Text(picture.speed), Text(f"memory {picture.memory}" if picture.memory else "", "dim")),
    ]
    if picture.time:
        parts.append(Text(f"time: {picture.time}", "dim", no_wrap=True, overflow="ellipsis"))
    if picture.figures:
        parts.append(_figures(picture.figures))
    if picture.rates:
        parts.append(_rates(picture.rates, max(num_rows - ROWS_BESIDE_RATES, 1)))
    if picture.note:
        parts += [_row(Text(line, "dim"), Text()) for line in picture.note.splitlines()]
    return Group(*parts)


def _phase(picture: Picture, now_s: float) -> Text:
    clock = "" if picture.phase_began_at is None else f" · {duration(now_s - picture.phase_began_at)}"
    return Text(f"{picture.phase}{clock}", "cyan")


def _frames_bar(picture: Picture) -> RenderableType:
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    done = share(picture.frames, picture.total_frames)
    amount = f"{picture.frames:,} / {picture.total_frames:,} frames ({done})"
    grid.add_row(ProgressBar(total=max(picture.total_frames, 1), completed=picture.frames), amount)
    return grid


def _figures(figures: Sequence[Figure]) -> RenderableType:
    """Two figures in a row, each with its value and its course so far."""
    grid = Table.grid(padding=(0, 1))
    for _ in range(2):
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, justify="right")
        grid.add_column(no_wrap=True, width=COURSE_WIDTH)
    cells = [(Text(figure.name, "dim"), Text(figure.value), Text(figure.course, "cyan")) for figure in figures]
    for left, right in zip(cells[::2], cells[1::2]):
        grid.add_row(*left, *right)
    return grid


def _rates(rates: Rates, num_rows: int) -> RenderableType:
    """The rate of the whole, and below it those of its parts in at most ``num_rows`` rows."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
    for _ in range(3):
        grid.add_column(no_wrap=True)
    shown, hidden = _chosen(rates, num_rows)
    rows = list(shown)
    if hidden:
        rows.insert(len(rows) if rates.left_out == "last" else 0, _together(hidden, rates.left_out_words))
    for rate, style in ((rates.whole, "bold"), *((rate, rate.style) for rate in rows)):
        grid.add_row(Text(rate.name, style), *_cells(rate), Text(rate.remark))
    return grid


def _chosen(rates: Rates, num_rows: int) -> tuple[Sequence[Rate], Sequence[Rate]]:
    """The parts that are shown, and those for which there is no room."""
    parts = rates.parts
    if len(parts) <= num_rows:
        return parts, ()
    kept = max(num_rows - 1, 1)  # a row is about those that are left out
    return (parts[:kept], parts[kept:]) if rates.left_out == "last" else (parts[-kept:], parts[:-kept])


def _together(hidden: Sequence[Rate], words: str) -> Rate:
    lowest = min((rate for rate in hidden if rate.share is not None), key=lambda rate: rate.share, default=hidden[0])
    return Rate(f"{len(hidden)} {words}, the lowest", lowest.value, lowest.share, lowest.is_good, style="dim")


def _cells(rate: Rate) -> tuple[RenderableType, RenderableType]:
    """A rate and its bar; green once it is good."""
    style = "green" if rate.is_good else "yellow"
    bar = ProgressBar(total=1.0, completed=rate.share or 0.0, width=RATE_BAR_WIDTH, complete_style=style, finished_style=style)
    return Text(rate.value, style), bar


def _row(left: Text, right: Text) -> RenderableType:
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(left, right)
    return grid
