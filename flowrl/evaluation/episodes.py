"""Whole episodes on fresh worlds: what the library unlocks when the planner plays it, and how each skill does on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from flowrl.evaluation.composition import Composition, Course, Games, Judgement, begin, play_step
from flowrl.evaluation.planner import Planned
from flowrl.training.learning.networks import Params
from flowrl.training.playing.evaluation import STEPS_BETWEEN_LOOKS, FirstEpisodes


class Usage(NamedTuple):
    """How each skill did in these episodes, ``[S]`` each."""

    tries: np.ndarray
    """int64: tasks of it that ended, also those that the planner broke off."""
    successes: np.ndarray
    deaths: np.ndarray
    """int64: games that were over while it acted."""
    frames: np.ndarray
    """int64: steps in which it acted."""


class Episodes(NamedTuple):
    """Every episode that was played, ``[E, ...]`` each, and the usage of the skills in them."""

    goals: np.ndarray
    """bool ``[E, A]``: achievements unlocked."""
    length: np.ndarray
    """int32: steps."""
    ending: np.ndarray
    """int32: why it ended (`readings.ending_names`), -1 where it reached the longest length."""
    skill: np.ndarray
    """int32: who acted in the last step."""
    usage: Usage


class _Shown(NamedTuple):
    """What the host needs of a step."""

    skill: jax.Array
    length: jax.Array
    judgement: Judgement


def play(
    composition: Composition,
    params: Params,
    planned: Planned,
    key: jax.Array,
    num_episodes: int,
    on_step: Callable[[int, int], None] = lambda ended, wanted: None,
    on_choice: Callable[[Games, int], None] | None = None,
) -> Episodes:
    """Plays ``num_episodes`` episodes, each in a world of its own, to death or to the longest length; all of them count.

    Args:
        on_step: called now and then with the number of episodes that ended, and of those wanted.
        on_choice: called before each step of the first environment's first episode in which a task begins.
    """
    world_key, act_key, step_key = jax.random.split(key, 3)
    games = begin(composition, world_key, num_episodes, planned)
    tally = _Tally(composition.world.num_envs, num_episodes, len(planned.catalogue.plans))
    is_due, number = on_choice is not None, 0
    while not tally.episodes.are_over:
        steps = []
        for _ in range(STEPS_BETWEEN_LOOKS):
            if is_due:
                on_choice(games, number)
            before: Course = games.course
            games, step = play_step(composition, params, games, planned, act_key, step_key, number)
            steps.append(_Shown(before.choice.skill, before.length, step.judgement))
            if on_choice:
                is_due = bool(step.judgement.is_free[0] & ~step.judgement.ended[0])
                on_choice = None if step.judgement.ended[0] else on_choice
            number += 1
        for shown in jax.device_get(steps):
            tally.add(shown)
        on_step(tally.episodes.ended, num_episodes)
    return tally.result()


class _Tally:
    def __init__(self, num_envs: int, num_episodes: int, num_skills: int):
        self.episodes = FirstEpisodes(num_envs, num_episodes)
        self.usage = Usage(*(np.zeros(num_skills, np.int64) for _ in Usage._fields))
        self.rows: list[tuple] = []

    def add(self, step: _Shown) -> None:
        counted, judgement = self.episodes.counting.copy(), step.judgement
        over = judgement.is_free
        events = Usage(tries=over, successes=judgement.task_done, deaths=judgement.died, frames=np.ones_like(over))
        for total, happened in zip(self.usage, events):
            np.add.at(total, step.skill[counted & happened], 1)
        ended = counted & judgement.ended
        for env in np.flatnonzero(ended):
            why = judgement.ending[env] if judgement.died[env] else -1
            self.rows.append((judgement.goals[env], step.length[env] + 1, why, step.skill[env]))
        if ended.any():
            self.episodes.end(ended)

    def result(self) -> Episodes:
        goals, length, ending, skill = (np.array(column) for column in zip(*self.rows))
        return Episodes(goals, length, ending, skill, self.usage)
