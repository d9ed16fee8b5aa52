"""The second half of an update: learning from a rollout, so that no interrupt loses what was learned."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.errors import FlowrlError
from flowrl.records.training_settings import RunSettings
from flowrl.training.learning.ppo import Statistics, Transition
from flowrl.training.playing.learning import Learning, Updater
from flowrl.training.run.saving import Safekeeping
from flowrl.training.run.state import RunState
from flowrl.training.run.supervision import Supervision

NOBODY = np.iinfo(np.int32).max
"""In place of an expert: learning sorts samples by expert, and comes to no such one."""


class LearningStep:
    """Learns from the rollouts of one run.

    Args:
        learns: bool ``[num experts]``: which experts learn; None: all of them.
    """

    def __init__(
        self,
        settings: RunSettings,
        learning: Learning,
        kept: Safekeeping,
        supervision: Supervision,
        learns: np.ndarray | None = None,
    ):
        self._settings, self._kept, self._supervision = settings, kept, supervision
        self._updater = Updater(learning)
        self._learns = learns

    def take(
        self,
        state: RunState,
        rollout: tuple[Transition, ...],
        last_values: jax.Array,
        acted_frames: np.ndarray,
        key: jax.Array,
        check: Callable[[], None] = lambda: None,
    ) -> tuple[RunState, Statistics]:
        """The state after learning from a rollout, and the losses, on the host; ``state`` is donated.

        Args:
            last_values: float32 ``[B]``: of where the environments are now.
            acted_frames: int64 ``[num experts]``: the frames of the rollout in which each expert acted; those of an expert
                that is held are not counted.
            check: called before the new state counts; raises if it must not.

        Raises:
            FlowrlError: learning has diverged.
        """
        if self._learns is not None:
            acted_frames = acted_frames * self._learns
            rollout = of_learners(rollout, self._learns)
        # The update reuses the old learner's memory for the new one. A Ctrl-C waits only for one that has learned something.
        with self._supervision.sheltered():
            self._kept.using_up()
            learner, losses = self._updater.update(state.learner, rollout, last_values, key, self._lr(state))
            losses = jax.device_get(losses)
            check()
            if not all(np.isfinite(part).all() for part in losses):
                raise FlowrlError(
                    f"training {self._supervision.skill_name} diverged: a loss is not a number; try a smaller --lr"
                )
            frames = state.frames + self._settings.frames_per_update
            state = RunState(learner, frames, state.updates + 1, state.acted_frames + acted_frames, state.key)
            self._kept.learned(state)
        return state, losses

    def _lr(self, state: RunState) -> float:
        left = max(0.0, 1 - state.frames / self._settings.total_timesteps)
        return self._settings.lr * (left if self._settings.anneal_lr else 1.0)


@jax.jit
def of_learners(rollout: tuple[Transition, ...], learns: jax.Array) -> tuple[Transition, ...]:
    """The rollout, with the steps of experts that are held given to nobody, so that no expert learns from them."""
    return tuple(step._replace(expert=jnp.where(learns[step.expert], step.expert, NOBODY)) for step in rollout)
