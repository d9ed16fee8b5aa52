"""What the newest rehearsal saw of a library's skills: how they do where they are used.

In whole episodes a skill is tried late, far from what it needs, or with better tools than on its own plan, and some skills
are hardly ever reached on their own plans. So where a library was rehearsed, the planner goes by that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from flowrl.errors import BadInput
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.files import read_json
from flowrl.paths import ExperimentPaths


@dataclass(frozen=True)
class Seen:
    """What a rehearsal knows of one skill, as its ``experience.json`` has it."""

    success: float
    """How often a try succeeded lately; 0 to 1."""
    steps: float
    """Of a try, for each unit of ``n``."""


def seen(paths: ExperimentPaths, library: Library) -> dict[str, Seen]:
    """By skill, for those whose experts have not been trained since the newest rehearsal.

    Raises:
        BadInput: its records are damaged.
    """
    for name in reversed(paths.rehearsals()):
        path = paths.rehearsal_experience(name)
        try:
            known = TypeAdapter(dict[str, Seen]).validate_python(read_json(path))
            merged = read_json(paths.rehearsal_merge(name))["expert_updates"]
        except FileNotFoundError:
            continue  # it has not been merged yet
        except (ValidationError, KeyError, TypeError):
            beside = paths.rehearsal_merge(name).name
            raise BadInput(f"{path}, or {beside} beside it, is damaged; restore it from a copy, or remove it") from None
        return {skill.name: known[skill.name] for skill in library.skills if skill.name in known and _is_same(skill, merged)}
    return {}


def _is_same(skill: LibrarySkill, merged: Mapping[str, Any]) -> bool:
    """Whether the skill's expert is the one that a merge has left in the library: each training makes it older."""
    left = merged.get(str(skill.index))
    return left is not None and skill.total_frames is not None and left["frames"] == skill.total_frames
