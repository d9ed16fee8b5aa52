"""Two versions of an expert in the same fresh worlds, all other experts as the library has them."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs import tasks
from flowrl.envs.adapter import GameAdapter
from flowrl.evaluation import bench as benches
from flowrl.evaluation import statistics
from flowrl.evaluation.bench import Bench
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.records.version_comparison import Comparison, Difference, Pair
from flowrl.skills.module import compile_module
from flowrl.training.learning.networks import Params
from flowrl.training.playing.environments import Judge, Playing, Stage, begin_test, plan_judge, play_step
from flowrl.training.playing.evaluation import STEPS_BETWEEN_LOOKS, FirstEpisodes
from flowrl.training.playing.rollout import learned_policy


def compare(
    library: Library, adapter: GameAdapter, versions: Mapping[Pair, Params], episodes: int, worlds: int = 0
) -> list[Comparison]:
    """Plays the plan of each pair's skill with the library's version in one half of a batch and the run's in the other.

    Args:
        library: holds the skills of these plans.
        versions: the parameters of the run's version, for each pair.
        episodes: that each version plays.
        worlds: less than 8; with another number, other worlds are played.
    """
    bench = benches.set_up(library, adapter, 2 * episodes, further=list(versions.values()))
    skills = {skill.index: skill for skill in library.skills}
    return [
        _compared(bench, pair, skills[pair.global_expert_idx], len(library.skills) + number, worlds)
        for number, pair in enumerate(versions)
    ]


def _compared(bench: Bench, pair: Pair, skill: LibrarySkill, place: int, worlds: int) -> Comparison:
    """``place``: where the run's version is among the experts."""
    episodes = bench.num_envs // 2
    stage = Stage(bench.programs.world, bench.programs.acting, _judge_of(bench, skill, place))
    success = _successes(stage, bench.params, jax.random.key(pair.seed + (worlds << 28)))
    counts = int(success[:episodes].sum()), int(success[episodes:].sum())
    return Comparison(pair, episodes, *counts, Difference(*statistics.difference(counts, (episodes, episodes))))


def _judge_of(bench: Bench, skill: LibrarySkill, place: int) -> Judge:
    """The judge of the skill's plan; in the second half of the environments the run's version stands in for the library's."""
    numbers = {name: number for number, name in enumerate(bench.library.specs)}
    places = [numbers[task.skill_name] for task in skill.plan]
    functions = compile_module(skill.module_text, bench.adapter.scope, bench.adapter.facts.feature_names)
    plan = tasks.plan_arrays(places, [task.n for task in skill.plan], skill.max_task_steps)
    judge = plan_judge(functions, plan, bench.num_envs)
    is_runs = np.arange(bench.num_envs) >= bench.num_envs // 2
    own = numbers[skill.name]

    def judge_step(*inputs):
        verdict, progress, expert = judge.judge_step(*inputs)
        return verdict, progress, jnp.where(is_runs & (expert == own), place, expert)

    first = np.where(is_runs & (judge.first == own), place, judge.first)
    return Judge(plan, jax.jit(judge_step), first.astype(judge.first.dtype))


def _successes(stage: Stage, params: Params, key: jax.Array) -> np.ndarray:
    """Whether the first episode of each environment succeeds, bool ``[B]``; the halves of the batch play the same worlds."""
    world_key, act_key, step_key = jax.random.split(key, 3)
    num_envs = stage.world.num_envs
    playing, policy, number = _in_pairs(begin_test(stage, world_key, num_envs), num_envs), learned_policy(stage, params), 0
    episodes, success = FirstEpisodes(num_envs, num_envs), np.zeros(num_envs, bool)
    while not episodes.are_over:
        verdicts = []
        for _ in range(STEPS_BETWEEN_LOOKS):
            playing, verdict, _ = play_step(stage, playing, policy(playing, act_key, number), step_key, number)
            verdicts.append((verdict.ended, verdict.success))
            number += 1
        for ended, succeeded in jax.device_get(verdicts):
            ended = episodes.counting & ended
            success |= ended & succeeded
            episodes.end(ended)
    return success


def _in_pairs(playing: Playing, num_envs: int) -> Playing:
    """The same environments, but the second half begins in the worlds of the first."""
    rows = np.arange(num_envs) % (num_envs // 2)
    return playing._replace(scene=jax.jit(lambda scene: jax.tree.map(lambda leaf: leaf[rows], scene))(playing.scene))
