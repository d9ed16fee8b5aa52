"""What a picture needs, checked before anything is computed for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from flowrl.errors import BadInput

SUFFIXES = (".png", ".pdf", ".svg")


def check_picture(path: Path | None) -> None:
    """Refuses a picture that could not be written; None is no picture.

    Raises:
        BadInput: its folder or matplotlib is missing, or it has another ending than :data:`SUFFIXES`.
    """
    if path is None:
        return
    if path.suffix.lower() not in SUFFIXES:
        raise BadInput(f"the picture {path} cannot be written: its name must end in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise BadInput(f"the picture {path} cannot be written: there is no folder {path.parent}")
    check_matplotlib(f"the picture {path} is drawn")


def check_matplotlib(what: str) -> None:
    """
    Args:
        what: is done with it, the beginning of the message.

    Raises:
        BadInput: it is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise BadInput(f"{what} with matplotlib, which is missing: pip install 'flowrl[fire]'")
