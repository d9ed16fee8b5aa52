"""The measured updates are those of an ordinary run."""

from __future__ import annotations

import jax
import numpy as np

from flowrl.training import workload
from flowrl.training.ppo import Hyperparameters
from flowrl.training.rollout import collect
from flowrl.training.workload import Workload
from tests.training.test_session import Gold

HYPER = Hyperparameters(update_epochs=1, num_minibatches=2)


def test_environments_keep_to_the_experts_they_are_given_over_the_ends_of_episodes(monkeypatch):
    monkeypatch.setattr(workload, "make_adapter", lambda env_name: Gold())
    monkeypatch.setattr(workload, "MAX_TASK_STEPS", 3)
    acting = np.arange(16) % 3
    run = Workload("Probe", 16, 8, 8, HYPER, num_experts=3, num_tasks=5, acting=acting)
    assert run.programs.plan.expert.tolist() == [0, 1, 2, 0, 1]
    run.update()
    _, rollout, outcomes = collect(run.programs, run.learner.params, run.playing, jax.random.key(0), 8)
    assert all(outcome.ended.any() for outcome in outcomes)
    for transition in rollout:
        np.testing.assert_array_equal(transition.expert, acting)
