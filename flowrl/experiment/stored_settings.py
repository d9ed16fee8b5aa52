"""An experiment's settings from one start to the next: ``config.json`` in its folder.

Written at the first start. Later starts take the defaults of all flags from it, so that ``--graph_path`` alone resumes
the experiment; flags given again override it, and are stored in turn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from flowrl.config import PROG, Settings, parse
from flowrl.envs.registry import game
from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.paths import ExperimentPaths
from flowrl.suggestions import unknown_choice
from flowrl.validation import first_fault

VERSION = 1
# Given again at every start.
_NOT_STORED = ("graph_path", "dry_run", "retry_failed", "continue_skill", "extra_timesteps")
# The same for all experts of a library: an expert from another game, or of another width, does not fit.
_FIXED = ("env_name", "layer_size")

# Flags that choose a language model under ``--proposer auto``.
_NAMES_A_MODEL = ("llm_name", "llm_base_url", "llm_mode")


@dataclass(frozen=True)
class StoredExperiment:
    """What config.json holds."""

    settings: Settings
    observation_size: int
    """Numbers in an observation, when the experiment was created."""


def resolve(arguments: Sequence[str], find: Callable[[ExperimentPaths], StoredExperiment | None] | None = None) -> Settings:
    """The settings of a command line, on top of those that its experiment has stored.

    Args:
        find: finds what an experiment has stored; the default reads its config.json alone.

    Raises:
        BadInput: a flag is wrong, config.json cannot be read, or a setting changed that must not change.
        SystemExit: 0, after ``--help`` was printed.
    """
    given = parse(Settings, arguments, PROG)
    paths = ExperimentPaths(given.graph_path)
    stored = (find or read)(paths)
    if stored is not None:
        given = _on_top_of(stored.settings, arguments, given.graph_path)
    observation_size = game(given.env_name).observation_size
    if stored is not None:
        _refuse_changes(stored, given, observation_size, paths)
    return given


def read(paths: ExperimentPaths) -> StoredExperiment | None:
    """The stored settings, None if the experiment has not been started yet.

    Raises:
        BadInput: flowrl did not write config.json, or a newer flowrl did.
    """
    try:
        content = read_json(paths.config)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BadInput(f"{paths.config} cannot be read ({error.strerror}); make it a readable file") from error
    return _from_json(content, paths)


def write(paths: ExperimentPaths, settings: Settings) -> None:
    """Stores the settings; does nothing if they are stored already.

    Raises:
        BadInput: since these were resolved, settings of another game or width were stored.
    """
    stored = read(paths)
    content = _to_json(settings)
    if stored is not None:
        _refuse_changes(stored, settings, content["observation_size"], paths)
    if stored is None or _to_json(stored.settings) != content:
        write_json(paths.config, content)


def _on_top_of(stored: Settings, arguments: Sequence[str], graph_path: Path) -> Settings:
    """The stored settings, with the arguments on top.

    The proposer stays the same, even if a key has appeared in the environment or is gone. Naming a model asks for one.
    """
    given = parse(Settings, arguments, PROG, dataclasses.replace(stored, graph_path=graph_path, proposer="auto"))
    names_a_model = any(getattr(given, name) != getattr(stored, name) for name in _NAMES_A_MODEL)
    if given.proposer != "auto" or (stored.proposer == "curriculum" and names_a_model):
        return given
    return dataclasses.replace(given, proposer=stored.proposer)


def _to_json(settings: Settings) -> dict[str, Any]:
    return {
        "version": VERSION,
        "observation_size": game(settings.env_name).observation_size,
        **{name: value for name, value in settings.to_json().items() if name not in _NOT_STORED},
    }


def _from_json(content: Any, paths: ExperimentPaths) -> StoredExperiment:
    version = content.get("version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise BadInput(f"{paths.config} was not written by flowrl; move it away, or choose another --graph_path")
    if version > VERSION:
        raise BadInput(
            f"{paths.config} has version {version}, and this flowrl reads version {VERSION}; update flowrl, or choose "
            "another --graph_path"
        )
    values = {name: value for name, value in content.items() if name not in ("version", "observation_size")}
    known = [field.name for field in dataclasses.fields(Settings)]
    if unknown := [name for name in values if name not in known]:
        raise BadInput(f"{paths.config}: {unknown_choice('setting', unknown[0], known)}")
    try:
        settings = TypeAdapter(Settings).validate_python(values)
        return StoredExperiment(settings, TypeAdapter(int).validate_python(content.get("observation_size")))
    except ValidationError as error:
        fault = first_fault(error, "observation_size")
        raise BadInput(f"{paths.config}: {fault.with_value}; correct that entry") from error
    except BadInput as error:
        raise BadInput(f"{paths.config}: {error}") from error


def _refuse_changes(stored: StoredExperiment, given: Settings, observation_size: int, paths: ExperimentPaths) -> None:
    for name in _FIXED:
        before, now = getattr(stored.settings, name), getattr(given, name)
        if before != now:
            raise BadInput(
                f"the experiment in {paths.root} has --{name} {before}, found {now}: its experts fit no other; "
                "leave the flag out, or choose another --graph_path"
            )
    if stored.observation_size != observation_size:
        raise BadInput(
            f"the observation of {given.env_name} had {stored.observation_size} numbers when the experiment in "
            f"{paths.root} was created, and has {observation_size} now: its experts do not fit; install the versions of flowrl "
            "and Craftax that created it, or choose another --graph_path"
        )
