"""Opens an experiment for a program that uses what was learned: its library, its game, and one of its skills by name."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax

from flowrl.envs.adapter import GameAdapter
from flowrl.envs.registry import game, make_adapter
from flowrl.errors import BadInput
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.experiment import stored_library
from flowrl.paths import ExperimentPaths
from flowrl.suggestions import suggestion


class Opened(NamedTuple):
    """An experiment in use."""

    paths: ExperimentPaths
    library: Library
    adapter: GameAdapter


def opened(graph_path: Path | str) -> Opened:
    """The experiment in a folder.

    Raises:
        BadInput: there is none, its library is empty or damaged, or JAX computes with 64 bits.
    """
    paths, stored = stored_library.find(graph_path)
    entry = game(stored.settings.env_name)
    library = stored_library.load(paths, entry)
    if jax.config.jax_enable_x64:
        raise BadInput("games and experts need 32 bits, and jax_enable_x64 is on; turn it off (unset JAX_ENABLE_X64)")
    return Opened(paths, library, make_adapter(entry.env_name))


def skill_of(library: Library, skill_name: str) -> LibrarySkill:
    """One skill of a library.

    Raises:
        BadInput: it has no such skill; names close ones.
    """
    for skill in library.skills:
        if skill.name == skill_name:
            return skill
    names = [skill.name for skill in library.skills]
    raise BadInput(f"unknown skill {skill_name!r}; {suggestion(str(skill_name), names)}")
