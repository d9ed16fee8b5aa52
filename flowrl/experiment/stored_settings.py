"""An experiment's settings from one start to the next: ``config.json`` in its folder.

Written at the first start. Later starts take it for the defaults of all flags, so that ``--graph_path`` alone goes
on; flags given again override, and are then the stored ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from flowrl.config import PROG, Settings, parse, unknown_choice
from flowrl.envs.registry import game
from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.paths import ExperimentPaths

VERSION = 1
# Said anew at every start.
_NOT_STORED = ("graph_path", "dry_run", "retry_failed", "continue_skill", "extra_timesteps")
# What the experts of a library have in common: an expert that saw another world, or has another shape, does not fit.
_FIXED = ("env_name", "layer_size")

# What, given with ``--proposer auto``, asks for a language model.
_NAMES_A_MODEL = ("llm_name", "llm_base_url", "llm_mode")


@dataclass(frozen=True)
class StoredExperiment:
    """What config.json holds."""

    settings: Settings
    observation_size: int
    """Numbers in an observation, when the experiment was made."""


def resolve(
    arguments: Sequence[str], find: Callable[[ExperimentPaths], StoredExperiment | None] | None = None
) -> Settings:
    """The settings of a command line, on top of those that its experiment has stored.

    Args:
        find: where to find what an experiment has stored, if not in its config.json alone.

    Raises:
        BadInput: a flag is wrong, config.json cannot be read, or something changed that an experiment keeps.
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
    """The stored settings, None where the experiment has not been started yet.

    Raises:
        BadInput: config.json is not one of ours, or is from a newer flowrl.
    """
    try:
        content = read_json(paths.config)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BadInput(f"{paths.config} cannot be read ({error.strerror}); make it readable") from error
    return _from_json(content, paths)


def write(paths: ExperimentPaths, settings: Settings) -> None:
    """Stores the settings; does nothing where they are stored already.

    Raises:
        BadInput: others were stored since these were resolved, of another game or width.
    """
    stored = read(paths)
    content = _to_json(settings)
    if stored is not None:
        _refuse_changes(stored, settings, content["observation_size"], paths)
    if stored is None or _to_json(stored.settings) != content:
        write_json(paths.config, content)


def _on_top_of(stored: Settings, arguments: Sequence[str], graph_path: Path) -> Settings:
    """What the arguments change of the stored settings.

    Who proposes stays as it was, though the environment may hold a key now, or none any more. A model that is named anew is
    a wish for it.
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
        raise BadInput(f"{paths.config} is not flowrl's; move it away, or choose another --graph_path")
    if version > VERSION:
        raise BadInput(
            f"{paths.config} has version {version}, and this flowrl knows {VERSION}; update flowrl, or choose "
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
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"]) or "observation_size"
        raise BadInput(f"{paths.config}: {place}: {fault['msg']}, found {fault['input']!r}; mend that entry") from error
    except BadInput as error:
        raise BadInput(f"{paths.config}: {error}") from error


def _refuse_changes(
    stored: StoredExperiment, given: Settings, observation_size: int, paths: ExperimentPaths
) -> None:
    for name in _FIXED:
        before, now = getattr(stored.settings, name), getattr(given, name)
        if before != now:
            raise BadInput(
                f"--{name} of the experiment in {paths.root} is {before}, found {now}: its experts do not fit another; "
                "leave the flag out, or choose another --graph_path"
            )
    if stored.observation_size != observation_size:
        raise BadInput(
            f"the observation of {given.env_name} had {stored.observation_size} numbers when the experiment in "
            f"{paths.root} was made, and has {observation_size} now: its experts do not fit; install the flowrl and "
            "Craftax that it was made with, or choose another --graph_path"
        )
