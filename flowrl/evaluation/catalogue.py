"""A library as arrays, in the form in which the planner reads it: the same for every environment, and fixed while it plays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from flowrl.errors import BadInput
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.skills.facts import GameFacts, Kind, Vital
from flowrl.skills.graph import goals_of, needs
from flowrl.skills.plan import build_plan
from flowrl.skills.sights import Sight, sights_of
from flowrl.skills.spec import SkillSpec

NO_SKILL = -1
_EXPLORING_STEPS = 200
"""A skill that is never done acts for so many steps at most before the next task is chosen: there may be something to do."""


class Catalogue(NamedTuple):
    """``S`` skills, ``R`` resources that some skill needs, ``P`` the longest plan's tasks before its last, ``A`` achievements,
    ``K`` kinds of things that can be in view."""

    needs_per: jax.Array
    """float32 ``[S, R]``: of what must hold when the skill starts, the part for each unit of ``n``."""
    needs_fixed: jax.Array
    consumes_per: jax.Array
    consumes_fixed: jax.Array
    gains_per: jax.Array
    gains_fixed: jax.Array
    is_near: jax.Array
    """bool ``[R]``: lost as soon as the player walks away."""
    is_stock: jax.Array
    """bool ``[R]``."""
    plans: jax.Array
    """int32 ``[S, P]``: the skills of the tasks before a skill's own, in the order of its plan; `NO_SKILL` fills the front."""
    has_plan: jax.Array
    """bool ``[S]``."""
    crafts: jax.Array
    """bool ``[S]``: it uses something up, so it can be done on the spot once all that it needs is there."""
    makes: jax.Array
    """bool ``[S]``: it uses something up for something to hold, in one step."""
    goals: jax.Array
    """bool ``[S, A]``: the achievements that come with the skill."""
    restores: jax.Array
    """bool ``[S, V]``: the vitals that the skill raises."""
    low: jax.Array
    """float32 ``[V]``: a vital is restored only below this, and below what the planner's settings say."""
    pays: jax.Array
    """float32 ``[V]``: for each point by which what restores the vital raises it; 0: the skill's code says what it pays."""
    values: jax.Array
    """float32 ``[A]``: what an achievement is worth."""
    sought: jax.Array
    """bool ``[S, K]``: what its reward looks for."""
    max_steps: jax.Array
    """int32 ``[S]``: steps for each unit of ``n``."""
    explores: jax.Array
    """bool ``[S]``: it is never done, and plays for the game's own reward."""


class Names(NamedTuple):
    """What the axes of a catalogue stand for."""

    skills: tuple[str, ...]
    resources: tuple[str, ...]
    goals: tuple[str, ...]
    sights: tuple[Sight, ...]


def make_catalogue(
    library: Library, facts: GameFacts, also_gained: Mapping[str, Sequence[str]] | None = None
) -> tuple[Catalogue, Names]:
    """
    Args:
        also_gained: of skills that declare no achievement, those that come with them, as measured.
    """
    skills, specs, names = library.skills, library.specs, names_of(library, facts)
    _, resources, goals, sights = names
    plans = [_plan_before(skill, specs, facts) for skill in skills]
    gained = [goals_of(skill.spec, facts) or set((also_gained or {}).get(skill.name, ())) for skill in skills]
    amounts = {
        "needs": [_needs(skill.spec, facts) for skill in skills],
        "consumes": [_pairs(skill.spec.consumes) for skill in skills],
        "gains": [_pairs(skill.spec.gains) for skill in skills],
    }
    linear = {
        f"{role}_{part}": _matrix(rows, resources, place)
        for role, rows in amounts.items()
        for place, part in enumerate(("per", "fixed"))
    }
    catalogue = Catalogue(
        **linear,
        is_near=np.array([facts.kind(resource) is Kind.NEARNESS for resource in resources], bool),
        is_stock=np.array([facts.kind(resource) is Kind.STOCK for resource in resources], bool),
        plans=_padded([plan or [] for plan in plans], library),
        has_plan=np.array([plan is not None for plan in plans], bool),
        crafts=np.array([bool(skill.spec.consumes) for skill in skills], bool),
        makes=np.array([_makes(skill.spec, facts) for skill in skills], bool),
        goals=np.array([[goal in of_skill for goal in goals] for of_skill in gained], bool).reshape(len(skills), len(goals)),
        restores=np.array(
            [[_restores(skill, of_skill, vital) for vital in facts.vitals] for skill, of_skill in zip(skills, gained)], bool
        ).reshape(len(skills), len(facts.vitals)),
        low=np.array([vital.low for vital in facts.vitals], np.float32),
        pays=np.array([vital.pays for vital in facts.vitals], np.float32),
        values=np.array([facts.goal_values.get(goal, 1.0) for goal in goals], np.float32),
        sought=_members([sights_of(skill.spec, facts) for skill in skills], sights),
        max_steps=np.array([_max_steps(skill) for skill in skills], np.int32),
        explores=np.array([skill.spec.never_done for skill in skills], bool),
    )
    return jax.device_put(catalogue), names


def names_of(library: Library, facts: GameFacts) -> Names:
    """The axes of a library's catalogue."""
    specs = library.specs
    resources = {resource for spec in specs.values() for resource in _needs(spec, facts)}
    sights = dict.fromkeys(sight for spec in specs.values() for sight in sights_of(spec, facts))
    return Names(tuple(specs), tuple(sorted(resources)), facts.members(facts.goals), tuple(sights))


def _makes(spec: SkillSpec, facts: GameFacts) -> bool:
    return bool(spec.consumes) and any(resource in facts.stocks or resource in facts.possessions for resource in spec.gains)


def _restores(skill: LibrarySkill, goals: set[str], vital: Vital) -> bool:
    return not (goals.isdisjoint(vital.restored_by) and set(skill.spec.gains).isdisjoint(vital.restored_with))


def _max_steps(skill: LibrarySkill) -> int:
    return min(skill.own_max_steps, _EXPLORING_STEPS) if skill.spec.never_done else skill.own_max_steps


def _plan_before(skill: LibrarySkill, specs: Mapping[str, SkillSpec], facts: GameFacts) -> list[str] | None:
    """The tasks before a skill's own by today's library, else those that it was trained with; None without any."""
    try:
        plan = [task["skill_name"] for task in build_plan(skill.spec, specs, facts)]
    except BadInput:
        plan = [task.skill_name for task in skill.plan]
    return plan[:-1] if all(name in specs for name in plan) else None


def _needs(spec: SkillSpec, facts: GameFacts) -> dict[str, tuple[float, float]]:
    """What must hold when a skill starts. Being where episodes start counts too: a player may have left that place."""
    resources = [*needs(spec, facts), *([facts.start_place] if facts.start_place in spec.requires else [])]
    return {resource: _needed(spec, resource) for resource in resources}


def _needed(spec: SkillSpec, resource: str) -> tuple[float, float]:
    """What must be there of a resource, linear in ``n``: of required and consumed, the larger one for one unit."""
    amounts = [of[resource] for of in (spec.requires, spec.consumes) if resource in of]
    most = max(amounts, key=lambda amount: (amount.at(1), amount.per))
    return most.per, most.fixed


def _pairs(amounts: Mapping) -> dict[str, tuple[float, float]]:
    return {resource: (amount.per, amount.fixed) for resource, amount in amounts.items()}


def _matrix(rows: Sequence[Mapping[str, tuple[float, float]]], resources: Sequence[str], part: int) -> np.ndarray:
    found = [[row[resource][part] if resource in row else 0.0 for resource in resources] for row in rows]
    return np.array(found, np.float32).reshape(len(rows), len(resources))


def _members(rows: Sequence[Sequence[Sight]], sights: Sequence[Sight]) -> np.ndarray:
    return np.array([[sight in row for sight in sights] for row in rows], bool).reshape(len(rows), len(sights))


def _padded(plans: Sequence[Sequence[str]], library: Library) -> np.ndarray:
    numbers = {skill.name: position for position, skill in enumerate(library.skills)}
    longest = max(1, max(map(len, plans)))
    rows = [[NO_SKILL] * (longest - len(plan)) + [numbers[name] for name in plan] for plan in plans]
    return np.array(rows, np.int32)
