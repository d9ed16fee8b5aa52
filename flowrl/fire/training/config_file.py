"""``--config``: a JSON file with settings. The only module that imports json5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import json5

import flowrl.fire
from flowrl.errors import BadInput
from flowrl.fire.training.settings import FuelBreakSettings
from flowrl.paths import given_path

SHIPPED = Path(flowrl.fire.__file__).parent / "config"
"""Files that come with flowrl."""


def read(name: str | Path) -> dict[str, Any]:
    """The values of a file: JSON, in which comments and trailing commas may stand.

    Args:
        name: a path, or the name of a file that comes with flowrl; a path wins.

    Raises:
        BadInput: one line: there is no such file, it is not JSON, or it holds something other than settings.
    """
    path = _found(str(name))
    try:
        values = json5.loads(path.read_text())
    except ValueError as error:
        raise BadInput(f"--config {path} is not JSON: {_one_line(error)}") from None
    except RecursionError:
        raise BadInput(f"--config {path} is nested too deeply for settings, which are one object of plain values") from None
    except OSError as error:
        raise BadInput(f"--config {path} cannot be read: {error.strerror}") from None
    if not isinstance(values, dict):
        raise BadInput(f"--config {path} must hold one object of settings, found {type(values).__name__}")
    return values


def settings_in(name: str | Path) -> FuelBreakSettings:
    """The settings of a file.

    Raises:
        BadInput: as `read`, or a key is unknown, or a value is impossible; the file is named.
    """
    try:
        return FuelBreakSettings.of(read(name))
    except BadInput as error:
        raise BadInput(str(error) if str(name) in str(error) else f"--config {name}: {error}") from None


def _found(name: str) -> Path:
    path = given_path(name, "--config")
    for candidate in (path, SHIPPED / path):
        if candidate.is_file():
            return candidate
    shipped = ", ".join(sorted(file.name for file in SHIPPED.glob("*.json")))
    raise BadInput(f"--config {name}: there is no such file; give a path, or one of flowrl's own: {shipped}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
