"""A whole run in this process, in a probe environment: to the goal, to the budget, stopped and resumed, gone wrong."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest

from flowrl import pickles
from flowrl.errors import FlowrlError
from flowrl.paths import RunPaths
from flowrl.skills.module import TaskSource, render_module
from flowrl.training import session as session_module
from flowrl.training.progress import Pane
from flowrl.training.session import TEST_EPISODES, Session, Stopped
from flowrl.training.specification import PlannedTask, RunSpecification, StartingExpert, TrainingSettings
from tests.training.probes import Probe
from tests.training.test_probe_environments import ActionHasToFitTheSight

UPDATE = 128
"""Frames an update."""

IS_DONE = "def task_is_done(inventory, n):\n    return inventory.steps >= n"
PAID = "def task_reward(inventory_diff):\n    return inventory_diff.gold"
NEVER = "def task_is_done(inventory):\n    return inventory.steps < 0"
ALL_RIGHT = "def task_is_done(inventory):\n    return (inventory.steps >= 3) & (inventory.gold >= 3)"


class RecordingTracker:
    def __init__(self):
        self.logged = []

    def log(self, frames, values):
        self.logged.append((frames, dict(values)))

    def finish(self, summary, failed):
        raise AssertionError("a session leaves this to its process")


class CountedLifetime:
    """Asks to stop when it has been beaten so many times."""

    def __init__(self, stop_after=math.inf):
        self.beats, self._stop_after = 0, stop_after

    @property
    def asked_to_stop(self):
        return self.beats >= self._stop_after

    def beat(self):
        self.beats += 1


@pytest.fixture
def play(monkeypatch, tmp_path):
    """Trains one run on a probe; the tasks are ``(done source, reward source, n)``, each with its own expert."""
    tracker = RecordingTracker()

    def run(adapter, tasks, lifetime=None, attempt=1, **settings):
        monkeypatch.setattr(session_module, "make_adapter", lambda env_name: adapter)
        specification = run_specification(tmp_path, tasks, attempt, settings)
        pane = Pane("Fit_Sight", 7, ["task"], 1, 0.8, specification.paths.log, stream=io.StringIO())
        with pane:
            started_s = session_module.time.time()
            return Session(specification, pane, tracker, lifetime or CountedLifetime(), started_s).train()

    run.paths = RunPaths(tmp_path / "skill_7_Fit_Sight")
    run.tracker = tracker
    return run


def run_specification(tmp_path, tasks, attempt, settings):
    paths = RunPaths(tmp_path / "skill_7_Fit_Sight")
    paths.folder.mkdir(exist_ok=True)
    names = ["Older_Skill", "Fit_Sight"][-len(tasks) :]
    indices = [3, 7][-len(tasks) :]
    sources = [TaskSource(name, n, k, done, reward) for k, (name, (done, reward, n)) in enumerate(zip(names, tasks))]
    return RunSpecification(
        paths=paths,
        skill_name="Fit_Sight",
        global_expert_idx=7,
        attempt=attempt,
        env_name="Probe",
        settings=TrainingSettings(**DEFAULTS | settings),
        plan=tuple(PlannedTask(source.skill_name, source.n, source.local_expert_idx) for source in sources),
        experts=tuple(StartingExpert(name, index, k, 0, 0, None) for k, (name, index) in enumerate(zip(names, indices))),
        module_text=render_module("Fit_Sight", 7, {index: k for k, index in enumerate(indices)}, sources),
        experiment=str(tmp_path),
    )


DEFAULTS = dict(
    total_timesteps=100 * UPDATE, success_rate=0.9, num_envs=16, num_steps=8, layer_size=16, lr=0.02, anneal_lr=True,
    gamma=0.5, gae_lambda=0.95, clip_eps=0.2, ent_coef=0.0, vf_coef=0.5, max_grad_norm=1.0, update_epochs=4,
    num_minibatches=2, max_task_steps=3, seed=0,
)  # fmt: skip


def metrics(paths):
    return [json.loads(line) for line in paths.metrics.read_text().splitlines()]


def test_a_run_ends_at_its_goal_and_reports_fresh_episodes_beside_chance(play):
    # Three right actions in a row: one episode in eight by chance, all of them once it is learned.
    result = play(ActionHasToFitTheSight(), [(ALL_RIGHT, PAID, 1)])
    assert result["goal_reached"] is True
    assert 0.9 <= result["success_rate"] <= 1
    assert result["random_success_rate"] == pytest.approx(1 / 8, abs=0.05)
    assert result["success_rate"] * TEST_EPISODES == pytest.approx(round(result["success_rate"] * TEST_EPISODES))
    assert UPDATE < result["frames"] < 100 * UPDATE
    assert result["acted_frames"] == {"7": result["frames"]}
    assert result["checkpoint"] == f"7_policies/checkpoint_{result['frames']}.pkl"
    assert pickles.load(play.paths.folder / result["checkpoint"])["metadata"]["frames"] == result["frames"]
    [task] = result["tasks"]
    assert (task["skill_name"], task["n"], task["success_rate"]) == ("Fit_Sight", 1, result["success_rate"])
    assert min(result[name] for name in ("seconds_to_first_update", "seconds_per_update", "seconds_training")) > 0
    assert "goal reached" in play.paths.log.read_text()


def test_a_run_that_misses_its_goal_ends_at_its_budget_with_a_line_an_update(play):
    result = play(Probe(), [(IS_DONE, PAID, 1), (NEVER, PAID, 1)], total_timesteps=3.5 * UPDATE)
    assert (result["goal_reached"], result["success_rate"], result["random_success_rate"]) == (False, 0.0, 0.0)
    assert result["frames"] == 3 * UPDATE
    assert [task["success_rate"] for task in result["tasks"]] == [1.0, 0.0]
    # One step in four is the first task's (its second one has three), and every frame is someone's.
    assert result["acted_frames"]["3"] + result["acted_frames"]["7"] == result["frames"]
    assert result["acted_frames"]["3"] == UPDATE * 3 / 4
    lines = metrics(play.paths)
    assert [line["frames"] for line in lines] == [UPDATE, 2 * UPDATE, 3 * UPDATE]
    assert [line["update"] for line in lines] == [1, 2, 3]
    assert lines[-1]["task_success_rates"].keys() == lines[-1]["experts"].keys() == {"Older_Skill", "Fit_Sight"}
    assert [frames for frames, _ in play.tracker.logged] == [UPDATE, 2 * UPDATE, 3 * UPDATE]
    assert "experts/Fit_Sight/value_loss" in play.tracker.logged[-1][1]


def test_a_run_that_was_asked_to_stop_goes_on_from_its_checkpoint(play):
    tasks, budget = [(NEVER, PAID, 1)], {"total_timesteps": 6 * UPDATE}
    with pytest.raises(Stopped):
        play(Probe(), tasks, CountedLifetime(stop_after=2), **budget)
    [checkpoint] = play.paths.checkpoints()
    stopped = pickles.load(checkpoint)
    assert stopped["metadata"]["frames"] == 3 * UPDATE

    result = play(Probe(), tasks, attempt=2, **budget)
    assert result["frames"] == 6 * UPDATE
    assert [line["frames"] for line in metrics(play.paths)] == [UPDATE * k for k in (1, 2, 4, 5, 6)]
    assert f"going on from frame {3 * UPDATE}" in play.paths.log.read_text()
    # Adam goes on counting where it stopped: 4 epochs of 2 minibatches an update.
    finished = pickles.load(play.paths.folder / result["checkpoint"])
    assert stopped["optimiser"]["0"]["1"]["count"] == 3 * 8
    assert finished["optimiser"]["0"]["1"]["count"] == 6 * 8


def test_a_reward_that_is_no_number_ends_the_run_and_names_the_skill(play):
    bad = "def task_reward(inventory):\n    return jnp.log(1.0 - inventory.steps)"

    class ProbeWithNumpy(Probe):
        scope = {"jnp": session_module.jax.numpy}

    with pytest.raises(FlowrlError, match="task_reward of Fit_Sight returned .*inf|nan.*correct the skill's code"):
        play(ProbeWithNumpy(), [(NEVER, bad, 1)])
    assert not play.paths.checkpoints()


def test_the_learning_rate_falls_to_nothing_only_when_it_is_to(play, monkeypatch):
    seen = []
    original = Session._lr
    monkeypatch.setattr(Session, "_lr", lambda self, standing: seen.append(original(self, standing)) or seen[-1])
    play(Probe(), [(NEVER, PAID, 1)], total_timesteps=4 * UPDATE)
    play(Probe(), [(NEVER, PAID, 1)], total_timesteps=8 * UPDATE, anneal_lr=False)
    np.testing.assert_allclose(seen, [0.02, 0.015, 0.01, 0.005] + [0.02] * 4)
