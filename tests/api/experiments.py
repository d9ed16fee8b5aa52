"""What the tests of programs that use a library play with: the game that can be worked out by hand, and a small experiment."""

from __future__ import annotations

import tarfile
from pathlib import Path

from flowrl.api.agent import Agent, agent_of
from flowrl.api.skill import SkillEnvironment
from flowrl.evaluation import worth
from flowrl.evaluation.planner import PlannerSettings
from flowrl.paths import ExperimentPaths
from tests.evaluation.camp import Camp, camp_library

KEPT = Path(__file__).parents[1] / "experiment" / "begun_before" / "version_0_1_0.tar.gz"


def kept_experiment(folder: Path) -> ExperimentPaths:
    """Of Craftax-Classic, with one skill, Collect_Wood, and a tiny network."""
    with tarfile.open(KEPT) as archive:
        archive.extractall(folder, filter="data")
    return ExperimentPaths(folder)


def camp_agent(**how) -> Agent:
    library = camp_library(**how)
    return agent_of(library, Camp(), worth.planned_by(library, Camp.facts, worth.equal(library), PlannerSettings()))


def camp_skill(name: str, **how) -> SkillEnvironment:
    library = camp_library(**how)
    (skill,) = (skill for skill in library.skills if skill.name == name)
    return SkillEnvironment(library, Camp(), skill)
