"""Where a picture is to be written, checked before anything is computed for it."""

from __future__ import annotations

from pathlib import Path

from flowrl.errors import BadInput

SUFFIXES = (".png", ".pdf", ".svg")


def check_picture(path: Path | None) -> None:
    """Refuses a picture that could not be written; None is no picture.

    Raises:
        BadInput: its folder is missing, or it has another ending than :data:`SUFFIXES`.
    """
    if path is None:
        return
    if path.suffix.lower() not in SUFFIXES:
        raise BadInput(f"the picture {path} cannot be written: its name must end in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise BadInput(f"the picture {path} cannot be written: there is no folder {path.parent}")
