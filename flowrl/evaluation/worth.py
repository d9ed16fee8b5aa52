"""How good each skill is, and what the planner makes of it: as an evaluation measured it, or all of them equally good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from pydantic import TypeAdapter, ValidationError

from flowrl.errors import BadInput
from flowrl.evaluation import findings, rehearsed
from flowrl.evaluation.catalogue import make_catalogue
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.evaluation.planner import Planned, PlannerSettings, Weights
from flowrl.evaluation.rehearsed import Seen
from flowrl.evaluation.skill_tests import USUAL, SkillTest
from flowrl.files import read_json
from flowrl.paths import ExperimentPaths
from flowrl.skills.facts import GameFacts
from flowrl.validation import first_fault


class Worth(NamedTuple):
    """What is known of one skill."""

    success: float
    """How often it is done, once its turn has come; 0 to 1."""
    steps: float | None
    """Of a try, for each unit of ``n``; None if that is not known."""
    unlocks: Mapping[str, float]
    """The share of its successes that unlocked an achievement, by achievement."""


_EQUAL = Worth(success=1.0, steps=1.0, unlocks={})
NEVER = Worth(success=0.0, steps=None, unlocks={})
"""A skill with nothing to succeed at."""


@dataclass(frozen=True)
class _StoredSkill:
    """What is read of a skill in `evaluation.json`."""

    skill_name: str
    own_success_rate: float | None
    """None where there is nothing to succeed at."""
    steps: float | None
    unlocks: dict[str, float]


def tested(test: SkillTest) -> Worth:
    """As a test showed it."""
    return Worth(test.own_rate, test.steps if np.isfinite(test.steps) else None, test.brings)


def as_rehearsed(worths: Mapping[str, Worth], seen: Mapping[str, Seen]) -> dict[str, Worth]:
    """With what a rehearsal saw of some skills in place of their success and steps."""
    return {
        name: worth._replace(success=seen[name].success, steps=seen[name].steps)
        if name in seen and worth is not NEVER
        else worth
        for name, worth in worths.items()
    }


def equal(library: Library) -> dict[str, Worth]:
    """All skills equally good: where nothing was measured."""
    return {skill.name: _EQUAL for skill in library.skills}


def stored(paths: ExperimentPaths, library: Library) -> dict[str, Worth]:
    """As the experiment's last ``flowrl evaluate`` measured it; all equally good before the first one.

    A skill that was completed since then is as good as its training measured it. One that was rehearsed is as good as the
    rehearsal saw it, evaluated or not.

    Raises:
        BadInput: evaluation.json is not one of this library, or of a newer version of flowrl.
    """
    try:
        measured = _read(paths, library.env_name)
    except FileNotFoundError:
        worths = equal(library)
    else:
        worths = {skill.name: measured.get(skill.name) or _trained(skill) for skill in library.skills}
    return as_rehearsed(worths, rehearsed.seen(paths, library))


def planned_by(library: Library, facts: GameFacts, worths: Mapping[str, Worth], settings: PlannerSettings) -> Planned:
    """What the planner goes by.

    Args:
        worths: of every skill of the library, by name.
    """
    usual = {name: [goal for goal, share in worth.unlocks.items() if share >= USUAL] for name, worth in worths.items()}
    catalogue, _ = make_catalogue(library, facts, usual)
    found = [worths[skill.name] for skill in library.skills]
    steps = [skill.own_max_steps if worth.steps is None else worth.steps for worth, skill in zip(found, library.skills)]
    return Planned(catalogue, _weights([worth.success for worth in found], steps), settings)


def _weights(success: Sequence[float], steps: Sequence[float]) -> Weights:
    return jax.device_put(Weights(np.array(success, np.float32), np.array(steps, np.float32)))


def _trained(skill: LibrarySkill) -> Worth:
    rate = skill.result.success_rate if skill.result else None
    return _EQUAL if rate is None else Worth(rate, None, {})


def _read(paths: ExperimentPaths, env_name: str) -> dict[str, Worth]:
    content = read_json(paths.evaluation)
    again = f"run flowrl evaluate {paths.root} again, or remove the file"
    found: dict[str, Any] = content if isinstance(content, dict) else {}
    if found.get("version") != findings.VERSION:
        raise BadInput(
            f"{paths.evaluation} has version {found.get('version')}, and this flowrl reads version {findings.VERSION}; {again}"
        )
    if found.get("env_name") != env_name:
        raise BadInput(f"{paths.evaluation} is of {found.get('env_name')}, and the experiment's game is {env_name}; {again}")
    try:
        skills = TypeAdapter(list[_StoredSkill]).validate_python(found.get("skills"))
    except ValidationError as error:
        raise BadInput(f"{paths.evaluation} is damaged: {first_fault(error, 'skills')}; {again}") from error
    return {skill.skill_name: _worth(skill) for skill in skills}


def _worth(skill: _StoredSkill) -> Worth:
    return NEVER if skill.own_success_rate is None else Worth(skill.own_success_rate, skill.steps, skill.unlocks)
