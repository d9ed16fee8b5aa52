"""Gathering experience: ``T`` steps of every environment under the current experts."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from flowrl.envs.tasks import Verdict
from flowrl.training.learning.networks import Params
from flowrl.training.learning.ppo import Transition
from flowrl.training.playing.programs import Playing, Programs


class StepOutcome(NamedTuple):
    """What one step meant for the episodes, on the host: numpy ``[B]`` each."""

    task: np.ndarray
    """int32: the task that was active during the step."""
    next_task: np.ndarray
    """int32: the task that is active after it (of the next episode, where the episode ended)."""
    task_done: np.ndarray
    success: np.ndarray
    ended: np.ndarray
    reward: np.ndarray
    expert: np.ndarray
    """int32: who acted in the step."""


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
    programs: Programs, params: Params, playing: Playing, key: jax.Array, num_steps: int
) -> tuple[Playing, tuple[Transition, ...], list[StepOutcome]]:
    """Plays ``num_steps`` steps; returns where the environments are then, the transitions, and the outcomes."""
    act_key, step_key = jax.random.split(key)
    playing = programs.look_around(playing)
    transitions, outcomes = [], []
    for number in range(num_steps):
        playing, (learned_from, meant) = play(programs, params, playing, act_key, step_key, number)
        transitions.append(learned_from)
        outcomes.append(meant)
    return playing, tuple(transitions), jax.device_get(outcomes)


def play(
    programs: Programs, params: Params, playing: Playing, act_key: jax.Array, step_key: jax.Array, number: int | jax.Array
) -> tuple[Playing, tuple[Transition, StepOutcome]]:
    """Step ``number`` of a rollout: where the environments are then, what learning needs of it, and what it meant."""
    decision = programs.learned_policy(params)(playing, act_key, number)
    after, verdict, led_to = programs.play_step(playing, decision, step_key, number)
    return after, (programs.transition(params, playing, decision, verdict, led_to), outcome(playing, verdict, after))
