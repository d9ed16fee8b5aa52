"""What is measured: environments that keep their experts, and rollouts as a run would make them."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from flowrl.training.calibration import workload
from flowrl.training.calibration.workload import Workload
from flowrl.training.host import process
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing.fused_rollout import Rollouts
from tests.training.test_loop import Gold

HYPER = Hyperparameters(update_epochs=1, num_minibatches=2)
ACTING = np.arange(16) % 3


@pytest.fixture
def make_run(monkeypatch):
    monkeypatch.setattr(workload, "make_adapter", lambda env_name: Gold())
    monkeypatch.setattr(workload, "MAX_TASK_STEPS", 3)

    def make(fused: bool) -> Workload:
        monkeypatch.setenv(process.FUSED_ROLLOUT, str(int(fused)))
        return Workload("Probe", 16, 8, 8, HYPER, num_experts=3, num_tasks=5, acting=ACTING)

    return make


@pytest.mark.parametrize("fused", [False, True])
def test_environments_keep_to_the_experts_they_are_given_over_the_ends_of_episodes(make_run, fused):
    run = make_run(fused)
    assert run.stage.judge.plan.expert.tolist() == [0, 1, 2, 0, 1]
    assert set(run.update()) == {"total", "rollout", "update", "worlds"}
    assert run._rollouts.is_fused == fused
    _, rollout, outcomes = run._rollouts.collect(run.learner.params, run.playing, jax.random.key(0))
    assert all(outcome.ended.any() for outcome in outcomes)
    for transition in rollout:
        np.testing.assert_array_equal(transition.expert, ACTING)


def test_step_by_step_rollouts_are_measured_if_a_run_would_use_them(make_run, monkeypatch):
    def no_room(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(Rollouts, "fuse", no_room)
    run = make_run(fused=True)
    assert not run._rollouts.is_fused and run.update()["total"] > 0
