"""``scheduler_state.json``: read, and written whole at each transition, with the one before it beside it (``.prev``)."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from flowrl.errors import BadInput
from flowrl.files import write_whole
from flowrl.paths import ExperimentPaths
from flowrl.records.scheduler_state import VERSION, SchedulerState
from flowrl.validation import first_fault


def load(paths: ExperimentPaths) -> tuple[SchedulerState | None, str | None]:
    """The state of an experiment, or None if there is none yet; and a remark if the previous one had to be used.

    Raises:
        BadInput: the file (and the one before it) cannot be used; nothing was changed.
    """
    current, previous = paths.state, paths.previous_state
    try:
        return read_state(current), None
    except FileNotFoundError:
        if not previous.exists():
            return None, None
        reason = f"{current} is missing"
    except TornState as error:
        reason = str(error)
    try:
        return read_state(previous), f"{reason}; continuing from the previous state, {previous}"
    except (FileNotFoundError, TornState) as error:
        what = "it" if isinstance(error, FileNotFoundError) else "both"  # a torn .prev on its own is refused as well
        raise BadInput(
            f"{reason}, and there is no usable {previous.name}; "
            f"restore the file from a copy, or move {what} away: what was trained is found again in the folder"
        ) from None


def save(paths: ExperimentPaths, state: SchedulerState) -> None:
    """Writes the state whole; the one before it becomes ``.prev``."""
    state.updated_at = datetime.now(UTC)
    if _is_whole(paths.state):
        _keep_beside(paths.state, paths.previous_state)
    write_whole(paths.state, state.to_text())


class TornState(BadInput):
    """The file is not valid JSON: half written, or damaged."""


def read_state(path: Path) -> SchedulerState:
    """Reads a state file.

    Raises:
        FileNotFoundError: there is none.
        TornState: it is not JSON.
        BadInput: it cannot be read; or it is JSON, and not a state that this version can read.
    """
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"there is no {path}") from None
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror or error}); "
            "make it readable, or move it away: what was trained is found again in the folder"
        ) from None
    except ValueError as error:
        raise TornState(f"{path} is not valid JSON ({error})") from None
    version = data.get("version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise BadInput(
            f"{path} was written by a newer flowrl (state version {version}, this one reads {VERSION}); "
            "update flowrl, or use another --graph_path"
        )
    try:
        return SchedulerState.model_validate(data)
    except ValidationError as error:
        raise BadInput(
            f"{path} is not a scheduler state of flowrl ({first_fault(error)}); "
            "move it away to start over, or use another --graph_path"
        ) from None


def _is_whole(path: Path) -> bool:
    # The file's last characters are enough: it is written whole, so a torn file lacks its end.
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - 2))
            return file.read() == b"}\n"
    except OSError:
        return False


def _keep_beside(current: Path, previous: Path) -> None:
    """Hard-links the current file to a second name, so that there is a state file at any moment."""
    link = previous.with_name(f".{previous.name}.tmp")
    link.unlink(missing_ok=True)
    try:
        os.link(current, link)
    except OSError:  # a file system without hard links
        return write_whole(previous, current.read_bytes())
    os.replace(link, previous)
