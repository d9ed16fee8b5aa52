"""Fresh episodes, played to their end with the experts frozen: the rates that a run reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from flowrl.training.playing.environments import Decide, Stage, begin_test, play_step
from flowrl.training.playing.rollout import StepOutcome, outcome

STEPS_BETWEEN_LOOKS = 8
"""Steps that are queued before the host checks whether all episodes have ended."""


class Evaluation(NamedTuple):
    """The results of a number of fresh episodes."""

    episodes: int
    """Episodes that were played to their end."""
    success_rate: float
    """Of those episodes."""
    task_rates: tuple[float | None, ...]
    """For each task: how often it was completed once it had begun; None if it never began."""
    frames_per_success: float | None
    """Steps of all those episodes, failures included, for each success; None without any."""
    decided_early: bool
    """Whether the evaluation stopped early, since the goal was out of reach."""


class _Tally:
    """Counts the first ``num_episodes`` episodes of a batch, and ignores later ones."""

    def __init__(self, num_envs: int, num_episodes: int, num_tasks: int):
        self.started = min(num_envs, num_episodes)
        self.wanted = num_episodes
        self.counting = np.arange(num_envs) < num_episodes
        self.ended = self.successes = self.frames = 0
        self.task_started = np.zeros(num_tasks, int)
        self.task_done = np.zeros(num_tasks, int)
        self.task_started[0] = self.started

    def add(self, step: StepOutcome) -> None:
        counted = self.counting.copy()
        self.frames += int(counted.sum())
        ended = counted & step.ended
        self.ended += int(ended.sum())
        self.successes += int((ended & step.success).sum())
        np.add.at(self.task_done, step.task[counted & step.task_done], 1)
        moved_on = counted & step.task_done & ~step.ended
        np.add.at(self.task_started, step.next_task[moved_on], 1)
        # Worlds are handed out in the order of the environments, so the first ones still needed are counted.
        fresh = np.flatnonzero(ended)
        num_more = min(len(fresh), self.wanted - self.started)
        self.counting[fresh[num_more:]] = False
        self.started += num_more
        self.task_started[0] += num_more

    @property
    def finished(self) -> bool:
        return self.ended == self.wanted

    def cannot_reach(self, goal: float) -> bool:
        return self.wanted - (self.ended - self.successes) < goal * self.wanted

    def evaluation(self, decided_early: bool) -> Evaluation:
        rates = [done / begun if begun else None for done, begun in zip(self.task_done, self.task_started)]
        frames_per_success = self.frames / self.successes if self.successes else None
        return Evaluation(self.ended, self.successes / max(self.ended, 1), tuple(rates), frames_per_success, decided_early)


def evaluate(
    stage: Stage,
    decide: Decide,
    key: jax.Array,
    num_episodes: int,
    give_up_below: float | None = None,
    on_step: Callable[[int, int], None] = lambda ended, wanted: None,
) -> Evaluation:
    """Plays ``num_episodes`` episodes, each in a world that no other episode, of this evaluation or of training, uses.

    Args:
        decide: the policy.
        num_episodes: how many; all are counted, however long they take.
        give_up_below: stop as soon as this success rate is out of reach.
        on_step: called from time to time with the number of episodes that have ended, and the number wanted.
    """
    world_key, act_key, step_key = jax.random.split(key, 3)
    playing = begin_test(stage, world_key, num_episodes)
    tally = _Tally(stage.world.num_envs, num_episodes, len(stage.judge.plan.n))
    number = 0
    while not tally.finished:
        steps = []
        for _ in range(STEPS_BETWEEN_LOOKS):
            decision = decide(playing, act_key, number)
            after, verdict, _ = play_step(stage, playing, decision, step_key, number)
            steps.append(outcome(playing, verdict, after))
            playing, number = after, number + 1
        for step in jax.device_get(steps):
            tally.add(step)
        on_step(tally.ended, num_episodes)
        if give_up_below is not None and tally.cannot_reach(give_up_below):
            return tally.evaluation(decided_early=True)
    return tally.evaluation(decided_early=False)
