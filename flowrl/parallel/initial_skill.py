"""Which skill's expert a new expert starts as a copy of: what ``--init_from`` comes to in one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowrl.errors import BadInput
from flowrl.parallel.library.contents import skill_data_in_library
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.records import run_record
from flowrl.records.training_settings import AUTO_INIT, NO_INIT
from flowrl.skills.facts import GameFacts
from flowrl.skills.relatives import related
from flowrl.skills.spec import SkillSpec


def initial_skill(
    skill_name: str,
    skill_data: Mapping[str, Any],
    run: RunPaths,
    wanted: str,
    paths: ExperimentPaths,
    completed_skills: Mapping[str, Mapping[str, Any]],
    facts: GameFacts | None,
) -> str | None:
    """The skill, None for a fresh expert.

    A run that was prepared before keeps its choice, whatever the library has got since, unless something else is wanted now.

    Args:
        wanted: ``auto``, ``none``, or the name of a skill.
        completed_skills: by name, each with its ``expert_idx``.
        facts: of the game.

    Raises:
        BadInput: ``facts`` are needed and missing, or a skill's data cannot be read.
    """
    if wanted == NO_INIT:
        return None
    indices = {name: data["expert_idx"] for name, data in completed_skills.items() if data.get("expert_idx") is not None}
    indices.pop(skill_name, None)
    earlier = run_record.find(run.run_json)
    if earlier and earlier.settings.init_from == wanted and (earlier.init_from is None or earlier.init_from in indices):
        return earlier.init_from
    if wanted != AUTO_INIT:
        return wanted if wanted in indices else None
    if facts is None:
        raise BadInput(f"--init_from {AUTO_INIT} needs the facts of the game; give them to prepare_training_run")
    ordered = sorted(indices.items(), key=lambda item: item[1])
    found = {name: skill_data_in_library(paths, index, name) for name, index in ordered}
    library = {name: SkillSpec.from_data(data) for name, data in found.items() if "task_reward" in data}
    return related(SkillSpec.from_data({**skill_data, "skill_name": skill_name}), library, facts)
