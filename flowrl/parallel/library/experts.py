"""The experts of a library: ``skills/<i>_<Name>/expert_<i>_policy/params.pkl``, and ``global_latest.pkl``, which lists them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowrl import pickles
from flowrl.paths import ExperimentPaths


class Age(NamedTuple):
    """How long an expert has been trained."""

    total_frames: int
    acted_frames: int
    """Those in which it acted itself."""


class LibraryExpert(NamedTuple):
    """An expert as the library has it, or had it when a run was prepared."""

    params: Mapping[str, Any]
    age: Age


@dataclass(frozen=True)
class ExpertVersion:
    """An expert as one run leaves it.

    total_frames: its age in training. acted_frames: those in which it acted itself. acted: whether it acted in this
    run. params: nested dicts of numpy arrays. start: what it was when the run was prepared; None for a new expert, and where
    that was not kept.
    """

    skill_name: str
    global_expert_idx: int
    params: Mapping[str, Any]
    total_frames: int
    acted_frames: int
    acted: bool = True
    start: LibraryExpert | None = None


def save_expert_to_skills(version: ExpertVersion, base_dir: Path) -> Path:
    """Writes an expert to its place in the library, whole, and returns that path. A damaged file there is moved aside."""
    paths = ExperimentPaths(base_dir)
    path = paths.expert_params(version.global_expert_idx, version.skill_name)
    if path.exists() and library_age(base_dir, version.global_expert_idx, version.skill_name) is None:
        os.replace(path, path.with_name(f"{path.name}.damaged"))
    write_expert(path, version)
    return path


def write_expert(path: Path, version: ExpertVersion) -> None:
    """Writes ``params.pkl``, whole."""
    metadata = {
        "skill_name": version.skill_name,
        "global_expert_idx": version.global_expert_idx,
        "total_frames": version.total_frames,
        "acted_frames": version.acted_frames,
    }
    pickles.dump(path, {"format": "flowrl-expert", "version": 1, "params": version.params, "metadata": metadata})


def library_age(base_dir: Path, global_expert_idx: int, skill_name: str) -> Age | None:
    """The age of an expert in the library; None if it is missing or damaged."""
    expert = library_expert(ExperimentPaths(base_dir), global_expert_idx, skill_name)
    return expert and expert.age


def library_expert(paths: ExperimentPaths, global_expert_idx: int, skill_name: str) -> LibraryExpert | None:
    """An expert in the library; None if it is missing or damaged."""
    try:
        data = pickles.load(paths.expert_params(global_expert_idx, skill_name))
        metadata = data["metadata"]
        age = Age(int(metadata["total_frames"]), int(metadata.get("acted_frames", 0)))
        return LibraryExpert(data.get("params"), age)
    except (FileNotFoundError, pickles.ForeignPickle, KeyError, TypeError, AttributeError):
        return None


def are_same(params: Any, others: Any) -> bool:
    """Whether two sets of parameters have the same names, types, shapes and bits."""
    if isinstance(params, Mapping) and isinstance(others, Mapping):
        return params.keys() == others.keys() and all(are_same(params[name], others[name]) for name in params)
    if isinstance(params, Mapping) or isinstance(others, Mapping):
        return False
    one, other = np.asarray(params), np.asarray(others)
    return (one.dtype, one.shape) == (other.dtype, other.shape) and np.array_equal(_bits(one), _bits(other))


def fingerprint(params: Any) -> str:
    """One text for each set of parameters, from their names, types, shapes and bits."""
    digest = hashlib.sha256()
    _add(digest, params)
    return digest.hexdigest()


def _add(digest: Any, params: Any) -> None:
    if isinstance(params, Mapping):
        for name in sorted(params):
            digest.update(f"{name}(".encode())
            _add(digest, params[name])
            digest.update(b")")
    else:
        array = np.asarray(params)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(_bits(array))


def _bits(array: np.ndarray) -> np.ndarray:
    """uint8 ``[bytes]``; a NaN equals itself there."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def write_global_latest(paths: ExperimentPaths, changed: Collection[int] | None = None) -> None:
    """Writes ``global_latest.pkl``: the metadata of all experts, without any array.

    Only the experts with the indices ``changed`` (None: all), and those that the present file lacks, are read for it: an
    expert is tens of megabytes, and a library has many.
    """
    known = {} if changed is None else _listed_experts(paths)
    experts = {}
    for index, name in sorted(paths.library().items()):
        if str(index) in known and index not in changed:
            experts[str(index)] = known[str(index)]
        elif metadata := _metadata(paths.expert_params(index, name)):
            experts[str(index)] = metadata
    pickles.dump(paths.global_latest, {"format": "flowrl-library", "version": 1, "experts": experts})


def _metadata(params: Path) -> dict | None:
    """The metadata of an expert; None if it is missing or damaged: it is not listed until it is replaced."""
    try:
        return pickles.load(params)["metadata"]
    except (FileNotFoundError, pickles.ForeignPickle, KeyError, TypeError):
        return None


def _listed_experts(paths: ExperimentPaths) -> dict[str, dict]:
    try:
        return pickles.load(paths.global_latest)["experts"]
    except (FileNotFoundError, pickles.ForeignPickle, KeyError, TypeError):
        return {}
