"""Packages that only some users need: looked for when they are used, and named with their extra where they are missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from flowrl.errors import BadInput


def check_gymnasium() -> None:
    """
    Raises:
        BadInput: what a Gymnasium environment needs is not installed.
    """
    _check("gym", ["gymnasium"])


def check_minari() -> None:
    """
    Raises:
        BadInput: what a Minari dataset needs is not installed.
    """
    _check("minari", ["minari", "gymnasium", "h5py"])


def _check(extra: str, packages: Sequence[str]) -> None:
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise BadInput(f"{missing[0]} is not installed; install flowrl's extra for it: pip install -e '.[{extra}]'")
