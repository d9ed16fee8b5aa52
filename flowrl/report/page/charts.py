"""The page's charts, as Bokeh's JSON. The page draws each one when it comes into view, and gives text and lines its colours."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, HoverTool, Range1d, TapTool
from bokeh.models import Span as Line
from bokeh.plotting import figure

from flowrl.pane.figures import rate_text
from flowrl.records.scheduler_state import Status
from flowrl.report.figures import duration_text, frames_text, plain
from flowrl.report.page.facts import Facts, SkillFacts
from flowrl.report.page.layout import layered
from flowrl.report.page.spans import Span
from flowrl.report.status.screen import direct_needs, status_text


class Look(NamedTuple):
    """How the charts show a status: by shape, and by colour for those who see it."""

    marker: str
    color: str
    sign: str
    """The marker as a letter, for the legend."""
    fill_alpha: float = 0.9


LOOKS = {
    Status.COMPLETED: Look("circle", "#2e8b57", "●"),
    Status.RUNNING: Look("triangle", "#1f83c4", "▲"),
    Status.WAITING: Look("circle", "#8a8a8a", "○", fill_alpha=0.0),
    Status.FAILED: Look("x", "#d1495b", "✕"),
    Status.CANCELLED: Look("square", "#c98a1b", "■"),
    Status.BLOCKED: Look("diamond", "#c98a1b", "◆"),
}
COMPOSED, PLAIN, DECISIVE = "#1f83c4", "#8a8a8a", "#9a63c9"
_LONGEST_NAME = 22
_ROW_PX, _NARROW_ROW_PX = 40, 28
"""The height of a row of the graph: of few rows, and of so many that the page would be long; a node and its name need that."""
_LONG_PX = 800
_EDGE_PX = 3.0
"""Of an outline; the page makes it thinner where a bar is narrow."""


def graph(facts: Facts) -> dict[str, Any] | None:
    """The skills by depth, each with lines to what it needs directly; a tap opens a skill's section."""
    runs = facts.snapshot.skills
    if not runs:
        return None
    needs = direct_needs(runs)
    places = layered(needs, {run.skill_name: run.depth for run in runs})
    deepest, rows = max(x for x, _ in places.values()), max(abs(y) for _, y in places.values())
    plot = _plot(
        _graph_height(1 + 2 * rows), "", x_range=Range1d(-0.6, deepest + 0.6), y_range=Range1d(-rows - 0.6, rows + 1.0)
    )
    plot.axis.visible = plot.grid.visible = False
    ends = [(places[other], places[name]) for name, others in needs.items() for other in others if other in places]
    # From the right side of what is needed to the left side of what needs it, as a curve that leaves and arrives level.
    plot.bezier(
        x0=[a[0] + 0.05 for a, _ in ends], y0=[a[1] for a, _ in ends], x1=[b[0] - 0.05 for _, b in ends],
        y1=[b[1] for _, b in ends], cx0=[a[0] + 0.5 for a, _ in ends], cy0=[a[1] for a, _ in ends],
        cx1=[b[0] - 0.5 for _, b in ends], cy1=[b[1] for _, b in ends], line_color=PLAIN, line_alpha=0.8, line_width=1.2,
    )  # fmt: skip
    source = ColumnDataSource(
        {
            "x": [places[run.skill_name][0] for run in runs],
            "y": [places[run.skill_name][1] for run in runs],
            "name": [run.skill_name for run in runs],
            "label": [_short(run.skill_name) for run in runs],
            "status": [status_text(run) for run in runs],
            "success": [rate_text(run.success_rate) for run in runs],
            "random": [rate_text(run.random_success_rate) for run in runs],
            "frames": [frames_text(run.frames) for run in runs],
            "marker": [LOOKS[run.status].marker for run in runs],
            "color": [LOOKS[run.status].color for run in runs],
            "fill": [LOOKS[run.status].fill_alpha for run in runs],
        },
        name="skills",
    )
    nodes = plot.scatter("x", "y", source=source, marker="marker", color="color", size=15, line_width=2, fill_alpha="fill",
                         nonselection_fill_alpha="fill", nonselection_line_alpha=1.0)  # fmt: skip
    plot.text("x", "y", "label", source=source, y_offset=-11, text_font_size="12px", text_align="center", name="label",
              nonselection_text_alpha=1.0)  # fmt: skip
    about = _tip("@name", status="@status", success="@success (random @random)", frames="@frames")
    plot.add_tools(HoverTool(renderers=[nodes], tooltips=about), TapTool(renderers=[nodes]))
    return json_item(plot)


def _graph_height(num_rows: float) -> int:
    return int(80 + max(min(_ROW_PX * num_rows, _LONG_PX), _NARROW_ROW_PX * num_rows))


def timeline(spans: Sequence[Span], critical: Sequence[Span], waits: Mapping[Span, str]) -> dict[str, Any] | None:
    """A bar for each attempt, by slot over time; the critical path is outlined, and what each one waited for is said."""
    if not spans:
        return None
    began = min(span.start for span in spans)
    slots = max(span.slot for span in spans) + 1
    on_path = {(span.skill_name, span.attempt) for span in critical}
    unit, unit_s = _time_unit((max(span.end for span in spans) - began).total_seconds())
    starts, ends = (
        [(moment - began).total_seconds() / unit_s for moment in side] for side in zip(*(span[3:5] for span in spans))
    )
    plot = _plot(100 + 44 * slots, f"{unit} since the first start", y_range=Range1d(slots - 0.4, -0.6))
    plot.yaxis.ticker = list(range(slots))
    plot.yaxis.axis_label = "slot"
    plot.ygrid.visible = False
    source = ColumnDataSource(
        {
            "left": starts,
            "right": ends,
            "slot": [span.slot for span in spans],
            "name": [span.skill_name for span in spans],
            "attempt": [span.attempt for span in spans],
            "became": [_ended(span) for span in spans],
            "took": [duration_text(span.seconds) for span in spans],
            "waited": [waited(span, waits) for span in spans],
            "color": [LOOKS[span.became].color for span in spans],
            "alpha": [0.9 if span.became is not Status.WAITING else 0.45 for span in spans],
            "pattern": [" " if span.became in (Status.COMPLETED, Status.RUNNING) else "/" for span in spans],
            "edge": [_EDGE_PX if (span.skill_name, span.attempt) in on_path else 0.0 for span in spans],
            "path": ["yes" if (span.skill_name, span.attempt) in on_path else "no" for span in spans],
        },
        name="attempts",
    )
    bars = plot.hbar(
        y="slot", left="left", right="right", height=0.62, source=source, fill_color="color", fill_alpha="alpha",
        hatch_pattern="pattern", hatch_color="white", hatch_alpha=0.6, line_width="edge", line_color="#e0a100", name="bars",
    )  # fmt: skip
    # The page cuts each name to the room in its bar, which depends on the width of the window.
    names = ColumnDataSource(source.data | {"shown": [""] * len(spans), "at": starts}, name="bar names")
    plot.text(
        "at", "slot", "shown", source=names, x_offset=6, text_baseline="middle", text_font_size="11px", name="bar label",
        background_fill_alpha=0.85, padding=2,
    )  # fmt: skip
    about = _tip("@name, attempt @attempt", status="@became", took="@took", waited="@waited", on_the_critical_path="@path")
    plot.add_tools(HoverTool(renderers=[bars], tooltips=about))
    return json_item(plot)


def waited(span: Span, waits: Mapping[Span, str]) -> str:
    """How long an attempt waited for its start, and for what."""
    if span not in waits:
        return "-"
    reason = {"": "", span.skill_name: ", to be tried again"}.get(waits[span], f", for {waits[span]}")
    return f"{duration_text(span.waited_s)}{reason}"


def learning_curve(facts: SkillFacts) -> dict[str, Any] | None:
    """Success (of a rehearsal achievements, of a plain agent reward) over frames: as it came, over whole cohorts, and in the
    tests for the goal; and how often the action was tried with which most successes came."""
    curve = facts.curve
    if not curve:
        return None
    is_rate = facts.curve_shows == "success"
    plot = _plot(260, "frames (millions)", **({"y_range": Range1d(-0.02, 1.02)} if is_rate else {}))
    plot.yaxis.axis_label = facts.curve_shows
    millions = [round(frames / 1e6, 4) for frames in curve.frames]
    newest = "latest steps" if facts.run.never_done else "latest episodes"
    _line(plot, millions, curve.raw, newest, line_color=PLAIN)
    _line(plot, millions, curve.cohorts, "whole cohorts", line_color=COMPOSED, line_width=2)
    if is_rate:
        _line(plot, millions, curve.decisive_shares, "decisive action tried",
              line_color=DECISIVE, line_dash="dotted", line_width=2)  # fmt: skip
    if curve.tests:
        frames, rates = zip(*curve.tests)
        plot.scatter([at / 1e6 for at in frames], rates, marker="diamond", size=11, color="#e0a100", legend_label="tests")
    goal = facts.record.get("settings", {}).get("success_rate")
    if isinstance(goal, int | float) and is_rate:
        plot.add_layout(Line(location=goal, dimension="width", line_dash="dashed", line_color=PLAIN))
    if facts.run.goal_reached:
        plot.add_layout(Line(location=millions[-1], dimension="height", line_dash="dotted", line_color="#2e8b57", line_width=2))
    for _, at in curve.attempts:
        plot.add_layout(Line(location=at / 1e6, dimension="height", line_color="#d1495b", line_dash="dotdash"))
    _place_legend(plot, "horizontal")
    plot.legend.click_policy = "hide"
    return json_item(plot)


def achievements(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """What whole episodes unlock, of the library and of the best plain agent beside it."""
    rates = _values(evaluation["whole"].get("rates"))
    if not rates:
        return None
    best = best_plain(evaluation)
    names = sorted(rates, key=rates.get)
    plot = _plot(120 + 24 * len(names), "share of episodes", x_range=Range1d(0, 1.02), y_range=names)
    plot.ygrid.visible = False
    sides = [("library", rates, COMPOSED, 0.18 if best else 0.0)]
    if best:
        sides.append((f"plain agent ({best[0]})", _values(best[1].get("rates")), PLAIN, -0.18))
    for label, found, color, offset in sides:
        source = ColumnDataSource({"y": [(name, offset) for name in names], "rate": [found.get(name, 0.0) for name in names],
                                   "name": names})  # fmt: skip
        bars = plot.hbar(y="y", right="rate", height=0.34, color=color, source=source, legend_label=label)
        plot.add_tools(HoverTool(renderers=[bars], tooltips=_tip("@name", **{plain(label): "@rate{0.0%}"})))
    _place_legend(plot, "vertical")
    return json_item(plot)


def best_plain(evaluation: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Of the plain agents beside the library the one that unlocks most."""
    flat = evaluation.get("flat")
    found = {name: agent for name, agent in flat.items() if isinstance(agent, dict)} if isinstance(flat, dict) else {}
    if not found:
        return None
    name = max(found, key=lambda name: found[name].get("achievements", {}).get("value", 0.0))
    return name, found[name]


def _values(rates: Any) -> dict[str, float]:
    found = rates if isinstance(rates, dict) else {}
    return {name: rate["value"] for name, rate in found.items() if isinstance(rate, dict) and "value" in rate}


def _plot(height: int, x_label: str, **how: Any):
    plot = figure(height=height, sizing_mode="stretch_width", toolbar_location=None, tools="", **how)
    plot.background_fill_alpha = plot.border_fill_alpha = 0.0
    plot.outline_line_color = None
    plot.xaxis.axis_label = x_label
    plot.grid.grid_line_alpha = 0.25
    plot.axis.axis_label_text_font_style = "normal"
    plot.min_border_left = plot.min_border_right = 8
    return plot


def _place_legend(plot, orientation: str) -> None:
    """Above the plot, where it hides no line and no bar."""
    plot.add_layout(plot.legend[0], "above")
    plot.legend.location = "top_left"
    plot.legend.orientation = orientation
    plot.legend.label_text_font_size = "11px"
    plot.legend.padding = plot.legend.margin = 0
    plot.legend.glyph_width = 16
    plot.legend.background_fill_alpha = plot.legend.border_line_alpha = 0.0


def _tip(title: str, **rows: str) -> str:
    """What is shown beside the pointer, as HTML, in the page's own colours. The page escapes what it puts in for ``@name``."""
    lines = "".join(f"<div>{html.escape(name.replace('_', ' '))}: <b>{value}</b></div>" for name, value in rows.items())
    return f"<div><b>{title}</b></div>{lines}"


def _line(plot: figure, x: Sequence[float], values: Sequence[float | None], label: str, **look: Any) -> None:
    """A line with gaps where nothing is known; none if nothing is. Short as JSON: fifty charts must not make the page large."""
    first = next((number for number, value in enumerate(values) if value is not None), None)
    if first is not None:
        drawn = plot.line(x[first:], _gaps(values[first:]), legend_label=label, **look)
        drawn.nonselection_glyph = drawn.muted_glyph = None  # nothing is selected or muted here


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _time_unit(seconds: float) -> tuple[str, float]:
    """The unit in which so long a time has a short number, and its seconds."""
    units = {"minutes": 60.0, "hours": 3600.0, "days": 86400.0}
    return next(((unit, size) for unit, size in units.items() if seconds < 180 * size), ("days", units["days"]))


def _ended(span: Span) -> str:
    return "to be tried again" if span.became is Status.WAITING else span.became.value


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
