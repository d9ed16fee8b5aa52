"""What a library is measured with: one batch of environments, all experts at hand, one set of compiled programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from flowrl.envs.adapter import GameAdapter
from flowrl.envs.readings import goal_names
from flowrl.evaluation import episodes, skill_tests
from flowrl.evaluation.catalogue import NO_SKILL, make_catalogue
from flowrl.evaluation.composition import Composition, Games, Planned, compose
from flowrl.evaluation.episodes import Episodes
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.evaluation.planner import PlannerSettings, Weights, explain
from flowrl.evaluation.skill_tests import SkillTest
from flowrl.skills.module import compile_module
from flowrl.training.learning import experts
from flowrl.training.learning.networks import ExpertNetwork, Params
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing.environments import Stage
from flowrl.training.playing.programs import Programs, Source, compile_programs
from flowrl.training.playing.rollout import learned_policy

LEAST_RECOVERY = 0.5
"""By how much a success has to raise a vital for the skill to be taken as what recovers it."""


@dataclass(frozen=True)
class Bench:
    """A library with what it takes to play it."""

    library: Library
    adapter: GameAdapter
    programs: Programs
    params: Params
    """``[S padded, ...]``: of the experts, in the order of the library's skills."""

    @property
    def num_envs(self) -> int:
        return self.programs.world.num_envs


def set_up(library: Library, adapter: GameAdapter, num_envs: int) -> Bench:
    """
    Args:
        num_envs: that play side by side.
    """
    network = ExpertNetwork(adapter.layout, adapter.num_actions, library.layer_size, library.mixed_precision)
    programs = compile_programs(Source(adapter, network, Hyperparameters(), num_envs), len(library.skills))
    return Bench(library, adapter, programs, experts.stack([skill.params for skill in library.skills]))


def measured(bench: Bench, skill: LibrarySkill, seed: int) -> SkillTest:
    """The skill's plan with the library's experts as they are now, one episode in each environment."""

    def stage_of(judge) -> Stage:
        return Stage(bench.programs.world, bench.programs.acting, judge)

    key = jax.random.fold_in(jax.random.key(seed), skill.index)
    return skill_tests.measure_skill(
        stage_of, bench.adapter, bench.library, skill, lambda stage: learned_policy(stage, bench.params), key, bench.num_envs
    )


def planned_by(bench: Bench, tests: dict[str, SkillTest], settings: PlannerSettings) -> tuple[Planned, tuple[str, ...]]:
    """What the planner goes by, from what was measured of each skill.

    Returns:
        it, and the names of the skills that recover each vital ("" where none does).
    """
    library = bench.library
    catalogue, _ = make_catalogue(library, bench.adapter.facts, _also_gained(tests))
    found = [tests[skill.name] for skill in library.skills]
    slowest = [float(skill.own_max_steps) for skill in library.skills]
    steps = [test.steps if np.isfinite(test.steps) else most for test, most in zip(found, slowest)]
    upkeep = [best_for(vital, found, settings.min_success) for vital in range(len(bench.adapter.facts.vitals))]
    weights = Weights(
        success=np.array([test.own_rate for test in found], np.float32),
        steps=np.array(steps, np.float32),
        upkeep=np.array(upkeep, np.int32),
    )
    names = tuple("" if place == NO_SKILL else library.skills[place].name for place in upkeep)
    return Planned(catalogue, jax.device_put(weights), settings), names


def planned_alike(bench: Bench, settings: PlannerSettings) -> Planned:
    """For a library whose skills were not measured: all are taken for equally good, and none recovers a vital."""
    catalogue, _ = make_catalogue(bench.library, bench.adapter.facts)
    num_skills, num_vitals = len(bench.library.skills), len(bench.adapter.facts.vitals)
    weights = Weights(np.ones(num_skills, np.float32), np.ones(num_skills, np.float32), np.full(num_vitals, NO_SKILL, np.int32))
    return Planned(catalogue, jax.device_put(weights), settings)


def best_for(vital: int, found: list[SkillTest], min_success: float) -> int:
    """The skill that raises a vital most in a step; `NO_SKILL` where none raises it."""
    speeds = [
        test.own_rate * test.recovers[vital] / test.steps
        if test.own_rate >= min_success and test.recovers[vital] >= LEAST_RECOVERY
        else 0.0
        for test in found
    ]
    return int(np.argmax(speeds)) if max(speeds) > 0 else NO_SKILL


def play_whole(
    bench: Bench,
    planned: Planned,
    num_episodes: int,
    max_steps: int,
    seed: int,
    on_step: Callable[[int, int], None] = lambda ended, wanted: None,
    log: Callable[[str], None] | None = None,
) -> Episodes:
    """Whole episodes in fresh worlds.

    Args:
        log: takes a line for each choice of the planner in the first episode.
    """
    composition, names = composed(bench, max_steps)
    key = jax.random.key(seed)
    on_choice = _logger(bench, planned, names, log) if log else None
    return episodes.play(composition, bench.params, planned, key, num_episodes, on_step, on_choice)


def composed(bench: Bench, max_steps: int) -> tuple[Composition, object]:
    """The library's own programs for whole episodes, and the names of what is planned by."""
    _, names = make_catalogue(bench.library, bench.adapter.facts)
    features = bench.adapter.facts.feature_names
    functions = [compile_module(skill.module_text, bench.adapter.scope, features)[-1] for skill in bench.library.skills]
    programs = bench.programs
    return compose(programs.world, programs.acting, bench.adapter, functions, names, max_steps), names


def _also_gained(tests: dict[str, SkillTest]) -> dict[str, list[str]]:
    return {name: [goal for goal, share in test.brings.items() if share >= skill_tests.USUAL] for name, test in tests.items()}


def _logger(bench: Bench, planned: Planned, names, log: Callable[[str], None]) -> Callable[[Games, int], None]:
    from flowrl.envs.readings import make_reader

    read = jax.jit(make_reader(bench.adapter, names.resources, names.sights))
    vitals = tuple(vital.name for vital in bench.adapter.facts.vitals)

    def on_choice(games: Games, number: int) -> None:
        features = jax.tree.map(lambda leaf: leaf[0], games.scene.features)
        failures, readings = games.course.failures[0], read(features)
        goals = int(np.sum(jax.device_get(readings.goals)))
        line = explain(names, planned.catalogue, planned.weights, planned.settings, readings, failures, vitals)
        log(f"step {number}, {goals} of {len(goal_names(bench.adapter))} unlocked: {line}")

    return on_choice
