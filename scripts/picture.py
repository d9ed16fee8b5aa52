"""Draws captured terminal text as an SVG: `python scripts/picture.py OUT.svg TITLE=FILE ...`

Each FILE holds coloured text, as `tmux capture-pane -e -p -t SESSION > FILE` and `script` write it. The README's picture of
the demo was made this way; `rsvg-convert --zoom 1.5` turns the SVG into a PNG.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.terminal_theme import MONOKAI
from rich.text import Text

WIDTH = 124
_FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)


def draw(panes: list[tuple[str, str]]) -> str:
    """The panes one below the other, each in a frame with its title; returns the SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    frames = [Panel(Text.from_ansi(text.rstrip()), title=title, title_align="left", box=box.ROUNDED) for title, text in panes]
    console.print(Group(*frames))
    svg = console.export_svg(title="make demo", theme=MONOKAI)
    # Rich's SVG would fetch a web font; use the viewer's own fixed-width font.
    svg = _FONTS.sub("", svg).replace("Fira Code", "DejaVu Sans Mono").replace("font-size: 20px", "font-size: 20.26px")
    return svg.replace("<svg ", '<svg xml:space="preserve" ', 1)


def main(arguments: list[str]) -> int:
    if len(arguments) < 2 or not all("=" in pane for pane in arguments[1:]):
        print("expected: python scripts/picture.py OUT.svg TITLE=FILE ...", file=sys.stderr)
        return 2
    out, *panes = arguments
    titled = [pane.split("=", 1) for pane in panes]
    Path(out).write_text(draw([(title, Path(file).read_text()) for title, file in titled]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
