"""The lines of ``training.log``, which a training without a terminal prints as well."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_OF_AN_UPDATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ update \d+: .*")


def stamped(text: str) -> str:
    """A line with the time before it."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ} {text}"


def is_of_an_update(line: str) -> bool:
    """Whether a line gives the figures of one update, which a pane shows anyway."""
    return _OF_AN_UPDATE.fullmatch(line) is not None
