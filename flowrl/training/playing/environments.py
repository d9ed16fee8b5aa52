"""A batch of environments: how they start, and how a step combines the world's functions with a judge's.

A step is driven from Python, program by program. The world's programs are the same for every skill with the same game
and batch; only the small `Judge` is specific to a skill.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from flowrl.envs import tasks
from flowrl.envs.adapter import State
from flowrl.envs.features import Features
from flowrl.envs.observations import Observation
from flowrl.envs.tasks import PlanArrays, Progress, Verdict
from flowrl.envs.worlds import Scene, WorldBank
from flowrl.skills.module import TaskFunctions
from flowrl.training.playing.acting import Acting
from flowrl.training.playing.world import WORLDS_AT_ONCE, Decision, World


class Playing(NamedTuple):
    """A batch of environments in the middle of their episodes."""

    bank: WorldBank
    scene: Scene
    progress: Progress
    expert: jax.Array
    """int32 ``[B]``: the expert that acts next in each environment."""
    typical: jax.Array
    """uint16 ``[num_fields]``: the columns of a typical observation (see `first_layer`)."""


Decide = Callable[[Playing, jax.Array, int], Decision]
"""``(where the environments are, key, step) -> Decision``."""


class Judge(NamedTuple):
    """The parts specific to a run: its plan, and its skills' code, which decides rewards and completion."""

    plan: PlanArrays
    judge_step: Callable
    """``(features before, after, game_over, progress, plan) -> (Verdict, Progress, next expert [B])``."""
    first: np.ndarray
    """int32 ``[B]``: the expert that acts at the start of an episode."""


class Stage(NamedTuple):
    """The parts that a rollout is played with."""

    world: World
    acting: Acting
    judge: Judge


def plan_judge(functions: Sequence[TaskFunctions], plan: PlanArrays, num_envs: int) -> Judge:
    """The judge of an ordinary run: each task's own expert acts in it.

    Args:
        functions: of each task of the plan.
    """
    return Judge(plan, jax.jit(make_judge(tasks.make_judge(functions))), np.full(num_envs, np.asarray(plan.expert)[0]))


def make_judge(judge: tasks.Judge):
    """Runs the skills' code: the step's verdict, the progress after it, and the expert that acts next."""

    def judge_step(before, after, game_over, progress, plan):
        verdict, progress = judge(before, after, game_over, progress, plan)
        progress = tasks.restart(progress, verdict.ended)
        return verdict, progress, plan.expert[progress.task]

    return judge_step


def begin(stage: Stage, key: jax.Array, num_worlds: int) -> Playing:
    """Every environment at the start of an episode, each in its own world; a bank of ``num_worlds`` for later episodes.

    The bank's first worlds are those in which the environments start.
    """
    world = stage.world
    # A copy for the first episodes, since a step donates its states, and the bank's worlds are played again.
    fresh = world.fresh(key, max(num_worlds, world.num_envs))
    first = world.first_worlds(fresh)
    if num_worlds < world.num_envs:
        return at_the_start(stage, WorldBank(world.some_worlds(num_worlds)(fresh), np.int32(0)), first)
    return at_the_start(stage, WorldBank(fresh, np.int32(world.num_envs)), first)


def begin_test(stage: Stage, key: jax.Array, num_episodes: int) -> Playing:
    """As `begin`, but each of the first ``num_episodes`` episodes has its own world.

    With as many environments as episodes, no world is kept for later: later episodes, which a test does not count,
    replay a few of the same worlds.
    """
    world = stage.world
    if num_episodes > world.num_envs:
        return begin(stage, key, num_episodes)
    fresh = world.fresh(key, world.num_envs)
    few = world.some_worlds(WORLDS_AT_ONCE)(fresh)
    has_spare = len(fresh.observation.columns) > world.num_envs
    return at_the_start(stage, WorldBank(few, np.int32(0)), world.first_worlds(fresh) if has_spare else fresh)


def at_the_start(stage: Stage, bank: WorldBank, first: Scene) -> Playing:
    """Every environment at the start of an episode in the worlds ``first``."""
    typical = stage.world.typical(first.observation.columns)
    return Playing(bank, first, tasks.start(stage.world.num_envs), jax.device_put(stage.judge.first), typical)


def refresh_worlds(stage: Stage, playing: Playing, key: jax.Array, count: int) -> Playing:
    """Replaces the oldest worlds, at least ``count`` of them, by fresh ones; ``playing``'s bank is donated."""
    return playing._replace(bank=stage.world.refreshed(playing.bank, key, count))


def look_around(stage: Stage, playing: Playing) -> Playing:
    """Makes what most environments show now the typical observation; this affects speed only, not results."""
    return playing._replace(typical=stage.world.typical(playing.scene.observation.columns))


def random_policy(stage: Stage) -> Decide:
    """Every action equally likely: the baseline for a skill."""
    return lambda playing, key, step: stage.world.act_at_random(key, step)


def play_step(
    stage: Stage, playing: Playing, decision: Decision, key: jax.Array, step: int | jax.Array
) -> tuple[Playing, Verdict, Observation]:
    """One step of every environment; the game states of ``playing`` are donated.

    Returns:
        the environments afterwards (ended ones in their next world), the verdict, and the observation ``[B, ...]`` that
        the step led to (before a new world took its place).
    """
    after, verdict, led_to, _ = play_seen_step(stage, playing, decision, key, step)
    return after, verdict, led_to


def play_seen_step(
    stage: Stage,
    playing: Playing,
    decision: Decision,
    key: jax.Array,
    step: int | jax.Array,
    look: Callable[[State, Features], None] = lambda state, features: None,
) -> tuple[Playing, Verdict, Observation, Features]:
    """As `play_step`, with the features ``[B, ...]`` that the step led to, before a new world took its place.

    Args:
        look: gets the states and features that the step led to; the states are donated once it returns.
    """
    world, judge = stage.world, stage.judge
    state, observation, features, game_over = world.step(playing.scene.state, decision.action, key, step)
    look(state, features)
    verdict, progress, expert = judge.judge_step(playing.scene.features, features, game_over, playing.progress, judge.plan)
    next_world, scene = world.renew(playing.bank, state, observation, features, verdict.ended)
    bank = playing.bank._replace(next_world=next_world)
    return Playing(bank, scene, progress, expert, playing.typical), verdict, observation, features
