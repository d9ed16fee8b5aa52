"""What a library is measured with: one batch of environments, all experts at hand, one set of compiled programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from flowrl.envs.adapter import GameAdapter
from flowrl.envs.readings import make_reader
from flowrl.evaluation import episodes, skill_tests, worth
from flowrl.evaluation.catalogue import Names, names_of
from flowrl.evaluation.composition import Composition, Games, compose
from flowrl.evaluation.episodes import Episodes
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.evaluation.planner import Planned, PlannerSettings, make_explain
from flowrl.evaluation.rehearsed import Seen
from flowrl.evaluation.skill_tests import SkillTest
from flowrl.skills.module import compile_module
from flowrl.training.learning import experts
from flowrl.training.learning.networks import ExpertNetwork, Params
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing.environments import Stage
from flowrl.training.playing.programs import Programs, Source, compile_programs
from flowrl.training.playing.rollout import learned_policy


@dataclass(frozen=True)
class Bench:
    """A library with what it takes to play it."""

    library: Library
    adapter: GameAdapter
    programs: Programs
    params: Params
    """``[S padded, ...]``: of the experts, in the order of the library's skills; further ones behind them."""

    @property
    def num_envs(self) -> int:
        return self.programs.world.num_envs


def set_up(library: Library, adapter: GameAdapter, num_envs: int, further: Sequence[Params] = ()) -> Bench:
    """
    Args:
        num_envs: that play side by side.
        further: parameters of experts that are at hand beside the library's.
    """
    network = ExpertNetwork(adapter.layout, adapter.num_actions, library.layer_size, library.mixed_precision)
    params = [*(skill.params for skill in library.skills), *further]
    programs = compile_programs(Source(adapter, network, Hyperparameters(), num_envs), len(params))
    return Bench(library, adapter, programs, experts.stack(params))


def measured(bench: Bench, skill: LibrarySkill, seed: int) -> SkillTest:
    """The skill's plan with the library's experts as they are now, one episode in each environment."""
    judge = skill_tests.judge_of(bench.adapter, bench.library, skill, bench.num_envs)
    stage = Stage(bench.programs.world, bench.programs.acting, judge)
    key = jax.random.fold_in(jax.random.key(seed), skill.index)
    return skill_tests.measure_skill(stage, bench.adapter, skill, learned_policy(stage, bench.params), key)


def planned_by(
    bench: Bench, tests: Mapping[str, SkillTest], settings: PlannerSettings, seen: Mapping[str, Seen] | None = None
) -> Planned:
    """What the planner goes by, from what was measured of each skill; one that was not tested never succeeds.

    Args:
        seen: what a rehearsal saw of some of them; it counts more.
    """
    worths = {skill.name: worth.NEVER for skill in bench.library.skills}
    worths |= {name: worth.tested(test) for name, test in tests.items()}
    worths = worth.as_rehearsed(worths, seen or {})
    return worth.planned_by(bench.library, bench.adapter.facts, worths, settings)


def equally_good(bench: Bench, settings: PlannerSettings) -> Planned:
    """What the planner goes by where the skills were not measured."""
    return worth.planned_by(bench.library, bench.adapter.facts, worth.equal(bench.library), settings)


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


def composed(bench: Bench, max_steps: int) -> tuple[Composition, Names]:
    """The library's own programs for whole episodes, and the names of what is planned by."""
    return composition_of(bench.library, bench.adapter, bench.programs, max_steps)


def composition_of(library: Library, adapter: GameAdapter, programs: Programs, max_steps: int) -> tuple[Composition, Names]:
    """A library's programs for whole episodes, from those of its world and experts; and the names of what is planned by."""
    names = names_of(library, adapter.facts)
    functions = [compile_module(skill.module_text, adapter.scope, adapter.facts.feature_names)[-1] for skill in library.skills]
    return compose(programs.world, programs.acting, adapter, functions, names, max_steps), names


def _logger(bench: Bench, planned: Planned, names: Names, log: Callable[[str], None]) -> Callable[[Games, int], None]:
    read = jax.jit(make_reader(bench.adapter, names.resources, names.sights))
    explain = make_explain(names, tuple(vital.name for vital in bench.adapter.facts.vitals))

    def on_choice(games: Games, number: int) -> None:
        features, past, choice = jax.tree.map(
            lambda leaf: leaf[0], (games.scene.features, games.course.past, games.course.choice)
        )
        readings = read(features)
        goals = int(np.sum(jax.device_get(readings.goals)))
        log(f"step {number}, {goals} of {len(names.goals)} unlocked: {explain(planned, readings, past, choice)}")

    return on_choice
