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

from flowrl.evaluation.composition import Composition, Games, Judgement, Planned
from flowrl.evaluation.episodes import Usage
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
    ended: np.ndarray
    died: np.ndarray
    task_done: np.ndarray
    over: np.ndarray
    """bool: the task is over, in whatever way."""
    num_goals: np.ndarray
    """int32: achievements unlocked by now."""
    length: np.ndarray
    """int32: steps of the episode before this one."""


def collect(
    composition: Composition, params: Params, games: Games, planned: Planned, key: jax.Array, num_steps: int, pay: Pay
) -> tuple[Games, tuple[Transition, ...], list[Rehearsed]]:
    """Plays ``num_steps`` steps; returns where the environments are then, the transitions, and what happened."""
    act_key, step_key = jax.random.split(key)
    world, acting = composition.world, composition.acting
    games = games._replace(typical=world.typical(games.scene.observation.columns))
    transitions, shown = [], []
    for number in range(num_steps):
        scene, course = games.scene, games.course
        expert = course.choice.skill
        decision = acting.act(params, scene.observation, games.typical, expert, act_key, number)
        state, observation, features, game_over = world.step(scene.state, decision.action, step_key, number)
        judgement = composition.judge(scene.features, features, game_over, course, planned)
        next_world, new_scene = world.renew(games.bank, state, observation, features, judgement.ended)
        new_course = composition.go_on(course, judgement, new_scene.features, planned)
        reward, continues, is_cut, seen = _learned_from(judgement, course, pay)
        # Where the episode goes on, the next expert takes over at this very observation; where it was only too long, the same
        # expert would have gone on.
        successor = jnp.where(judgement.ended, expert, new_course.choice.skill)
        heir = acting.values(params, observation, games.typical, successor, is_cut)
        transitions.append(
            Transition(scene.observation, decision.action, decision.log_prob, decision.value, expert, reward, continues, heir)
        )
        shown.append(seen)
        games = Games(games.bank._replace(next_world=next_world), new_scene, new_course, games.typical)
    return games, tuple(transitions), jax.device_get(shown)


@jax.jit
def _learned_from(judgement: Judgement, course, pay: Pay):
    reward = pay.own * judgement.own_reward + pay.game * judgement.game_reward
    over = judgement.is_free
    seen = Rehearsed(
        course.choice.skill,
        judgement.ended,
        judgement.died,
        judgement.task_done,
        over,
        judgement.goals.sum(axis=1),
        course.length,
    )
    return reward, ~over, over & ~judgement.died, seen


class Experience:
    """What is known of each skill's worth while it is played, old tries counting less and less.

    Args:
        success, steps: ``[S]``, as measured before.
        trust: tries that the measurement before counts as.
        memory: the share of a try's weight that is left after each rollout.
    """

    def __init__(self, success: np.ndarray, steps: np.ndarray, trust: float = 20.0, memory: float = 0.98):
        self._memory = memory
        self._tries = np.full(len(success), float(trust))
        self._successes = np.asarray(success, float) * trust
        self._steps = np.asarray(steps, float) * trust

    def add(self, usage: Usage) -> None:
        """Counts the tries of a rollout."""
        for total, new in ((self._tries, usage.tries), (self._successes, usage.successes), (self._steps, usage.frames)):
            total *= self._memory
            total += new

    @property
    def success(self) -> np.ndarray:
        return np.clip(self._successes / np.maximum(self._tries, 1e-9), 0, 1).astype(np.float32)

    @property
    def steps(self) -> np.ndarray:
        return np.maximum(self._steps / np.maximum(self._tries, 1e-9), 1).astype(np.float32)


def usage_of(steps: list[Rehearsed], num_skills: int) -> Usage:
    """How each skill did in a rollout."""
    usage = Usage(*(np.zeros(num_skills, np.int64) for _ in Usage._fields))
    for step in steps:
        events = Usage(step.over, step.task_done, step.died, np.ones_like(step.over))
        for total, happened in zip(usage, events):
            np.add.at(total, step.skill[happened], 1)
    return usage


def last_values(composition: Composition, params: Params, games: Games) -> jax.Array:
    """float32 ``[B]``: what the acting experts make of where the environments are."""
    everyone = jnp.ones(len(games.course.steps), bool)
    return composition.acting.values(params, games.scene.observation, games.typical, games.course.choice.skill, everyone)
