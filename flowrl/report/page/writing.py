"""Writes the page: one file with its charts, styles and scripts in it, whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from bokeh.resources import Resources
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from flowrl.files import write_whole
from flowrl.pane.figures import rate_text
from flowrl.paths import ExperimentPaths
from flowrl.report.figures import duration_text, frames_text, minutes_text
from flowrl.report.page import charts
from flowrl.report.page.facts import Facts, gather
from flowrl.report.page.spans import speed_up
from flowrl.report.status.screen import MARKS, direct_needs, status_text
from flowrl.report.summary import proposer_line

NAME = "index.html"
_TEMPLATES = resources.files("flowrl.report.page") / "templates"
_LIGHT, _DARK = HtmlFormatter(style="default", nowrap=True), HtmlFormatter(style="github-dark")
_LONGEST_CODE = 20_000
_NO_FLAGS = ("version", "observation_size")
"""What config.json has beside the flags."""


def write(paths: ExperimentPaths, is_live: bool = False) -> Path:
    """Reads the experiment and writes its page; returns the page's path.

    Args:
        is_live: the page asks the server that it comes from for a newer one now and then.

    Raises:
        BadInput: the folder is no experiment, or its state cannot be read.
        OSError: the page cannot be written.
    """
    return write_facts(paths, gather(paths), is_live)


def write_facts(paths: ExperimentPaths, facts: Facts, is_live: bool = False) -> Path:
    """The same, of what was read already."""
    target = paths.report / NAME
    write_whole(target, page(facts, is_live))
    return target


def page(facts: Facts, is_live: bool = False) -> str:
    """The page's text."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (_TEMPLATES / name).read_text()),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,  # what a file of an earlier flowrl lacks is left out,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: _of_known(text) for name, text in _FILTERS.items()} | {"code": _code}
    return environment.get_template("page.html.j2").render(
        facts=facts,
        shot=facts.snapshot,
        needs=direct_needs(facts.snapshot.skills),
        marks=MARKS,
        looks=charts.LOOKS,
        num_layers=1 + max((run.depth for run in facts.snapshot.skills), default=0),
        status_text=status_text,
        proposer=proposer_line(facts.snapshot.proposer),
        # Of one slot there is nothing to say.
        speed_up=speed_up(facts.spans) if any(span.slot > 0 for span in facts.spans) else None,
        waited=lambda span: charts.waited(span, facts.waits),
        best_plain=charts.best_plain(facts.evaluation) if facts.evaluation else None,
        charts={name: _script_json(item) for name, item in _charts(facts).items() if item},
        bokeh=Markup("\n".join(Resources(mode="inline", components=["bokeh"]).js_raw).replace("</script", "<\\/script")),
        style=Markup((_TEMPLATES / "style.css").read_text() + _code_styles()),
        script=Markup((_TEMPLATES / "page.js").read_text()),
        no_flags=_NO_FLAGS,
        is_live=is_live,
    )


def _of_known(text: Callable[[Any], str]) -> Callable[[Any], str]:
    """The same for what a file lacks as for None."""
    return lambda value: text(None if isinstance(value, jinja2.Undefined) else value)


def _charts(facts: Facts) -> dict[str, Mapping[str, Any] | None]:
    found = {"graph": charts.graph(facts), "timeline": charts.timeline(facts.spans, facts.critical, facts.waits)}
    if facts.evaluation:
        found["achievements"] = charts.achievements(facts.evaluation)
    for skill in (*facts.skills, *facts.rehearsals):
        found[f"curve-{skill.name}"] = charts.learning_curve(skill)
    return found


def _script_json(item: Mapping[str, Any]) -> Markup:
    """JSON that can stand in a script element: nothing in it ends the element."""
    text = json.dumps(item, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _code(source: Any) -> Markup:
    """Python source, highlighted; text of any other kind, escaped."""
    text = str(source or "")
    cut = text[:_LONGEST_CODE] + ("\n# … cut here" if len(text) > _LONGEST_CODE else "")
    # The keyboard reaches it, since long lines scroll.
    return Markup(f'<pre class="code" tabindex="0">{highlight(cut, PythonLexer(), _LIGHT)}</pre>')


def _code_styles() -> str:
    light, dark = _LIGHT.get_style_defs(".code"), _DARK.get_style_defs(".code")
    return f"\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n.code {{ background: var(--paper) }}\n"


_FILTERS: dict[str, Callable[[Any], str]] = {
    "frames": frames_text,
    "rate": rate_text,
    "minutes": minutes_text,
    "duration": lambda seconds: "-" if seconds is None else duration_text(seconds),
    "reward": lambda value: "-" if value is None else f"{value:.3f}",
    "dollars": lambda value: "price not known" if value is None else f"${value:.4f}",
    "percent": lambda value: "-" if value is None else f"{100 * value:.1f}%",
    "moment": lambda moment: "-" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S UTC"),
}
