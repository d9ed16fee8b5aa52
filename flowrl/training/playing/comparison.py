"""Several rewards compared: each one's expert plays the same fresh worlds, side by side, with all experts frozen.

Environment ``i`` belongs to reward ``i % K``: there the newest task pays that reward, and that reward's expert acts in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs import tasks
from flowrl.envs.worlds import Scene, WorldBank
from flowrl.skills.module import TaskFunctions
from flowrl.training.playing.evaluation import STEPS_BETWEEN_LOOKS
from flowrl.training.playing.programs import Decide, Playing, Programs
from flowrl.training.playing.rollout import outcome


class Score(NamedTuple):
    """What the fresh episodes of one reward showed."""

    success_rate: float
    progress: float
    """The share of the plan's tasks that were behind the agent at the end of an episode, on average."""
    mean_return: float
    """The reward of an episode by the reward on trial itself; decides nothing."""


class TrialPrograms(Programs):
    """The programs of a run, with a reward and an expert of its own for every ``K``-th environment.

    Args:
        rewards: the newest task's functions, once with each reward.
        owners: the local expert of each reward; the first is the one that the plan names.
        parts: as for :class:`Programs`.
    """

    def __init__(self, rewards: list[TaskFunctions], owners: list[int], adapter, network, functions, plan, num_envs, *parts):
        super().__init__(adapter, network, functions, plan, num_envs, *parts)
        self.candidate = jnp.arange(num_envs) % len(rewards)
        self.num_candidates = len(rewards)
        self._newest, self._owner = owners[0], jnp.asarray(owners, jnp.int32)[self.candidate]
        judge = tasks.make_trial_judge(functions, rewards, owners[0])

        def judge_step(before, after, game_over, progress, plan):
            verdict, progress = judge(before, after, game_over, progress, plan, self.candidate)
            progress = tasks.restart(progress, verdict.ended)
            return verdict, progress, self._acting(plan.expert[progress.task])

        self._judge = jax.jit(judge_step)

    def _at_the_start(self, bank: WorldBank, first: Scene) -> Playing:
        playing = super()._at_the_start(bank, first)
        return playing._replace(expert=self._acting(playing.expert))

    def begin_alike(self, key: jax.Array) -> Playing:
        """Every environment at the start of an episode, those of all rewards in the same fresh worlds."""
        worlds = self.fresh_worlds(key, -(-self.num_envs // self.num_candidates))
        places = jnp.arange(self.num_envs) // self.num_candidates
        first = jax.tree.map(lambda leaf: leaf[places], worlds)
        # Episodes after the first ones are not counted, so any worlds will do for them.
        return self._at_the_start(WorldBank(worlds, jnp.int32(0)), first)

    def _acting(self, expert: jax.Array) -> jax.Array:
        return jnp.where(expert == self._newest, self._owner, expert)


class Episodes(NamedTuple):
    """Episodes that have ended, ``[E]`` each."""

    candidate: np.ndarray
    success: np.ndarray
    tasks_behind: np.ndarray
    total_reward: np.ndarray

    @classmethod
    def none(cls) -> Episodes:
        return cls(*[np.zeros(0)] * 4)

    def with_more(self, others: Episodes) -> Episodes:
        return Episodes(*(np.concatenate(pair) for pair in zip(self, others)))

    def score(self, candidate: int, num_tasks: int) -> Score:
        own = self.candidate == candidate
        progress = self.tasks_behind[own].mean() / num_tasks
        return Score(float(self.success[own].mean()), float(progress), float(self.total_reward[own].mean()))


def play_wave(
    programs: TrialPrograms, policy: Decide, key: jax.Array, show: Callable[[int], None] = lambda ended: None
) -> Episodes:
    """One episode in each environment, as many for each reward, to its end; all rewards start in the same worlds.

    Args:
        show: called now and then with the number of episodes that have ended.
    """
    world_key, act_key, step_key = jax.random.split(key, 3)
    counted = programs.num_envs // programs.num_candidates * programs.num_candidates
    playing = programs.begin_alike(world_key)
    running = np.arange(programs.num_envs) < counted
    success, behind, total = (np.zeros(programs.num_envs, kind) for kind in (bool, int, float))
    number = 0
    while running.any():
        steps = []
        for _ in range(STEPS_BETWEEN_LOOKS):
            decision = policy(playing, act_key, number)
            after, verdict, _ = programs.play_step(playing, decision, step_key, number)
            steps.append(outcome(playing, verdict, after))
            playing, number = after, number + 1
        for step in jax.device_get(steps):
            behind = np.where(running, step.task, behind)
            total += np.where(running, step.reward, 0.0)
            success |= running & step.success
            running &= ~step.ended
        show(counted - int(running.sum()))
    behind = np.where(success, len(programs.plan.n), behind)
    candidate = np.asarray(programs.candidate)
    return Episodes(*(part[:counted] for part in (candidate, success, behind, total)))
