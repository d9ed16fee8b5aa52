"""The values that a setting may have. All sources are checked: a flag, ``config.json``, ``run.json`` and Python."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flowrl.errors import BadInput


@dataclass(frozen=True)
class Range:
    """Values that are allowed, and the words for them in a message."""

    words: str
    holds: Callable[[float], bool]


AT_LEAST_ONE = Range("at least 1", lambda value: value >= 1)
POSITIVE = Range("more than 0", lambda value: 0 < value < math.inf)
NOT_NEGATIVE = Range("0 or more", lambda value: 0 <= value < math.inf)
FINITE = Range("a number", math.isfinite)
FRACTION = Range("from 0 to 1", lambda value: 0 <= value <= 1)


def check_ranges(settings: Any, allowed: dict[Range, Sequence[str]]) -> None:
    """Raises BadInput, naming the flag, if a setting is out of its range; settings that are None are skipped."""
    for allowed_range, names in allowed.items():
        for name in names:
            value = getattr(settings, name)
            if value is not None and not allowed_range.holds(value):
                raise BadInput(f"--{name} must be {allowed_range.words}, found {value}")


def make_whole(settings: Any) -> None:
    """Turns ``1e6`` into ``1_000_000`` in the fields of a frozen dataclass that hold whole numbers.

    From Python, a budget is often given as ``1e6``, which is a float.

    Raises:
        BadInput: a field that holds a whole number has a fraction; names the flag.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, float) and str(field.type).startswith(("int", "Annotated[int")):
            if not value.is_integer():
                raise BadInput(f"--{field.name} must be a whole number, found {value}")
            object.__setattr__(settings, field.name, int(value))
