"""Rehearsal: the planner plays whole episodes with the library's experts, and every expert that acts goes on learning.

So experts learn where they are used: late in an episode, at night, wounded, pursued; and they learn to stay alive, because
the episode goes on after their task. An expert is paid what its skill pays, and what the game itself pays. Where the task
changes and the episode goes on, advantages are cut, and the value there is that of the *next* expert where it takes over:
what a task leaves behind counts for the one before it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.evaluation.composition import Composition, Course, Games, Judgement, Step, play_step, steps_of_try
from flowrl.evaluation.planner import NO_VITAL, Planned
from flowrl.training.learning.networks import Params
from flowrl.training.learning.ppo import Transition


class Pay(NamedTuple):
    """How much of which reward an expert is paid."""

    own: float = 0.5
    """Of its skill's."""
    game: float = 1.0
    """Of the game's."""


class Rehearsed(NamedTuple):
    """What the host needs of a step, ``[B]`` each."""

    skill: np.ndarray
    """int32: who acted."""
    tried: np.ndarray
    """bool: a task has ended: done, failed, or by death. Tasks that were broken off say nothing about their skill, nor do those
    that end when a vital is high."""
    task_done: np.ndarray
    """bool."""
    steps: np.ndarray
    """float32: of the task so far, for each unit of ``n``; see `composition.steps_of_try`."""
    ended: np.ndarray
    """bool: the episode is over."""
    num_goals: np.ndarray
    """int32: achievements unlocked by now."""
    length: np.ndarray
    """int32: steps of the episode so far."""
    reward: np.ndarray
    """float32: what the one who acted was paid."""


def collect(
    composition: Composition, params: Params, games: Games, planned: Planned, key: jax.Array, num_steps: int, pay: Pay
) -> tuple[Games, tuple[Transition, ...], list[Rehearsed]]:
    """Plays ``num_steps`` steps; returns where the environments are then, the transitions, and what happened."""
    act_key, step_key = jax.random.split(key)
    games = games._replace(typical=composition.world.typical(games.scene.observation.columns))
    transitions, shown = [], []
    for number in range(num_steps):
        before = games
        games, step = play_step(composition, params, games, planned, act_key, step_key, number)
        reward, continues, is_cut, seen = _learned_from(step.judgement, before.course, pay)
        transitions.append(_transition(composition, params, before, games, step, reward, continues, is_cut))
        shown.append(seen)
    return games, tuple(transitions), jax.device_get(shown)


def _transition(
    composition: Composition, params: Params, before: Games, after: Games, step: Step, reward, continues, is_cut
) -> Transition:
    """What learning needs to know of a step.

    Where the episode goes on, the next expert takes over at what the step led to; where it was only too long, the same expert
    would have gone on.
    """
    expert = before.course.choice.skill
    successor = jnp.where(step.judgement.ended, expert, after.course.choice.skill)
    heir = composition.acting.values(params, step.led_to, before.typical, successor, is_cut)
    decision, observation = step.decision, before.scene.observation
    return Transition(observation, decision.action, decision.log_prob, decision.value, expert, reward, continues, heir)


@jax.jit
def _learned_from(judgement: Judgement, course: Course, pay: Pay):
    over = judgement.is_free
    reward = pay.own * judgement.own_reward + pay.game * judgement.game_reward
    seen = Rehearsed(
        skill=course.choice.skill,
        tried=(course.choice.until == NO_VITAL) & (judgement.task_done | judgement.failed | judgement.died),
        task_done=judgement.task_done,
        steps=steps_of_try(course),
        ended=judgement.ended,
        num_goals=judgement.goals.sum(axis=1),
        length=course.length + 1,
        reward=reward,
    )
    return reward, ~over, over & ~judgement.died, seen


def last_values(composition: Composition, params: Params, games: Games) -> jax.Array:
    """float32 ``[B]``: what the acting experts make of where the environments are."""
    everyone = jnp.ones(len(games.course.steps), bool)
    return composition.acting.values(params, games.scene.observation, games.typical, games.course.choice.skill, everyone)
