"""The merge rule: which version of an expert stays in the library, and where it is applied.

Change :func:`merge_action` to change the rule.
"""

from __future__ import annotations

from typing import Literal

from flowrl.parallel.library.experts import Age, ExpertVersion, library_age, save_expert_to_skills
from flowrl.paths import ExperimentPaths

Action = Literal["new", "updated", "kept"]


def merge_action(version: ExpertVersion, in_library: Age | None) -> Action:
    """What a merge does with a run's version of an expert.

    The version with the most total frames stays; among equals, the one that acted in more of them. One that did not act in its
    run learned nothing there, and never replaces the library's, however many frames the run added to its age.

    Args:
        in_library: the age of the library's version; None where it has none, or a damaged one.

    Returns:
        ``new`` and ``updated``: the run's version goes into the library; ``kept``: the library's stays.
    """
    if in_library is None:
        return "new"
    return "updated" if version.acted and Age(version.total_frames, version.acted_frames) > in_library else "kept"


def planned_update(paths: ExperimentPaths, version: ExpertVersion) -> dict:
    """The action for this version, and the total frames of the one that is in the library afterwards."""
    present = _present_age(paths, version)
    action = merge_action(version, present)
    return {"action": action, "frames": present.total_frames if action == "kept" else version.total_frames}


def merge_expert(paths: ExperimentPaths, version: ExpertVersion) -> None:
    """Saves the version if the rule says so *now*: since a killed merge decided, another may have saved an older one."""
    if merge_action(version, _present_age(paths, version)) != "kept":
        save_expert_to_skills(version, paths.root)


def _present_age(paths: ExperimentPaths, version: ExpertVersion) -> Age | None:
    return library_age(paths.root, version.global_expert_idx, version.skill_name)
