"""What a run observed of its skill goes with the skill into the library."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.paths import SKILL_DATA, RunPaths
from flowrl.records import result as run_result
from flowrl.records.observed import Observed


def keep_observed(run: RunPaths) -> None:
    """Writes into a run's skill data what its result observed, and adds the gains that are beyond doubt. May be repeated."""
    result = run_result.find(run.result)
    data = _skill_data(run)
    if result and result.observed and data:
        write_json(run.folder / SKILL_DATA, with_observed(data, result.observed))


def with_observed(data: dict[str, Any], observed: Observed) -> dict[str, Any]:
    """Skill data with what was observed, and with the gains that it adds."""
    added = {resource: {"per": 0, "fixed": 1} for resource in observed.added_gains}
    return data | {"gains": added | (data.get("gains") or {}), "observed": asdict(observed)}


def _skill_data(run: RunPaths) -> dict[str, Any] | None:
    try:
        data = read_json(run.folder / SKILL_DATA)
    except (FileNotFoundError, BadInput):
        return None
    return data if isinstance(data, dict) else None
