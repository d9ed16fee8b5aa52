"""Which skills ``--continue_skill below_goal`` trains further."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowrl.evaluation.library import frames_trained
from flowrl.files import read_json
from flowrl.paths import ExperimentPaths
from flowrl.records.learned import is_done_by_chance
from flowrl.report.summary import Skill


def below_goal(paths: ExperimentPaths, skills: Sequence[Skill], goal: float) -> list[str]:
    """The completed skills that succeed less often than ``goal``, in the order of their experts.

    What counts is ``evaluation.json``, if it is about the library as it is now; else what the skills' trainings measured.
    """
    measured = _evaluated(paths)
    rates = {skill["skill_name"]: measured.get(skill["skill_name"], skill["success_rate"]) for skill in skills}
    return [
        skill["skill_name"]
        for skill in sorted(skills, key=lambda skill: -1 if skill["expert_idx"] is None else skill["expert_idx"])
        if skill["status"] == "completed" and not skill["never_done"] and not is_done_by_chance(skill["random_success_rate"])
        if (rates[skill["skill_name"]] or 0.0) < goal
    ]


def _evaluated(paths: ExperimentPaths) -> Mapping[str, float]:
    """The success rate of each skill by the newest evaluation; none if the library has been trained since."""
    try:
        found = read_json(paths.evaluation)
        if found["frames"] != frames_trained(paths):
            return {}
        return {skill["skill_name"]: skill["success_rate"]["value"] for skill in found["skills"] if skill["success_rate"]}
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return {}  # without an evaluation, or with one that was written by hand
