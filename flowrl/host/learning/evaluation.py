"""How good an agent is: whole episodes on a single environment, with the decision that it holds most likely."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowrl.host.interface import VecEnv
from flowrl.host.learning.actions import Actions
from flowrl.host.learning.numpy_policy import Policy
from flowrl.host.learning.observations import Layout

_MOST_STEPS = 1_000_000
"""An evaluation ends after so many steps, even if episodes do not: an agent may walk in circles for ever."""


class Evaluation(NamedTuple):
    """Whole episodes.

    Attributes:
        returns: ``[num_episodes]``, float64.
        lengths: ``[num_episodes]``, steps.
    """

    returns: np.ndarray
    lengths: np.ndarray

    @property
    def mean(self) -> float | None:
        """The mean return; None if no episode ended."""
        return float(self.returns.mean()) if len(self.returns) else None

    def in_words(self) -> str:
        if self.mean is None:
            return f"no episode ended in {_MOST_STEPS:,} steps"
        return (
            f"mean reward {self.mean:.2f} over {len(self.returns)} episodes (standard deviation {self.returns.std():.2f}, "
            f"lowest {self.returns.min():.2f}, mean length {self.lengths.mean():.1f})"
        )


def evaluate(env: VecEnv, layout: Layout, actions: Actions, policy: Policy, num_episodes: int, seed: int) -> Evaluation:
    """Plays episodes one after the other.

    Args:
        env: a batch of one environment.
        seed: of the first episode; the environment's own random numbers decide about the others.
    """
    assert env.num_envs == 1, "an evaluation uses a single environment"
    observations = env.reset(seed=seed)
    env.get_episode_stats()  # of an earlier evaluation
    returns, lengths, steps = [], [], 0
    while len(returns) < num_episodes and steps < _MOST_STEPS:
        decision = actions.best(policy.outputs(layout.encode(observations)), env.get_action_masks())
        result = env.step(actions.to_env(decision))
        observations, steps = result.observations, steps + 1
        if result.terminated[0] or result.truncated[0]:
            found = env.get_episode_stats()
            returns += list(found.returns)
            lengths += list(found.lengths)
    return Evaluation(np.array(returns), np.array(lengths, np.int64))
