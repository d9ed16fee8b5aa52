"""The library of an experiment, found by the folder that a user names."""

from __future__ import annotations

from pathlib import Path

from flowrl.envs.registry import GameEntry
from flowrl.errors import BadInput
from flowrl.evaluation import library
from flowrl.evaluation.library import Library
from flowrl.experiment import stored_settings
from flowrl.experiment.stored_settings import StoredExperiment
from flowrl.parallel.library.locks import merge_lock
from flowrl.paths import ExperimentPaths, given_path


def find(graph_path: Path | str) -> tuple[ExperimentPaths, StoredExperiment]:
    """The experiment in a folder.

    Raises:
        BadInput: there is none.
    """
    paths = ExperimentPaths(given_path(graph_path, "GRAPH_PATH"))
    stored = stored_settings.read(paths)
    if stored is None:
        raise BadInput(f"{paths.root} holds no experiment: there is no {paths.config}; name the folder of one")
    return paths, stored


def load(paths: ExperimentPaths, entry: GameEntry) -> Library:
    """The library; no merge changes it meanwhile.

    Raises:
        BadInput: it is empty, damaged or of another game (`library.load`).
    """
    if not paths.skills.is_dir():
        return library.load(paths, entry.facts)  # which says what is missing
    with merge_lock(paths, doing="reading the library"):
        return library.load(paths, entry.facts)
