"""A disk that is full or cannot be written: not a skill's fault, so it costs no retry."""

from __future__ import annotations

from pathlib import Path

from flowrl.errors import NoRoom


def no_room(folder: Path, why: str) -> NoRoom:
    """Ends the scheduler, which must not do what it cannot record."""
    return NoRoom(
        f"{folder} cannot be written ({why}); trainings continue in their sessions: "
        "free disk space or make the folder writable, then start the same command again"
    )
