"""``moments.pkl``: what the actor of a run's own expert was like now and then, for a film of its progress."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flowrl import pickles
from flowrl.errors import BadInput

FORMAT = "flowrl-moments"
VERSION = 1


class Moment(NamedTuple):
    """An actor as it was."""

    frames: int
    """Frames that the run had trained, all attempts together."""
    actor: Any
    """Its parameters, as numpy arrays."""


def write(path: Path, moments: Sequence[Moment]) -> None:
    """Writes them, whole.

    Raises:
        OSError: there is no room.
    """
    pickles.dump(path, {"format": FORMAT, "version": VERSION, "moments": [moment._asdict() for moment in moments]})


def evenly(moments: Sequence[Moment], number: int, frames: int | None) -> list[Moment]:
    """So many of them, or all if there are fewer, spread evenly over a training that went on to ``frames`` frames."""
    end = max(frames or 0, moments[-1].frames)
    before = [moment for moment in moments if moment.frames < end] or list(moments[:1])
    wanted = [end * place / number for place in range(number)]
    nearest = (min(before, key=lambda moment: abs(moment.frames - place)) for place in wanted)
    return sorted({moment.frames: moment for moment in nearest}.values(), key=lambda moment: moment.frames)


def read(path: Path) -> list[Moment]:
    """The moments of a training, the earliest first; none if there is no such file.

    Raises:
        BadInput: the file is damaged, or of another version.
    """
    try:
        found = pickles.load(path)
    except FileNotFoundError:
        return []
    if not isinstance(found, dict) or (found.get("format"), found.get("version")) != (FORMAT, VERSION):
        raise BadInput(f"{path} is not of {FORMAT} {VERSION}; remove it, and train the skill further to write a new one")
    return [Moment(**moment) for moment in found["moments"]]
