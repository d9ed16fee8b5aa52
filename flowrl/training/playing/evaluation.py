"""Fresh episodes, played to their end with the experts frozen: the rates that a run reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from flowrl.training.playing.environments import Decide, Stage, begin_test, play_seen_step
from flowrl.training.playing.rollout import StepOutcome, outcome
from flowrl.training.playing.tries import Tries, TryLog

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
    tries: Tries | None = None
    """At the last task, if they were asked for."""


class FirstEpisodes:
    """Which environments of a batch play one of the first ``wanted`` episodes: those are counted, and nothing of later ones.

    Worlds are handed out in the order of the environments, and each episode that is counted is played to its end, so that
    long ones count as much as short ones.
    """

    def __init__(self, num_envs: int, wanted: int):
        self.wanted = wanted
        self.started = min(num_envs, wanted)
        self.ended = 0
        self.counting = np.arange(num_envs) < wanted
        """bool ``[B]``."""

    def end(self, ended: np.ndarray) -> int:
        """Episodes end in these environments (bool ``[B]``), all of them counted ones; how many of the next ones count."""
        self.ended += int(ended.sum())
        fresh = np.flatnonzero(ended)
        num_more = min(len(fresh), self.wanted - self.started)
        self.counting[fresh[num_more:]] = False
        self.started += num_more
        return num_more

    @property
    def are_over(self) -> bool:
        return self.ended == self.wanted


class _Tally:
    """What the first ``num_episodes`` episodes of a batch showed."""

    def __init__(self, num_envs: int, num_episodes: int, num_tasks: int):
        self.episodes = FirstEpisodes(num_envs, num_episodes)
        self.successes = self.frames = 0
        self.task_started = np.zeros(num_tasks, int)
        self.task_done = np.zeros(num_tasks, int)
        self.task_started[0] = self.episodes.started

    def add(self, step: StepOutcome) -> None:
        counted = self.episodes.counting.copy()
        self.frames += int(counted.sum())
        ended = counted & step.ended
        self.successes += int((ended & step.success).sum())
        np.add.at(self.task_done, step.task[counted & step.task_done], 1)
        moved_on = counted & step.task_done & ~step.ended
        np.add.at(self.task_started, step.next_task[moved_on], 1)
        self.task_started[0] += self.episodes.end(ended)

    @property
    def ended(self) -> int:
        return self.episodes.ended

    @property
    def finished(self) -> bool:
        return self.episodes.are_over

    def cannot_reach(self, goal: float) -> bool:
        wanted = self.episodes.wanted
        return wanted - (self.ended - self.successes) < goal * wanted

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
    log: TryLog | None = None,
) -> Evaluation:
    """Plays ``num_episodes`` episodes, each in a world that no other episode, of this evaluation or of training, uses.

    Args:
        decide: the policy.
        num_episodes: how many; all are counted, however long they take.
        give_up_below: stop as soon as this success rate is out of reach.
        on_step: called from time to time with the number of episodes that have ended, and the number wanted.
        log: notes the tries at the last task, for the result.
    """
    world_key, act_key, step_key = jax.random.split(key, 3)
    playing = begin_test(stage, world_key, num_episodes)
    tally = _Tally(stage.world.num_envs, num_episodes, len(stage.judge.plan.n))
    number = 0
    while not tally.finished:
        steps = []
        for _ in range(STEPS_BETWEEN_LOOKS):
            decision = decide(playing, act_key, number)
            after, verdict, _, features = play_seen_step(stage, playing, decision, step_key, number)
            steps.append(outcome(playing, verdict, after))
            if log:
                log.queue(playing, features)
            playing, number = after, number + 1
        _take_in(jax.device_get(steps), tally, log)
        on_step(tally.ended, num_episodes)
        if give_up_below is not None and tally.cannot_reach(give_up_below):
            return tally.evaluation(decided_early=True)
    return tally.evaluation(decided_early=False)._replace(tries=log and log.tries())


def _take_in(steps: Sequence[StepOutcome], tally: _Tally, log: TryLog | None) -> None:
    for number, step in enumerate(steps):
        if log:
            log.add(number, step, tally.episodes.counting)
        tally.add(step)
    if log:
        log.clear()
