"""Checkpoints as files: which one a training goes on from, and which ones stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from flowrl import pickles
from flowrl.errors import BadInput, FlowrlError

T = TypeVar("T")

KEPT = 2
"""The number of checkpoints that stay in a folder: the newest, and one to fall back on."""


class Damaged(BadInput):
    """A file that is a damaged checkpoint, or no checkpoint."""

    put_aside_as = "damaged"
    """What is added to its name."""


class Late(Damaged):
    """A checkpoint that an older attempt wrote when the next one was under way already."""

    put_aside_as = "late"


def check_finite(leaves: Iterable[np.ndarray], what: str, flag: str) -> None:
    """Refuses parameters that no training can go on from.

    Args:
        what: was trained, for the message.
        flag: sets the learning rate.

    Raises:
        FlowrlError: one is not a number.
    """
    if not all(np.isfinite(leaf).all() for leaf in leaves):
        raise FlowrlError(f"{what} diverged: a parameter is not a number; try a smaller {flag}")


def drop_old(files: Sequence[Path]) -> None:
    """Removes all but the last `KEPT` of some checkpoints, the oldest first."""
    for old in files[:-KEPT]:
        old.unlink(missing_ok=True)


def newest(
    files: Sequence[Path], parts: set[str], restored: Callable[[dict[str, Any]], T], remedy: str, say: Callable[[str], None]
) -> T | None:
    """What is restored from the newest checkpoint that can be read; None if there is none. Damaged ones are moved aside, and
    so are late ones; ``say`` gets a line about it.

    Args:
        files: checkpoints, the oldest first.
        parts: the keys that a checkpoint has.
        restored: makes something of one; raises BadInput, KeyError, TypeError or ValueError if it does not fit, Late if it
            came too late.
        remedy: what to do about a checkpoint that does not fit.

    Raises:
        BadInput: the newest intact one does not fit.
    """
    for path in reversed(files):
        try:
            return restored(_record(path, parts))
        except Damaged as error:
            path.rename(path.with_name(f"{path.name}.{error.put_aside_as}"))
            say(f"{error}; it was moved aside; trying the one before it")
        except (BadInput, KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{path} does not fit this run ({error}); {remedy}") from None
    return None


def _record(path: Path, parts: set[str]) -> dict[str, Any]:
    try:
        record = pickles.load(path)
        if not isinstance(record, dict) or not parts <= record.keys():
            raise BadInput(f"{path} holds no checkpoint: a part of it is missing")
        return record
    except (BadInput, OSError) as error:
        raise Damaged(str(error)) from error
