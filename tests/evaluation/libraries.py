"""Libraries for tests: the built-in curriculum of Craftax-Classic without any expert, and real states written as levels."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from flowrl.envs.craftax.facts_classic import FACTS
from flowrl.envs.readings import Readings
from flowrl.evaluation.catalogue import Catalogue, Names, make_catalogue
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.evaluation.planner import Past, Weights
from flowrl.proposers.curriculum import load_curriculum
from flowrl.skills.explore import EXPLORE, LONGEST_EPISODE, explore
from flowrl.skills.plan import build_plan
from flowrl.skills.spec import SkillSpec

GOALS = FACTS.members("achievement")
VITALS = tuple(vital.name for vital in FACTS.vitals)
MAX_STEPS = 200


def classic_specs() -> dict[str, SkillSpec]:
    return {spec.name: spec for spec in load_curriculum("craftax_classic", FACTS)}


def classic_library(names=None, explores=False) -> Library:
    """The curriculum's skills, or some of them, as if they were completed; with Explore before them."""
    specs = {EXPLORE: explore(FACTS)} if explores else {}
    specs |= {name: spec for name, spec in classic_specs().items() if names is None or name in names}
    steps = {name: LONGEST_EPISODE if spec.never_done else MAX_STEPS for name, spec in specs.items()}
    skills = [LibrarySkill(i, name, spec, "", (), (steps[name],), None, None) for i, (name, spec) in enumerate(specs.items())]
    return Library(FACTS.env_name, 4, False, tuple(skills), 0)


def classic_catalogue(names=None, explores=False) -> tuple[Catalogue, Names]:
    return make_catalogue(classic_library(names, explores), FACTS)


def plan_names(name: str) -> list[str]:
    """The skills of the plan of one of the curriculum's skills."""
    specs = classic_specs()
    return [task["skill_name"] for task in build_plan(specs[name], specs, FACTS)]


def weights(names: Names, success=0.9, steps=20.0, **by_skill) -> Weights:
    """Equal weights for all; ``Skill=(success, steps)`` for some."""
    pairs = [by_skill.get(name, (success, steps)) for name in names.skills]
    return Weights(*(jnp.asarray(part, jnp.float32) for part in zip(*pairs)))


def readings(names: Names, unlocked=(), seen=None, vitals=None, **held) -> Readings:
    """Of a player that holds so much, ``near_CRAFTING_TABLE=1`` for a nearness; all in view, all vitals full unless given."""
    levels = {(name.replace("near_", "near:") if name.startswith("near_") else name): level for name, level in held.items()}
    assert levels.keys() <= set(names.resources), levels
    level_of = dict.fromkeys(VITALS, 9) | (vitals or {})
    return Readings(
        levels=np.array([levels.get(name, 0) for name in names.resources], np.float32),
        vitals=np.array([level_of[vital] for vital in VITALS], np.float32),
        goals=np.array([goal in unlocked for goal in names.goals], bool),
        seen=np.array([seen is None or sight[1] in seen for sight in names.sights], bool),
        is_busy=np.bool_(False),
    )


def past(names: Names, upkeep_failures=0, **failed) -> Past:
    """What has failed so far: tasks by skill, and tasks to restore a vital."""
    failures = np.array([failed.get(name, 0) for name in names.skills], np.int32)
    return Past(failures, np.int32(upkeep_failures), np.zeros(len(failures), np.float32))
