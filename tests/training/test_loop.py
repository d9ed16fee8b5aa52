"""A whole run on a tiny game: goal, budget, resumption, being stopped, and what it writes."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl import pickles
from flowrl.envs.craftax.facts_full import FACTS as CRAFTAX
from flowrl.envs.observations import Layout
from flowrl.envs.registry import make_adapter
from flowrl.envs.worlds import Turnover
from flowrl.errors import BadInput, FlowrlError
from flowrl.parallel.training_setup import prepare_training_run
from flowrl.paths import RunPaths
from flowrl.proposers.curricula import craftax
from flowrl.records.result import Outcome
from flowrl.records.run_record import PlannedTask
from flowrl.records.training_settings import RunSettings
from flowrl.skills.module import TaskSource, render_module
from flowrl.tracking.trackers import no_tracker
from flowrl.training.compiled.stored_programs import ProgramStore
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.playing.learning import Updater
from flowrl.training.run import checkpoints, loop, parts, saving, updates
from flowrl.training.run.background import BackgroundCompiling
from flowrl.training.run.clock import Clock
from flowrl.training.run.goal import GoalTest
from flowrl.training.run.pane import Pane
from flowrl.training.run.specification import RunSpecification, StartingExpert, read
from flowrl.training.run.supervision import Stopped, Supervision
from flowrl.training.run.view import PlanView
from tests.parallel.fakes.experiments import put_in_library
from tests.training.probes import Probe, by_source

DONE = "def task_is_done(inventory, n):\n    return inventory.gold >= n\n"
PAY = "def task_reward(inventory_diff):\n    return inventory_diff.gold\n"
PAY_NAN = "def task_reward(inventory_diff):\n    return inventory_diff.gold + jnp.log(-1.0)\n"
SETTINGS = {
    "total_timesteps": 100_000, "success_rate": 0.9, "num_envs": 16, "num_steps": 8, "layer_size": 16, "lr": 0.02,
    "anneal_lr": False, "gamma": 0.9, "gae_lambda": 0.95, "clip_eps": 0.2, "ent_coef": 0.0, "vf_coef": 0.5,
    "max_grad_norm": 1.0, "update_epochs": 2, "num_minibatches": 2, "max_task_steps": 4, "seed": 0,
}  # fmt: skip


class Gold(Probe):
    """Action 1 finds a piece of gold, four times out of five; action 0 never does."""

    scope = {"jnp": jnp}

    @property
    def identity(self):
        return by_source(type(self))

    def step(self, key, state, action):
        lucky = jax.random.bernoulli(key, 0.8)
        observation, world, over = super().step(key, state, action * lucky)
        return observation, world, over

    def pay(self, world, action):
        return jnp.float32(action)


class RecordingTracker:
    """Records what it is given."""

    def __init__(self):
        self.logged = []

    def log(self, frames, values):
        self.logged.append((frames, dict(values)))


class Alive:
    """A lifetime that asks the run to stop after this many heartbeats of its work."""

    def __init__(self, beats: float = float("inf")):
        self.beats_left = beats
        self.phases: list[str] = []

    @property
    def asked_to_stop(self):
        return self.beats_left <= 0

    def beat(self, phase, usual_s=0.0):
        self.beats_left -= phase == "training"
        self.phases.append(phase)
        assert usual_s >= 0

    def check_is_newest(self):
        """No other attempt begins."""

    def uninterrupted(self):
        return contextlib.nullcontext()


class Cancelled(Alive):
    """A lifetime in which the user presses Ctrl-C after this many heartbeats, while the next update runs."""

    @contextlib.contextmanager
    def uninterrupted(self):
        yield
        if self.beats_left <= 0:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def tiny_game(monkeypatch):
    monkeypatch.setattr(parts, "make_adapter", lambda env_name: Gold())


def specification(folder, reward=PAY, plan=(("Find_Gold", 1, 0),), params=(None,), attempt=1, done=DONE, **settings):
    run = RunPaths(folder / "skill_7_Find_Gold")
    run.policies.mkdir(parents=True, exist_ok=True)
    names = {local: name for name, _, local in plan}
    tasks = [TaskSource(name, n, local, done, reward) for name, n, local in plan]
    indices = {local: 7 if local == len(params) - 1 else local for local in range(len(params))}
    return RunSpecification(
        paths=run,
        skill_name="Find_Gold",
        global_expert_idx=7,
        attempt=attempt,
        env_name="Probe",
        settings=RunSettings(**SETTINGS | settings),
        plan=tuple(PlannedTask(name, n, indices[local], local) for name, n, local in plan),
        experts=tuple(StartingExpert(names[local], indices[local], local, 0, 0, value) for local, value in enumerate(params)),
        module_text=render_module("Find_Gold", 7, {index: local for local, index in indices.items()}, tasks),
        experiment=str(folder),
    )


def supervised(run, pane=None, lifetime=None, tracker=None):
    clock = Clock(time.time(), run.settings.frames_per_update)
    return Supervision(run.skill_name, pane, tracker or no_tracker(), lifetime or Alive(), clock)


def train(run, lifetime=None, tracker=None):
    settings = run.settings
    with Pane(
        PlanView(run.skill_name, ["Find_Gold x1"], settings.success_rate, settings.total_timesteps), run.paths.log
    ) as pane:
        return loop.train(run, supervised(run, pane, lifetime, tracker))


def metrics(run):
    return [json.loads(line) for line in run.paths.metrics.read_text().splitlines()]


def test_a_run_ends_at_the_goal_and_reports_the_episodes_that_showed_it(tmp_path):
    run = specification(tmp_path)
    result = train(run)
    assert result.goal_reached and result.success_rate >= 0.9
    # At random, each of 4 steps finds gold with probability 0.4.
    assert result.random_success_rate == pytest.approx(1 - 0.6**4, abs=0.08)
    assert 0 < result.frames < 100_000
    assert result.acted_frames == {"7": result.frames}
    assert (run.paths.folder / result.checkpoint).exists()
    assert [task.skill_name for task in result.tasks] == ["Find_Gold"]


def test_the_log_says_that_a_skill_that_random_actions_do_anyway_does_not_count_as_learned(tmp_path):
    run = specification(tmp_path, max_task_steps=10)
    result = train(run)
    assert result.goal_reached and result.random_success_rate >= 0.9
    line = f"Find_Gold: a random policy does it in {result.random_success_rate:.2f} of worlds; it does not count as learned"
    assert line in run.paths.log.read_text()


def test_a_slow_skills_own_budget_goes_from_its_declaration_through_the_runs_folder_into_training(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "make_adapter", make_adapter)  # the real game: its skill's code names its constants

    put_in_library(tmp_path, 0, "Place_Plant", 1000)
    eat_plant = next(recipe.spec(CRAFTAX) for recipe in craftax.SKILLS if recipe.name == "Eat_Plant")
    library = {"Place_Plant": {"expert_idx": 0}}
    folder, _, _ = prepare_training_run("Eat_Plant", eat_plant.to_data(), 1, list(library), library, tmp_path)
    run = read(folder)
    budget = parts.ordinary(run, supervised(run)).stage.judge.plan.budget.tolist()
    assert budget == [run.settings.max_task_steps, 800] == [200, 800]


def test_a_run_ends_at_the_budget_below_the_goal_says_so_and_replaces_its_worlds(tmp_path, monkeypatch):
    due, ended, counts = Turnover.due, [], []

    def watched(self, num_ended):
        ended.append(num_ended)
        return due(self, num_ended)

    def refresh(stage, playing, key, count):
        counts.append(count)
        return playing

    monkeypatch.setattr(updates, "FRAMES_PER_WORLD", 1)  # else a rollout of so few frames would not pay for more than 16
    monkeypatch.setattr(Turnover, "due", watched)
    monkeypatch.setattr(updates, "refresh_worlds", refresh)
    run = specification(tmp_path, success_rate=1.0, total_timesteps=3 * 128 + 50)
    result = train(run)
    assert not result.goal_reached
    assert result.frames == 3 * 128  # never more than the budget
    assert len(ended) == 3 and sum(counts) == sum(ended) // 64 * 16 > 0  # a fresh one for four episodes, 16 at a time
    assert [line["frames"] for line in metrics(run)] == [128, 256, 384]


def test_a_run_that_must_not_stop_at_its_goal_uses_its_whole_budget(tmp_path, monkeypatch):
    monkeypatch.setattr(GoalTest, "is_due", lambda *args: True)
    run = specification(tmp_path, success_rate=0.0, total_timesteps=3 * 128, stop_at_goal=False)
    result = train(run)
    assert result.goal_reached and result.frames == 3 * 128


def test_programs_that_the_first_update_called_are_remembered_once_for_later_runs(tmp_path, monkeypatch):
    made, remember = [], ProgramStore.remember
    monkeypatch.setattr(ProgramStore, "remember", lambda store: made.append(metrics(run)) or remember(store))
    run = specification(tmp_path, success_rate=1.0, total_timesteps=256)
    run.paths.metrics.touch()
    train(run)
    assert made == [[]] and len(metrics(run)) == 2  # before the first update's line


def test_every_update_leaves_a_line_of_metrics_that_any_json_reader_takes(tmp_path):
    run = specification(tmp_path, success_rate=1.0, total_timesteps=256)
    train(run)
    lines = metrics(run)
    assert [line["update"] for line in lines] == [1, 2]
    assert {"frames_per_s", "success_rate", "estimate", "reward", "seconds"} <= lines[0].keys()
    assert set(lines[0]["experts"]["Find_Gold"]) == {"policy_loss", "value_loss", "entropy", "kl", "clip_fraction"}
    assert "first update after" in run.paths.log.read_text()


def test_a_stopped_run_goes_on_where_it_stopped(tmp_path):
    run = specification(tmp_path, success_rate=1.0, total_timesteps=5 * 128)
    with pytest.raises(Stopped):
        train(run, Alive(beats=2))
    stopped_at = metrics(run)[-1]["frames"]
    assert 0 < stopped_at < 5 * 128
    again = specification(tmp_path, success_rate=1.0, total_timesteps=5 * 128, attempt=2)
    result = train(again)
    assert result.frames == 5 * 128 == result.acted_frames["7"]
    frames = [line["frames"] for line in metrics(run)]
    assert frames == sorted(frames) and len(set(frames[-2:])) == 2
    assert "continuing from frame" in run.paths.log.read_text()


def test_a_run_that_is_asked_to_stop_while_it_waits_for_a_compiler_stops_without_another_update(tmp_path, monkeypatch):
    class Waiting(Alive):
        """The compiler ends, and a stop is asked for, when the run says that it waits."""

        compiler = None

        def beat(self, phase, usual_s=0.0):
            super().beat(phase, usual_s)
            if phase == "compiling" and self.compiler:
                self.compiler.__exit__()
                self.beats_left = 0

    def compile_aside(self, *_):
        lifetime = self._supervision.lifetime
        lifetime.compiler = self._turn
        lifetime.compiler.__enter__()

    monkeypatch.setattr(BackgroundCompiling, "go_on", compile_aside)
    run = specification(tmp_path, success_rate=1.0, total_timesteps=5 * 128)
    with pytest.raises(Stopped):
        train(run, Waiting())
    assert [line["frames"] for line in metrics(run)] == [128]
    assert [path.name for path in run.paths.checkpoints()] == ["checkpoint_128.pkl"]


def test_a_run_beats_with_its_work_and_says_when_it_compiles(tmp_path):
    lifetime = Alive()
    train(specification(tmp_path, success_rate=1.0, total_timesteps=3 * 128), lifetime)
    # Compiling, three updates, then two tests that begin with programs of their own.
    groups = [(phase, len(list(beats))) for phase, beats in itertools.groupby(lifetime.phases)]
    assert [phase for phase, _ in groups] == ["compiling", "training"] * 3
    assert groups[1] == ("training", 3)


def test_a_run_that_ran_out_of_memory_goes_on_with_fewer_environments_and_counts_each_frame_once(tmp_path):
    run = specification(tmp_path, success_rate=1.0, total_timesteps=5 * 128)
    with pytest.raises(Stopped):
        train(run, Alive(beats=2))
    assert pickles.load(run.paths.checkpoints()[-1])["metadata"]["frames"] == 3 * 128
    fewer = {"num_envs": 8, "num_minibatches": 1}
    smaller = specification(tmp_path, success_rate=1.0, total_timesteps=5 * 128, attempt=2, **fewer)
    result = train(dataclasses.replace(smaller, asked_num_envs=16))
    assert result.frames == 5 * 128 == result.acted_frames["7"]
    assert [line["frames"] for line in metrics(run)] == [128, 256, 448, 512, 576, 640]
    assert "8 environments instead of 16: an earlier attempt ran out of memory" in run.paths.log.read_text()


def test_a_run_in_mixed_precision_reaches_its_goal_too_with_other_numbers(tmp_path):
    runs = {mixed: specification(tmp_path / str(mixed), mixed_precision=mixed) for mixed in (False, True)}
    results = {mixed: train(run) for mixed, run in runs.items()}
    assert all(result.goal_reached for result in results.values())
    losses = [[line["value_loss"] for line in metrics(run)] for run in runs.values()]
    assert losses[0] != losses[1] and losses[0][0] == pytest.approx(losses[1][0], rel=0.05)


def test_ctrl_c_leaves_a_checkpoint_to_go_on_from(tmp_path):
    run = specification(tmp_path, success_rate=1.0, total_timesteps=5 * 128)
    with pytest.raises(KeyboardInterrupt):
        train(run, Cancelled(beats=2))
    assert [path.name for path in run.paths.checkpoints()] == ["checkpoint_384.pkl"]  # the update that was under way
    assert train(specification(tmp_path, success_rate=1.0, total_timesteps=5 * 128, attempt=2)).frames == 5 * 128
    assert "continuing from frame 384" in run.paths.log.read_text()


def test_a_second_ctrl_c_within_an_update_still_cancels(tmp_path, monkeypatch):
    class Impatient(Alive):
        """The second press comes when the update has used the old parameters up."""

        def update(self, *arguments):
            found = update(*arguments)
            if self.beats_left <= 0:
                raise KeyboardInterrupt
            return found

    update, lifetime = Updater.update, Impatient(beats=2)
    monkeypatch.setattr(Updater, "update", lambda *arguments: lifetime.update(*arguments))
    monkeypatch.setattr(Impatient, "asked_to_stop", False)
    run = specification(tmp_path, success_rate=1.0, total_timesteps=5 * 128)
    with pytest.raises(KeyboardInterrupt):
        train(run, lifetime)
    assert run.paths.checkpoints() == []  # none was due yet, and what was learned since went with the update


def test_resuming_restores_parameters_and_adam_bit_for_bit(tmp_path):
    run = specification(tmp_path, success_rate=1.0, total_timesteps=256)
    train(run)
    record = pickles.load(run.paths.checkpoints()[-1])
    with Pane(PlanView("Find_Gold (expert 7)", [], 1.0, 256), run.paths.log) as pane:
        state = parts.restored(parts.ordinary(run, supervised(run, pane)))
    learner = state.learner
    assert state.frames == 256 and state.updates == 2
    assert (np.asarray(jax.random.key_data(state.key)) == record["random"]).all()
    jax.tree.map(
        np.testing.assert_array_equal, jax.tree.map(lambda leaf: leaf[0], learner.params), record["experts"]["0"]["params"]
    )
    stored = jax.tree.leaves(record["optimiser"]["0"])
    assert all((np.asarray(a[0]) == b).all() for a, b in zip(jax.tree.leaves(learner.optimiser_state), stored, strict=True))
    assert any(np.any(leaf) for leaf in stored)


def test_only_the_last_checkpoints_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "CHECKPOINT_S", 0.0)
    run = specification(tmp_path, success_rate=1.0, total_timesteps=6 * 128)
    train(run)
    assert [path.name for path in run.paths.checkpoints()] == ["checkpoint_640.pkl", "checkpoint_768.pkl"]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "CHECKPOINT_S", 0.0)
    run = specification(tmp_path, success_rate=1.0, total_timesteps=3 * 128)
    train(run)
    newest = run.paths.checkpoints()[-1]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    result = train(specification(tmp_path, success_rate=1.0, total_timesteps=3 * 128, attempt=2))
    assert result.frames == 3 * 128
    assert "continuing from frame 256" in run.paths.log.read_text()


def test_a_checkpoint_of_another_width_is_refused_by_shape(tmp_path):
    train(specification(tmp_path, success_rate=1.0, total_timesteps=128))
    with pytest.raises(BadInput, match="shape"):
        train(specification(tmp_path, success_rate=1.0, total_timesteps=256, layer_size=32, attempt=2))


def test_a_run_of_no_frames_leaves_every_expert_as_it_began_and_measures_it(tmp_path):
    known = jax.tree.map(np.asarray, ExpertNetwork(Layout(0, 0, 1), 2, 16).init(jax.random.key(3)))
    plan = (("Find_Little", 1, 0), ("Find_Gold", 2, 1))
    result = train(specification(tmp_path, plan=plan, params=(known, known), success_rate=1.0, total_timesteps=0))
    assert (result.outcome, result.frames, result.acted_frames) == (Outcome.COMPLETED, 0, {"0": 0, "7": 0})
    assert result.success_rate is not None and result.frames_per_s is None
    checkpoint = pickles.load(tmp_path / "skill_7_Find_Gold" / result.checkpoint)
    for local in "01":
        jax.tree.map(np.testing.assert_array_equal, checkpoint["experts"][local]["params"], known)


def test_training_starts_from_the_librarys_experts(tmp_path):
    known = jax.tree.map(np.asarray, ExpertNetwork(Layout(0, 0, 1), 2, 16).init(jax.random.key(3)))
    plan = (("Find_Little", 1, 0), ("Find_Gold", 2, 1))
    run = specification(
        tmp_path, plan=plan, params=(known, None), success_rate=1.0, total_timesteps=128, lr=1e-300
    )  # 0 in float32
    result = train(run)
    checkpoint = pickles.load(run.paths.folder / result.checkpoint)
    jax.tree.map(np.testing.assert_array_equal, checkpoint["experts"]["0"]["params"], known)
    assert checkpoint["metadata"]["local_to_global"] == {"0": 0, "1": 7}
    assert sum(result.acted_frames.values()) == result.frames
    assert set(result.acted_frames) == {"0", "7"}


def test_held_dependencies_act_and_stay_as_they_are_while_the_own_expert_learns(tmp_path):
    known = jax.tree.map(np.asarray, ExpertNetwork(Layout(0, 0, 1), 2, 16).init(jax.random.key(3)))
    plan = (("Find_Little", 1, 0), ("Find_Gold", 2, 1))
    learned = {}
    for held in (True, False):
        settings = {"success_rate": 1.0, "total_timesteps": 128, "hold_dependencies": held}
        run = specification(tmp_path / str(held), plan=plan, params=(known, None), **settings)
        result = train(run)
        experts = pickles.load(run.paths.folder / result.checkpoint)["experts"]
        learned[held] = [jax.tree.leaves(experts[local]["params"]) for local in "01"]
        assert (result.acted_frames["0"] == 0) == held and result.acted_frames["7"] > 0
    for mine, before in zip(learned[True][0], jax.tree.leaves(known), strict=True):
        np.testing.assert_array_equal(mine, before)
    assert any(not np.array_equal(mine, before) for mine, before in zip(learned[False][0], jax.tree.leaves(known), strict=True))
    # An expert learns from its own steps only, so it learns the same beside one that is held.
    for mine, other in zip(learned[True][1], learned[False][1], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)


def test_with_held_dependencies_a_run_ends_once_its_own_task_succeeds_though_the_plan_cannot(tmp_path):
    known = jax.tree.map(np.asarray, ExpertNetwork(Layout(0, 0, 1), 2, 16).init(jax.random.key(3)))
    plan = (("Find_Little", 1, 0), ("Find_Gold", 2, 1))
    run = specification(tmp_path, plan=plan, params=(known, None), success_rate=0.96, hold_dependencies=True)
    result = train(run)
    little, gold = result.tasks
    assert result.frames < 100_000 and gold.success_rate >= 0.96 > little.success_rate >= result.success_rate
    assert not result.goal_reached  # which is about the whole plan
    assert "of tries at the skill's own task" in run.paths.log.read_text()


@pytest.mark.parametrize(
    ("wanted", "source", "line"),
    [
        ("auto", "Find_Silver", "the expert of Find_Gold starts as a copy of that of Find_Silver"),
        ("auto", None, "the expert of Find_Gold starts fresh: no skill of the library is similar"),
        ("Find_Silver", None, "the expert of Find_Gold starts fresh: the library has no expert of Find_Silver yet"),
        ("none", None, None),
    ],
)
def test_a_new_expert_starts_from_another_one_and_the_log_says_so_once(tmp_path, wanted, source, line):
    known = jax.tree.map(np.asarray, ExpertNetwork(Layout(0, 0, 1), 2, 16).init(jax.random.key(3)))
    run = specification(tmp_path, params=(known if source else None,), success_rate=1.0, init_from=wanted)
    run = dataclasses.replace(run, init_from=source)
    for attempt in range(2):  # the second one goes on from a checkpoint
        with Pane(PlanView("Find_Gold (expert 7)", [], 1.0, 256), run.paths.log) as pane:
            ordinary = parts.ordinary(run, supervised(run, pane))
            state = parts.restored(ordinary)
        if not attempt:
            checkpoints.save(run.paths, state._replace(frames=128), {0: 7}, 1)
        if source:
            jax.tree.map(lambda leaf, mine: np.testing.assert_array_equal(leaf[0], mine), state.learner.params, known)
    log = run.paths.log.read_text()
    assert log.count(" starts ") == bool(line) and (line is None or line in log)


def test_a_reward_that_is_not_a_number_ends_the_run_and_names_the_skill(tmp_path):
    with pytest.raises(FlowrlError, match="task_reward of Find_Gold returned nan"):
        train(specification(tmp_path, reward=PAY_NAN, total_timesteps=256))


def test_a_checkpoint_names_its_format(tmp_path):
    run = specification(tmp_path, success_rate=1.0, total_timesteps=128)
    train(run)
    record = pickles.load(run.paths.checkpoints()[-1])
    assert (record["format"], record["version"]) == (checkpoints.FORMAT, checkpoints.VERSION)
    assert record["metadata"]["acted_frames"] == {"0": 128}


def test_every_task_has_its_rates_and_every_frame_is_counted_for_the_expert_that_acted(tmp_path):
    plan = (("Find_Little", 1, 0), ("Find_Gold", 2, 1))
    run = specification(tmp_path, plan=plan, params=(None, None), success_rate=1.0, total_timesteps=3 * 128)
    result = train(run)
    assert sum(result.acted_frames.values()) == result.frames == 3 * 128
    assert min(result.acted_frames.values()) > 0
    little, gold = result.tasks
    assert (little.skill_name, little.n, gold.skill_name, gold.n) == ("Find_Little", 1, "Find_Gold", 2)
    # At random: one piece within 4 steps, and then another one within 8.
    assert little.random_success_rate == pytest.approx(1 - 0.6**4, abs=0.06)
    assert gold.random_success_rate == pytest.approx(1 - 0.6**8, abs=0.03)
    assert result.random_success_rate == pytest.approx((1 - 0.6**4) * (1 - 0.6**8), abs=0.06)
    assert little.success_rate * gold.success_rate == pytest.approx(result.success_rate)


def test_the_tracker_gets_every_update(tmp_path):
    tracker = RecordingTracker()
    run = specification(tmp_path, success_rate=1.0, total_timesteps=3 * 128)
    train(run, tracker=tracker)
    assert [frames for frames, _ in tracker.logged] == [128, 256, 384]
    for _, values in tracker.logged:
        assert {"reward", "frames_per_s", "experts/Find_Gold/entropy"} <= values.keys()
        assert not any(value is None or isinstance(value, dict) for value in values.values())


@pytest.mark.parametrize(("anneal_lr", "expected"), [(True, [0.02, 0.015, 0.01, 0.005]), (False, [0.02] * 4)])
def test_the_learning_rate_falls_to_zero_if_annealed(tmp_path, monkeypatch, anneal_lr, expected):
    seen, update = [], Updater.update
    monkeypatch.setattr(Updater, "update", lambda *arguments: seen.append(float(arguments[-1])) or update(*arguments))
    train(specification(tmp_path, success_rate=1.0, total_timesteps=4 * 128, anneal_lr=anneal_lr))
    assert seen == pytest.approx(expected)
