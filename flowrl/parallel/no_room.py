"""A disk that is full, or that cannot be written: no fault of a skill, and no retry of it is spent."""

from __future__ import annotations

from pathlib import Path

from flowrl.errors import NoRoom


def no_room(folder: Path, why: str) -> NoRoom:
    """With this the scheduler ends: it must do nothing that it cannot write down."""
    return NoRoom(
        f"{folder} cannot be written ({why}); trainings go on in their sessions: "
        "make room, or make the folder writable, and start the same command again"
    )
