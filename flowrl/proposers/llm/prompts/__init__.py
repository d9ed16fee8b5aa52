"""The prompts, as text files next to this module. ``$name`` in them is filled in."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from string import Template

Message = dict[str, str]
"""``{"role": "system" | "user" | "assistant", "content": text}``."""

FOLDER = Path(__file__).parent


def render(name: str, **values: object) -> str:
    """One prompt with its values filled in. A missing or an extra value is a bug in flowrl."""
    text = _text(name)
    expected = set(Template(text).get_identifiers())
    assert expected == values.keys(), f"{name}.txt takes {sorted(expected)}, got {sorted(values)}"
    return Template(text).substitute(values)


@cache
def _text(name: str) -> str:
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8").strip()
