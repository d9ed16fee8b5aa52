"""What a wrong word may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_MOST_LISTED = 24


def suggestion(word: str, known: Iterable[str], otherwise: str = "choose one of") -> str:
    """The closest known words, or else the first few of them: ``did you mean wood?``.

    Args:
        otherwise: stands before the known words where none is close.
    """
    known = list(known)
    if matches := difflib.get_close_matches(word, known, n=3, cutoff=0.6):
        return f"did you mean {', '.join(matches)}?"
    return f"{otherwise} {', '.join(known[:_MOST_LISTED])}{', ...' if len(known) > _MOST_LISTED else ''}"


def unknown_choice(what: str, found: str, choices: Sequence[str]) -> str:
    """One line for a word of a command line that is not among the choices: names close matches, or else all of them."""
    word = found.replace("-", "_").replace("__", "--", 1)
    beginnings = [choice for choice in choices if len(word) > 4 and choice.startswith(word)]
    matches = beginnings[:3] or difflib.get_close_matches(word, choices, n=3, cutoff=0.7)
    if matches and len(choices) > 8:
        return f"unknown {what} {found!r}: did you mean {' or '.join(matches)}? (--help lists all)"
    hint = f"; did you mean {matches[0]}?" if matches else ""
    return f"unknown {what} {found!r}: valid are {', '.join(choices)}{hint}"
