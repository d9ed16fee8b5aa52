"""``metrics.jsonl``: a line for each update of a run, written by its training, read while it grows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_LONGEST_LINE = 256 * 1024
"""Bytes at the file's end in which the newest whole line is looked for; a line of a run with 200 experts has some 50,000."""


def newest(path: Path) -> dict[str, Any] | None:
    """The newest whole line; None if there is none, or the file cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _LONGEST_LINE))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except ValueError:  # cut off: it is being written, or its writer was killed
            continue
        if isinstance(found, dict):
            return found
    return None
