"""An update of a run: collect a rollout, learn from it, replace some worlds."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from flowrl.envs.worlds import Turnover
from flowrl.errors import FlowrlError
from flowrl.training.learning.ppo import Statistics
from flowrl.training.playing.environments import Judge, Playing, Stage, begin, refresh_worlds
from flowrl.training.playing.fused_rollout import Rollouts
from flowrl.training.playing.programs import Programs
from flowrl.training.playing.rollout import StepOutcome, values
from flowrl.training.playing.stopwatch import UNWATCHED, Stopwatch
from flowrl.training.playing.world import WORLDS_AT_ONCE
from flowrl.training.run.learning_step import LearningStep
from flowrl.training.run.saving import Safekeeping
from flowrl.training.run.specification import RunSpecification
from flowrl.training.run.state import LocalExpert, RunState
from flowrl.training.run.supervision import Supervision

BANK_SIZE = 256
"""The least number of ready worlds; half the number of environments if that is more."""

WORLD_REUSE = 4
"""How many episodes a world of the bank starts before a fresh one takes its place (see `worlds.Turnover`)."""

FRAMES_PER_WORLD = 256
"""The least number of frames per new world, so that worlds cost at most a few percent of the time. Where episodes
are shorter than ``FRAMES_PER_WORLD / WORLD_REUSE``, each world starts more of them."""


WATCHED_EVERY = 50
"""In one of so many rollouts, the times of game and network are taken apart. The first one compiles, so the second is one."""


def bank_size(num_envs: int) -> int:
    """The number of worlds that a run with this many environments keeps ready."""
    return max(BANK_SIZE, num_envs // 2)


def turnover(num_envs: int, num_steps: int) -> Turnover:
    """How such a run replaces its worlds after rollouts of ``num_steps`` steps."""
    return Turnover(WORLD_REUSE, num_envs * num_steps / FRAMES_PER_WORLD, bank_size(num_envs), WORLDS_AT_ONCE)


class Made(NamedTuple):
    """The outcome of an update."""

    outcomes: list[StepOutcome]
    """One for each of its ``T`` steps."""
    losses: Statistics
    """On the host, ``[K]`` each."""
    actions: Sequence[np.ndarray] = ()
    """The actions of each step, int32 ``[B]``."""


class Updates:
    """Makes the updates of one run, each from the state and the games after the previous one."""

    def __init__(
        self,
        run: RunSpecification,
        experts: Sequence[LocalExpert],
        programs: Programs,
        judge: Judge,
        kept: Safekeeping,
        supervision: Supervision,
    ):
        self._run, self._clock = run, supervision.clock
        self._keys, self._stage = programs.keys, Stage(programs.world, programs.acting, judge)
        self._learning = LearningStep(run.settings, programs.learning, kept, supervision, who_learns(run, experts))
        self.rollouts = Rollouts(programs, judge, run.settings.num_steps)
        self._turnover = turnover(run.settings.num_envs, run.settings.num_steps)

    def begin(self, worlds_key: jax.Array) -> Playing:
        """Starts the games, all at the start of an episode."""
        # Checkpoints do not store the games' state, so each attempt starts in other worlds.
        key = self._keys.fold_in(worlds_key, self._run.attempt)
        return begin(self._stage, key, bank_size(self._run.settings.num_envs))

    def make(self, state: RunState, playing: Playing) -> tuple[RunState, Playing, Made]:
        """One update; ``state`` and ``playing`` are donated.

        Raises:
            FlowrlError: a reward or a loss is not a number.
        """
        collect_key, learn_key, world_key = self._keys.of_update(state.key, state.updates)
        stopwatch = Stopwatch() if self._clock.num_updates % WATCHED_EVERY == 1 else UNWATCHED
        begun_s = time.perf_counter()
        playing, rollout, outcomes = self.rollouts.collect(state.learner.params, playing, collect_key, stopwatch)
        played_s = time.perf_counter()
        last_values = values(self._stage, state.learner.params, playing)
        actions = jax.device_get([step.action for step in rollout])
        check = functools.partial(check_rewards, self._run, outcomes)
        acted_frames = acted(outcomes, len(state.acted_frames))
        state, losses = self._learning.take(state, rollout, last_values, acted_frames, learn_key, check)
        self._clock.spent(played_s - begun_s, time.perf_counter() - played_s, stopwatch.network_share)
        num_ended = sum(int(step.ended.sum()) for step in outcomes)
        playing = refresh_worlds(self._stage, playing, world_key, self._turnover.due(num_ended))
        return state, playing, Made(outcomes, losses, actions)


def budget_allows(state: RunState, frames_per_update: int, frames: int) -> bool:
    """Whether another update fits into the frame budget; the first one always does, unless nothing is to be trained."""
    return frames > 0 and (state.frames == 0 or state.frames + frames_per_update <= frames)


def who_learns(run: RunSpecification, experts: Sequence[LocalExpert]) -> np.ndarray | None:
    """bool ``[num experts]``: which experts learn, if dependencies are held; None where all do."""
    if not run.settings.hold_dependencies:
        return None
    return np.array([expert.global_idx in (None, run.global_expert_idx) for expert in experts])


def acted(outcomes: Sequence[StepOutcome], num_experts: int) -> np.ndarray:
    """int64 ``[num_experts]``: the steps in which each expert acted."""
    return np.bincount(np.concatenate([step.expert for step in outcomes]), minlength=num_experts)


class NotFinite(FlowrlError):
    """A reward is not a number."""

    def __init__(self, message: str, experts: frozenset[int]):
        """
        Args:
            experts: the experts that acted where it was paid.
        """
        super().__init__(message)
        self.experts = experts


def check_rewards(run: RunSpecification, outcomes: Sequence[StepOutcome]) -> None:
    """Raises NotFinite if a reward is not a number."""
    bad = [(step, ~np.isfinite(step.reward)) for step in outcomes if not np.isfinite(step.reward).all()]
    if bad:
        step, where = bad[0]
        task = run.plan[int(step.task[where][0])]
        raise NotFinite(
            f"task_reward of {task.skill_name} returned {step.reward[where][0]} during the training of "
            f"{run.skill_name}; expected a finite number: correct the skill's code",
            frozenset(int(expert) for step, where in bad for expert in step.expert[where]),
        )
