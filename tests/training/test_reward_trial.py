"""Several rewards for one skill: the most successful one is chosen, and a killed run decides once."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np
import pytest

from flowrl import pickles
from flowrl.envs.observations import Layout
from flowrl.errors import FlowrlError
from flowrl.skills.module import TaskSource, read_module, render_module, with_reward
from flowrl.training.host import process
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Hyperparameters, Learner
from flowrl.training.playing.comparison import Score, begin_alike, split_by_reward
from flowrl.training.playing.environments import Stage
from flowrl.training.run import checkpoints, loop, measuring, parts, reward_trial
from flowrl.training.run.clock import Clock
from flowrl.training.run.decision import best
from flowrl.training.run.pane import Pane
from flowrl.training.run.specification import InitialExpert, RunSpecification
from flowrl.training.run.supervision import Stopped
from flowrl.training.run.view import PlanView
from tests.training.probes import programs_of
from tests.training.test_loop import DONE, PAY, PAY_NAN, Alive, Cancelled, Gold, metrics, specification, supervised

MISLEADING = "def task_reward(inventory_diff):\n    return 5.0 * (inventory_diff.gold == 0)\n"
USELESS = "def task_reward(inventory_diff):\n    return 0.0 * inventory_diff.gold\n"
TRIAL_FRAMES = 16 * 128


@pytest.fixture(scope="module", autouse=True)
def tiny_game():
    """Few episodes are enough where the rates are far apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "make_adapter", lambda env_name: Gold())
        patch.setattr(reward_trial, "make_adapter", lambda env_name: Gold())
        patch.setattr(measuring, "TEST_EPISODES", 64)
        patch.setattr(reward_trial, "TRIAL_EPISODES", 64)
        yield


def several(folder, *rewards, plan=(("Find_Gold", 1, 0),), **how):
    """A run whose skill has these rewards on trial."""
    how = {"candidate_timesteps": TRIAL_FRAMES, "success_rate": 1.0, "total_timesteps": TRIAL_FRAMES + 256} | how
    run = specification(folder, plan=plan, **how)
    to_local = {expert.global_expert_idx: expert.local_expert_idx for expert in run.experts}
    sources = [TaskSource(name, n, local, DONE, PAY) for name, n, local in plan[:-1]]
    sources.append(TaskSource(*plan[-1], DONE, rewards[0]))
    return replace(run, module_text=render_module("Find_Gold", 7, to_local, sources, rewards[1:]))


def train(run, lifetime=None):
    """As ``python -m flowrl.training`` does."""
    with Pane(PlanView("Find_Gold (expert 7)", ["Find_Gold x1"], 1.0, run.settings.total_timesteps), run.paths.log) as pane:
        supervision = supervised(run, pane, lifetime)
        tried = reward_trial.decide(run, supervision)
        return tried.completed(loop.train(tried.run, supervision))


def decision(run):
    return json.loads(run.paths.candidates.read_text())


class Whole(NamedTuple):
    """A run from its start to its end, and what it handed over after the trial."""

    run: RunSpecification
    result: dict
    winner: Learner
    record: dict
    clock: Clock


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_game) -> Whole:
    """The second of its two rewards is the good one; the first pays more."""
    run, seen = several(tmp_path_factory.mktemp("whole"), MISLEADING, PAY), {}
    hand_over = reward_trial.hand_over

    def watched(trial, state, chosen):
        seen["winner"] = jax.tree.map(lambda leaf: np.asarray(leaf[trial.owners[chosen - 1]]), state.learner)
        hand_over(trial, state, chosen)
        seen["record"] = pickles.load(trial.run.paths.checkpoints()[-1])

    def ended(parts, *arguments):
        seen["clock"] = parts.supervision.clock
        return measured(parts, *arguments)

    measured = loop.measured
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reward_trial, "hand_over", watched)
        patch.setattr(loop, "measured", ended)
        return Whole(run, train(run), **seen)


def test_the_reward_that_brings_success_wins_over_one_that_pays_more(whole):
    found = decision(whole.run)
    misleading, paying = found["candidates"]
    assert misleading["mean_return"] > 2 * paying["mean_return"]
    assert paying["success_rate"] > misleading["success_rate"] + 0.3
    assert (found["chosen"], found["why"]) == (2, "the highest success rate")
    assert found["frames"] == TRIAL_FRAMES and found["episodes"] == 64
    assert whole.result.candidates == {
        "chosen": 2, "frames": TRIAL_FRAMES, "success_rates": [misleading["success_rate"], paying["success_rate"]],
    }  # fmt: skip
    assert whole.result.success_rate > 0.9
    log = whole.run.paths.log.read_text()
    assert "reward 2 of 2 continues: the highest success rate" in log and ", rewards 0." in log


def test_the_frames_of_the_trial_are_frames_of_the_run(whole):
    result, lines = whole.result, metrics(whole.run)
    assert result.frames == TRIAL_FRAMES + 256
    assert [line["frames"] for line in lines] == list(range(128, TRIAL_FRAMES + 257, 128))
    assert [line["update"] for line in lines] == list(range(1, 19))
    # Every second environment was the winner's; after the trial all are.
    assert result.acted_frames == {"7": TRIAL_FRAMES // 2 + 256}
    assert "reward_2_success" in lines[0] and "reward_2_success" not in lines[-1]
    assert not whole.run.paths.trial.policies.exists()
    # The pace is that of all updates, of which two compile.
    assert result.seconds_training == pytest.approx(sum(whole.clock.update_seconds), abs=0.01)
    assert len(whole.clock.update_seconds) == 18 and whole.run.paths.log.read_text().count("first update after") == 1


def test_the_winners_expert_and_adam_go_on_bit_for_bit(whole):
    jax.tree.map(np.testing.assert_array_equal, whole.winner.params, whole.record["experts"]["0"]["params"])
    stored = jax.tree.leaves(whole.record["optimiser"]["0"])
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(whole.winner.optimiser_state), stored, strict=True))
    assert whole.record["metadata"]["frames"] == TRIAL_FRAMES and whole.record["metadata"]["local_to_global"] == {"0": 7}


def test_experts_of_the_plan_are_shared_and_the_losers_are_dropped(tmp_path):
    known = jax.tree.map(np.asarray, ExpertNetwork(Layout(0, 0, 1), 2, 16).init(jax.random.key(3)))
    plan = (("Find_Little", 1, 0), ("Find_Gold", 2, 1))
    run = several(tmp_path, USELESS, MISLEADING, PAY, plan=plan, params=(known, None), num_envs=18, num_minibatches=3)
    result = train(run)
    assert result.candidates["chosen"] == 3
    assert set(result.acted_frames) == {"0", "7"}
    of_experts = metrics(run)[0]["experts"]
    assert list(of_experts) == ["Find_Little", "Find_Gold", "Find_Gold (reward 2)", "Find_Gold (reward 3)"]
    assert list(metrics(run)[-1]["experts"]) == ["Find_Little", "Find_Gold"]
    checkpoint = pickles.load(run.paths.folder / result.checkpoint)
    assert checkpoint["metadata"]["local_to_global"] == {"0": 0, "1": 7} and set(checkpoint["experts"]) == {"0", "1"}
    changed = jax.tree.map(lambda a, b: np.any(a != b), checkpoint["experts"]["0"]["params"], known)
    assert any(jax.tree.leaves(changed))


def test_a_run_stopped_in_the_trial_goes_on_with_the_trial(tmp_path):
    run = several(tmp_path, MISLEADING, PAY)
    with pytest.raises(Stopped):
        train(run, Alive(beats=5))
    assert not run.paths.candidates.exists() and not run.paths.checkpoints() and run.paths.has_checkpoints
    stopped_at = pickles.load(run.paths.trial.checkpoints()[-1])["metadata"]["frames"]
    assert 0 < stopped_at < TRIAL_FRAMES
    result = train(replace(run, attempt=2))
    assert f"continuing from frame {stopped_at:,} (attempt 2)" in run.paths.log.read_text()
    assert decision(run)["frames"] == TRIAL_FRAMES and decision(run)["chosen"] == 2
    assert result.frames == TRIAL_FRAMES + 256


def test_a_trial_that_an_earlier_version_has_begun_goes_on(tmp_path):
    run = several(tmp_path, MISLEADING, PAY)
    with pytest.raises(Stopped):
        train(run, Alive(beats=5))
    newest = run.paths.trial.checkpoints()[-1]
    record = pickles.load(newest)
    record["metadata"]["local_to_global"]["1"] = -2  # an index below 0 for what is in no library
    pickles.dump(newest, record)
    train(replace(run, attempt=2))
    assert f"continuing from frame {record['metadata']['frames']:,} (attempt 2)" in run.paths.log.read_text()
    assert decision(run)["frames"] == TRIAL_FRAMES


def test_ctrl_c_in_the_trial_leaves_a_checkpoint_of_it_to_go_on_from(tmp_path):
    run = several(tmp_path, MISLEADING, PAY)
    with pytest.raises(KeyboardInterrupt):
        train(run, Cancelled(beats=2))
    assert [path.name for path in run.paths.trial.checkpoints()] == ["checkpoint_384.pkl"]


def test_the_winner_waits_for_room_on_the_disk(tmp_path, monkeypatch):
    run, lifetime, save = several(tmp_path, MISLEADING, PAY), Alive(), checkpoints.save
    failures = [OSError(errno.ENOSPC, "No space left on device")] * 2

    def without_room_at_first(*arguments):
        if failures:
            raise failures.pop()
        return save(*arguments)

    monkeypatch.setattr(checkpoints, "save", without_room_at_first)
    monkeypatch.setattr(process, "ROOM_POLL_S", 0.0)
    with Pane(PlanView("Find_Gold (expert 7)", [], 1.0, 256), run.paths.log) as pane:
        trial = reward_trial.trial_of(run, supervised(run, pane, lifetime))
        reward_trial.hand_over(trial, parts.restored(trial.parts), 2)
    assert [path.name for path in run.paths.checkpoints()] == ["checkpoint_0.pkl"]
    assert [phase for phase in lifetime.phases if phase != "compiling"] == ["paused"] * 2
    log = run.paths.log.read_text()
    assert log.count("cannot be written (the disk is full)") == 1 and "the disk can be written again" in log


def test_a_run_stopped_while_its_rewards_are_compared_decides_as_it_would_have(tmp_path, whole):
    run = several(tmp_path, MISLEADING, PAY)
    with pytest.raises(Stopped):
        train(run, Alive(beats=17))  # 16 updates, then a look at the first episodes
    assert not run.paths.candidates.exists()
    train(replace(run, attempt=2))
    assert decision(run) == decision(whole.run) | {"attempt": 2}


@pytest.mark.parametrize("killed_at", ["hand_over", "train"])
def test_a_run_killed_after_the_decision_never_decides_again(tmp_path, monkeypatch, killed_at):
    class Killed(BaseException):
        pass

    def die(*arguments):
        raise Killed

    run = several(tmp_path, MISLEADING, PAY)
    with monkeypatch.context() as patch:
        patch.setattr(reward_trial if killed_at == "hand_over" else loop, killed_at, die)
        with pytest.raises(Killed):
            train(run)
    first = run.paths.candidates.read_bytes()
    with monkeypatch.context() as patch:
        for part in ("compare", "train_side_by_side"):
            patch.setattr(reward_trial, part, die)
        result = train(replace(run, attempt=2))
    assert run.paths.candidates.read_bytes() == first
    assert result.candidates["chosen"] == 2 and result.frames == TRIAL_FRAMES + 256
    assert result.success_rate > 0.9


def test_of_several_initial_experts_the_one_that_succeeds_goes_on(tmp_path):
    network = ExpertNetwork(Gold.layout, 2, 16)
    lost = jax.device_get(network.init(jax.random.key(3)))
    # Two experts that press one button for ever: only one of them is the one that finds gold, and neither has time to learn.
    stubborn = [with_bias(lost, button) for button in (0, 1)]
    initial = tuple(map(InitialExpert, ("Left", "Right", None), (*stubborn, None)))
    run = several(tmp_path, PAY, PAY, PAY, params=(stubborn[0],), lr=1e-9)
    result = train(replace(run, init_from="Left", init_tried=initial))
    found = decision(run)
    rates = [candidate["success_rate"] for candidate in found["candidates"]]
    assert [candidate["init_from"] for candidate in found["candidates"]] == ["Left", "Right", None]
    assert max(rates[:2]) > 0.9 and min(rates[:2]) < 0.1 and found["chosen"] == 1 + rates.index(max(rates))
    assert result.candidates["chosen"] == found["chosen"] and result.success_rate > 0.9
    log = run.paths.log.read_text()
    name = ["Left", "Right"][found["chosen"] - 1]
    assert f"initial expert {found['chosen']} of 3 continues ({name}): the highest success rate" in log
    assert "trial of 3 initial experts" in log and "initial expert 3 (fresh): success rate" in log


def with_bias(params, button):
    """The expert that always presses one of two buttons."""
    changed = jax.tree.map(np.copy, params)
    head = changed["actor"]["head"]
    head["bias"] = np.where(np.arange(2) == button, 50.0, 0.0).astype(np.float32)
    return changed


def test_a_reward_that_is_not_a_number_is_named(tmp_path):
    with pytest.raises(FlowrlError, match=r"task_reward of Find_Gold returned nan .* \(on trial: reward 2\)"):
        train(several(tmp_path, PAY, PAY_NAN))


def test_a_skill_with_one_reward_has_no_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(reward_trial, "try_rewards", None)
    run = specification(tmp_path, success_rate=1.0, total_timesteps=256)
    result = train(run)
    assert result.candidates is None and not run.paths.candidates.exists()
    assert not any(name.startswith("reward_") for name in metrics(run)[0])


def test_the_same_worlds_are_played_with_every_reward(tmp_path):
    run = several(tmp_path, USELESS, MISLEADING, PAY)

    class Numbered(Gold):
        def first_sight(self, key):
            return jax.random.uniform(key)

    split = split_by_reward([0, 1, 2], run.settings.num_envs)
    programs = programs_of(Numbered(), ExpertNetwork(Numbered.layout, 2, 16), run.settings.num_envs, 3, Hyperparameters())
    stage = Stage(programs.world, programs.acting, reward_trial.judge_of(run, split, Numbered()))
    scene = begin_alike(stage, split, jax.random.key(5)).scene
    worlds = np.asarray(scene.observation.scalars[:, 0])
    assert len(set(worlds[:15].tolist())) == 5
    assert (worlds[:15].reshape(5, 3) == worlds[:15:3, None]).all()
    assert np.asarray(begin_alike(stage, split, jax.random.key(5)).expert)[:4].tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("scores", "chosen", "why"),
    [
        ([Score(0.2, 0.9, 9.0), Score(0.3, 0.1, 0.0)], 1, "the highest success rate"),
        ([Score(0.0, 0.2, 9.0), Score(0.0, 0.4, 0.0)], 1, "the furthest along the plan"),
        ([Score(0.5, 0.5, 0.0), Score(0.5, 0.5, 9.0), Score(0.1, 0.9, 0.0)], 0, "the first of those"),
    ],
)
def test_ties_go_to_the_furthest_along_the_plan_and_then_to_the_first(scores, chosen, why):
    found, reason = best(scores)
    assert found == chosen and reason.startswith(why)


def test_a_module_keeps_all_rewards_and_the_chosen_one_takes_their_place():
    text = render_module("Find_Gold", 7, {7: 0}, [TaskSource("Find_Gold", 1, 0, DONE, PAY)], [MISLEADING, USELESS])
    module = read_module(text)
    assert [reward.strip() for reward in module.rewards] == [PAY.strip(), MISLEADING.strip(), USELESS.strip()]
    assert "# Candidate 2: another reward of Find_Gold, on trial\ndef candidate_2_reward(inventory_diff):" in text
    settled = read_module(with_reward(text, 2))
    assert (settled.tasks[-1].task_reward, settled.candidates) == (MISLEADING.strip(), [])
