"""Gathering experience: ``T`` steps of every environment under the current experts."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from flowrl.envs.observations import Observation
from flowrl.envs.tasks import Verdict
from flowrl.training.learning.networks import Params
from flowrl.training.learning.ppo import Transition
from flowrl.training.playing.environments import Decide, Playing, Stage, look_around, play_step
from flowrl.training.playing.stopwatch import GAME, NETWORK, UNWATCHED, Stopwatch
from flowrl.training.playing.world import Decision


class StepOutcome(NamedTuple):
    """The outcome of one step for the episodes, on the host: numpy ``[B]`` each."""

    task: np.ndarray
    """int32: the task that was active during the step."""
    next_task: np.ndarray
    """int32: the task that is active after it (of the next episode, if the episode ended)."""
    task_done: np.ndarray
    success: np.ndarray
    ended: np.ndarray
    reward: np.ndarray
    expert: np.ndarray
    """int32: the expert that acted in the step."""


def outcome(before: Playing, verdict: Verdict, after: Playing) -> StepOutcome:
    """The outcome of a step, still on the device; fetch many at once with ``jax.device_get``."""
    return StepOutcome(
        before.progress.task,
        after.progress.task,
        verdict.task_done,
        verdict.success,
        verdict.ended,
        verdict.reward,
        before.expert,
    )


def collect(
    stage: Stage, params: Params, playing: Playing, key: jax.Array, num_steps: int, stopwatch: Stopwatch = UNWATCHED
) -> tuple[Playing, tuple[Transition, ...], list[StepOutcome]]:
    """Plays ``num_steps`` steps; returns the environments afterwards, the transitions, and the outcomes."""
    act_key, step_key = jax.random.split(key)
    playing = look_around(stage, playing)
    transitions, outcomes = [], []
    for number in range(num_steps):
        playing, (learned_from, meant) = play(stage, params, playing, act_key, step_key, number, stopwatch)
        transitions.append(learned_from)
        outcomes.append(meant)
    return playing, tuple(transitions), jax.device_get(outcomes)


def play(
    stage: Stage,
    params: Params,
    playing: Playing,
    act_key: jax.Array,
    step_key: jax.Array,
    number: int | jax.Array,
    stopwatch: Stopwatch = UNWATCHED,
) -> tuple[Playing, tuple[Transition, StepOutcome]]:
    """Step ``number`` of a rollout: the environments afterwards, the transition, and the outcome."""
    decision = learned_policy(stage, params)(playing, act_key, number)
    stopwatch.lap(NETWORK, decision)
    after, verdict, led_to = play_step(stage, playing, decision, step_key, number)
    stopwatch.lap(GAME, (after, verdict, led_to))
    learned_from = transition(stage, params, playing, decision, verdict, led_to)
    stopwatch.lap(NETWORK, learned_from)
    return after, (learned_from, outcome(playing, verdict, after))


def learned_policy(stage: Stage, params: Params) -> Decide:
    """Actions sampled from the experts."""
    return lambda at, key, step: stage.acting.act(params, at.scene.observation, at.typical, at.expert, key, step)


def values(stage: Stage, params: Params, playing: Playing) -> jax.Array:
    """``[B]``: the acting experts' values of the current states."""
    everyone = np.ones(len(playing.expert), bool)
    return stage.acting.values(params, playing.scene.observation, playing.typical, playing.expert, everyone)


def transition(
    stage: Stage, params: Params, before: Playing, decision: Decision, verdict: Verdict, led_to: Observation
) -> Transition:
    """What learning needs to know about a step."""
    return Transition(
        observation=before.scene.observation,
        action=decision.action,
        log_prob=decision.log_prob,
        value=decision.value,
        expert=before.expert,
        reward=verdict.reward,
        continues=~(verdict.task_done | verdict.ended),
        truncation_value=stage.acting.values(params, led_to, before.typical, before.expert, verdict.truncated),
    )
