"""A rollout as one program is the same rollout, and takes over from the steps without a break."""

from __future__ import annotations

import threading

import jax
import numpy as np
import pytest

from flowrl.envs import tasks
from flowrl.skills.module import TaskFunctions
from flowrl.training.host import process
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing import fused_rollout, rollout
from flowrl.training.playing.environments import begin, refresh_worlds
from flowrl.training.playing.fused_rollout import Rollouts
from flowrl.training.run import parts
from flowrl.training.run.saving import Safekeeping
from tests.parallel.fakes.experiments import PATIENCE_S
from tests.training.probes import done_after, paid, programs_of, stage_of
from tests.training.test_loop import Gold, specification, train
from tests.training.test_programs import NETWORK, NUM_ENVS, NumberedSteps

NUM_STEPS = 6


@pytest.fixture(scope="module")
def programs():
    return programs_of(NumberedSteps(), NETWORK, NUM_ENVS, 2, Hyperparameters())


@pytest.fixture(scope="module")
def stage(programs):
    forever = TaskFunctions(lambda: False, (), paid, ("inventory_diff",))
    return stage_of(programs, [done_after(2), forever], tasks.plan_arrays([1, 0], [1, 1], 3))


def fresh_params(programs):
    learning = programs.learning
    return learning.fresh_learner([learning.fresh_expert(jax.random.key(k)) for k in range(2)]).params


def rollouts(programs, stage, fuse_after, count=4):
    """What ``count`` rollouts in a row gave, the ones from ``fuse_after`` on by a fused program."""
    params = fresh_params(programs)
    collected, playing = [], begin(stage, jax.random.key(0), 40)
    source = Rollouts(programs, stage.judge, NUM_STEPS)
    for number in range(count):
        if number == fuse_after:
            source.fuse(params, playing)
        playing, transitions, outcomes = source.collect(params, playing, jax.random.key(number))
        assert source.is_fused == (number >= fuse_after)
        collected.append(jax.device_get((rollout_data(transitions), outcomes, playing.scene, playing.bank.next_world)))
        playing = refresh_worlds(stage, playing, jax.random.key(100 + number), 16)
    return collected


def rollout_data(transitions):
    return [transition._asdict() for transition in transitions]


def check_equal(found, expected):
    """Actions and outcomes are the same; sums of floats may differ in their last bits."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        if np.issubdtype(np.asarray(one).dtype, np.floating):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(one, other)


def test_a_fused_rollout_is_the_one_that_is_made_step_by_step(programs, stage):
    """Over several rollouts, with tasks that end, budgets that run out, and worlds that are handed out and replaced.

    On the real games: ``benchmarks/fused_rollout.py``.
    """
    stepwise = rollouts(programs, stage, fuse_after=99)
    assert any(outcome.ended.any() for _, outcomes, *_ in stepwise for outcome in outcomes)
    assert any(np.any(step["truncation_value"]) for transitions, *_ in stepwise for step in transitions)
    check_equal(rollouts(programs, stage, fuse_after=2), stepwise)


def test_the_environment_variable_decides_and_else_the_kind_of_device(monkeypatch):
    monkeypatch.delenv(process.FUSED_ROLLOUT, raising=False)
    for backend, pays in (("cpu", False), ("gpu", True)):
        monkeypatch.setattr(jax, "default_backend", lambda: backend)
        assert fused_rollout.pays() is pays
    for value, pays in (("0", False), ("1", True)):
        monkeypatch.setenv(process.FUSED_ROLLOUT, value)
        assert fused_rollout.pays() is pays


def wait_for_background(*_):
    for thread in threading.enumerate():
        if thread.name == process.BACKGROUND:
            thread.join(PATIENCE_S)


def test_a_run_goes_over_to_fused_rollouts_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "make_adapter", lambda env_name: Gold())
    monkeypatch.setattr(Safekeeping, "save_now_and_then", wait_for_background)
    fused = []
    collect = Rollouts.collect
    monkeypatch.setattr(Rollouts, "collect", lambda self, *parts: fused.append(self.is_fused) or collect(self, *parts))
    monkeypatch.setenv(process.FUSED_ROLLOUT, "1")
    run = specification(tmp_path, total_timesteps=512, stop_at_goal=False)
    assert train(run).frames == 512
    assert fused == [False, True, True, True]
    assert "rollouts are one program from here on" in run.paths.log.read_text()


def test_rollouts_stay_step_by_step_if_the_device_has_no_room(programs, stage, monkeypatch):
    monkeypatch.setenv(process.FUSED_ROLLOUT, "1")
    monkeypatch.setattr(fused_rollout, "free_bytes", lambda: 0)
    source, said = Rollouts(programs, stage.judge, NUM_STEPS), []
    params = fresh_params(programs)
    source.fuse_beside(params, begin(stage, jax.random.key(0), 40), said.append)
    wait_for_background()
    assert len(said) == 1 and said[0].startswith("rollouts continue step by step: as one program they need ")
    assert not source.is_fused


def test_rollouts_stay_step_by_step_if_the_program_cannot_be_compiled(programs, stage, monkeypatch):
    monkeypatch.setenv(process.FUSED_ROLLOUT, "1")
    said = []
    source = Rollouts(programs, stage.judge, NUM_STEPS)
    params = fresh_params(programs)
    playing = begin(stage, jax.random.key(0), 40)

    def no_memory(*_):
        raise RuntimeError("no memory\nfor this")

    with monkeypatch.context() as broken:
        broken.setattr(rollout, "play", no_memory)
        source.fuse_beside(params, playing, said.append)
        wait_for_background()
    assert said == ["rollouts continue step by step: no memory for this"]
    _, transitions, _ = source.collect(params, playing, jax.random.key(0))
    assert len(transitions) == NUM_STEPS and not source.is_fused
