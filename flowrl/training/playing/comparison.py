"""Several rewards compared: each reward's expert plays the same fresh worlds, with all experts frozen.

Environment ``i`` belongs to reward ``i % K``: there the newest task pays that reward, and that reward's expert acts in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs import tasks
from flowrl.envs.tasks import PlanArrays
from flowrl.envs.worlds import WorldBank
from flowrl.skills.module import TaskFunctions
from flowrl.training.playing.environments import Decide, Judge, Playing, Stage, at_the_start, play_step
from flowrl.training.playing.evaluation import STEPS_BETWEEN_LOOKS
from flowrl.training.playing.rollout import outcome


class Score(NamedTuple):
    """The results of one reward's fresh episodes."""

    success_rate: float
    progress: float
    """The average share of the plan's tasks that were done at the end of an episode."""
    mean_return: float
    """The mean episode return under this reward; does not affect the choice."""


class RewardSplit(NamedTuple):
    """Which reward each environment belongs to, and which expert learns from that reward."""

    num_rewards: int
    reward: np.ndarray
    """int32 ``[B]``: the environment's reward, from 0."""
    newest: int
    """The expert that the plan names for the task with several rewards."""
    owner: np.ndarray
    """int32 ``[B]``: the expert that acts in its place."""


def split_by_reward(owners: Sequence[int], num_envs: int) -> RewardSplit:
    """
    Args:
        owners: the local expert of each reward; the first is the one that the plan names.
    """
    reward = np.arange(num_envs, dtype=np.int32) % len(owners)
    return RewardSplit(len(owners), reward, owners[0], np.asarray(owners, np.int32)[reward])


def trial_judge(
    functions: Sequence[TaskFunctions], rewards: Sequence[TaskFunctions], plan: PlanArrays, split: RewardSplit
) -> Judge:
    """The judge of a trial: the newest task pays each environment's own reward, and that reward's expert acts in it.

    Args:
        functions: of each task of the plan.
        rewards: the newest task's functions, once with each reward.
    """
    judge = tasks.make_trial_judge(functions, rewards, split.newest)

    def judge_step(before, after, game_over, progress, plan):
        verdict, progress = judge(before, after, game_over, progress, plan, jnp.asarray(split.reward))
        progress = tasks.restart(progress, verdict.ended)
        expert = plan.expert[progress.task]
        return verdict, progress, jnp.where(expert == split.newest, split.owner, expert)

    first = int(np.asarray(plan.expert)[0])
    first_acting = split.owner if first == split.newest else np.full_like(split.owner, first)
    return Judge(plan, jax.jit(judge_step), first_acting)


def begin_alike(stage: Stage, split: RewardSplit, key: jax.Array) -> Playing:
    """Every environment at the start of an episode; all rewards get the same fresh worlds."""
    num_envs = stage.world.num_envs
    worlds = stage.world.fresh(key, -(-num_envs // split.num_rewards))
    places = jnp.arange(num_envs) // split.num_rewards
    first = jax.tree.map(lambda leaf: leaf[places], worlds)
    # Episodes after the first ones are not counted, so any worlds will do for them.
    return at_the_start(stage, WorldBank(worlds, jnp.int32(0)), first)


class Episodes(NamedTuple):
    """Episodes that have ended, ``[E]`` each."""

    reward: np.ndarray
    """From 0."""
    success: np.ndarray
    tasks_behind: np.ndarray
    total_reward: np.ndarray

    @classmethod
    def none(cls) -> Episodes:
        return cls(*[np.zeros(0)] * 4)

    def with_more(self, others: Episodes) -> Episodes:
        return Episodes(*(np.concatenate(pair) for pair in zip(self, others)))

    def score(self, reward: int, num_tasks: int) -> Score:
        own = self.reward == reward
        progress = self.tasks_behind[own].mean() / num_tasks
        return Score(float(self.success[own].mean()), float(progress), float(self.total_reward[own].mean()))


def play_wave(
    stage: Stage, split: RewardSplit, policy: Decide, key: jax.Array, show: Callable[[int], None] = lambda ended: None
) -> Episodes:
    """Plays one episode in each environment to its end, equally many for each reward; all rewards start in the same worlds.

    Args:
        show: called from time to time with the number of episodes that have ended.
    """
    world_key, act_key, step_key = jax.random.split(key, 3)
    num_envs = stage.world.num_envs
    counted = num_envs // split.num_rewards * split.num_rewards
    playing = begin_alike(stage, split, world_key)
    running = np.arange(num_envs) < counted
    success, behind, total = (np.zeros(num_envs, kind) for kind in (bool, int, float))
    number = 0
    while running.any():
        steps = []
        for _ in range(STEPS_BETWEEN_LOOKS):
            decision = policy(playing, act_key, number)
            after, verdict, _ = play_step(stage, playing, decision, step_key, number)
            steps.append(outcome(playing, verdict, after))
            playing, number = after, number + 1
        for step in jax.device_get(steps):
            behind = np.where(running, step.task, behind)
            total += np.where(running, step.reward, 0.0)
            success |= running & step.success
            running &= ~step.ended
        show(counted - int(running.sum()))
    behind = np.where(success, len(stage.judge.plan.n), behind)
    return Episodes(*(part[:counted] for part in (split.reward, success, behind, total)))
