"""What the model is told, as text files beside this module. ``$name`` in them is filled in."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from string import Template

Message = dict[str, str]
"""``{"role": "system" | "user" | "assistant", "content": text}``."""

FOLDER = Path(__file__).parent


def render(name: str, **values: object) -> str:
    """One text with its values. A value that the text does not have, or the other way round, is our mistake."""
    text = _text(name)
    wanted = set(Template(text).get_identifiers())
    assert wanted == values.keys(), f"{name}.txt wants {sorted(wanted)}, and got {sorted(values)}"
    return Template(text).substitute(values)


@cache
def _text(name: str) -> str:
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8").strip()
