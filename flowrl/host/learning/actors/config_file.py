"""``--config``: a YAML file with values for flags. The only module that imports yaml."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

import flowrl.host
from flowrl.errors import BadInput
from flowrl.paths import given_path
from flowrl.suggestions import suggestion

SHIPPED = Path(flowrl.host.__file__).parent
"""Where files are that come with flowrl, such as ``config/ppo_parallel.yaml``."""

T = TypeVar("T")


def flags(name: str, settings_type: type) -> list[str]:
    """The values of a file as a command line.

    Args:
        name: a path, or the name of a file that comes with flowrl; a path wins.

    Raises:
        BadInput: one line: there is no such file, it is not YAML, or it has a key that is no flag, with the closest ones.
    """
    path = _found(name)
    values = _read(path)
    known = {field.name for field in dataclasses.fields(settings_type)} - {"config"}
    result = []
    for key, value in values.items():
        flag = str(key).replace("-", "_")
        if flag not in known:
            raise BadInput(f"{path}: unknown key {str(key)!r}: {suggestion(flag, sorted(known), 'valid are')}")
        if isinstance(value, (Mapping, list)):
            raise BadInput(f"{path}: {key} must be one value, found {type(value).__name__}")
        if isinstance(value, bool):
            result.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:  # nothing behind the colon: the flag's own default
            result += [f"--{flag}", str(value)]
    return result


def _found(name: str) -> Path:
    path = given_path(name, "--config")
    for candidate in (path, SHIPPED / path):
        if candidate.is_file():
            return candidate
    shipped = ", ".join(str(file.relative_to(SHIPPED)) for file in sorted(SHIPPED.glob("config/*.yaml")))
    raise BadInput(f"--config {name}: there is no such file; give a path, or one of flowrl's own: {shipped}")


def _read(path: Path) -> dict[Any, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise BadInput(f"{path} must have a line 'flag: value' for each flag, found {type(values).__name__}")
    return values
