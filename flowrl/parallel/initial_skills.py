"""Which skills' experts a new expert may start as a copy of: what ``--init_from`` and ``--init_trial`` come to in one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowrl.errors import BadInput
from flowrl.parallel.library.contents import skill_data_in_library
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.records import run_record
from flowrl.records.training_settings import AUTO_INIT, NO_INIT, RunSettings
from flowrl.skills.facts import GameFacts
from flowrl.skills.relatives import relatives
from flowrl.skills.spec import SkillSpec


def initial_skills(
    skill_name: str,
    skill_data: Mapping[str, Any],
    run: RunPaths,
    settings: RunSettings,
    paths: ExperimentPaths,
    completed_skills: Mapping[str, Mapping[str, Any]],
    facts: GameFacts | None,
) -> tuple[str | None, ...]:
    """The skills, the best candidate first; None is a fresh expert. Several are to be tried side by side.

    A run that was prepared before keeps its choice, whatever the library has got since, unless something else is wanted now.

    Args:
        completed_skills: by name, each with its ``expert_idx``.
        facts: of the game.

    Raises:
        BadInput: ``facts`` are needed and missing, or a skill's data cannot be read.
    """
    wanted = settings.init_from
    if wanted == NO_INIT:
        return (None,)
    indices = {name: data["expert_idx"] for name, data in completed_skills.items() if data.get("expert_idx") is not None}
    indices.pop(skill_name, None)
    if earlier := _earlier(run, settings, indices):
        return earlier
    if wanted != AUTO_INIT:
        return (wanted if wanted in indices else None,)
    if facts is None:
        raise BadInput(f"--init_from {AUTO_INIT} needs the facts of the game; give them to prepare_training_run")
    ordered = sorted(indices.items(), key=lambda item: item[1])
    found = {name: skill_data_in_library(paths, index, name) for name, index in ordered}
    library = {name: SkillSpec.from_data(data) for name, data in found.items() if "task_reward" in data}
    candidates = relatives(SkillSpec.from_data({**skill_data, "skill_name": skill_name}), library, facts)
    return tuple(candidates[: _num_tried(skill_data, settings)])


def _earlier(run: RunPaths, settings: RunSettings, indices: Mapping[str, int]) -> tuple[str | None, ...] | None:
    """What an earlier preparation of the run chose from the same settings, if the library still has it."""
    record = run_record.find(run.run_json)
    if record is None or (record.settings.init_from, record.settings.init_trial) != (settings.init_from, settings.init_trial):
        return None
    chosen = record.init_tried or (record.init_from,)
    return chosen if all(name is None or name in indices for name in chosen) else None


def _num_tried(skill_data: Mapping[str, Any], settings: RunSettings) -> int:
    """How many initial experts are tried: one where nothing is trained, or where rewards are on trial."""
    return 1 if skill_data.get("candidates") or not settings.total_timesteps else settings.init_trial
