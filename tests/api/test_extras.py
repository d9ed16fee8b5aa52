"""A skill for Gymnasium and its episodes for Minari, where those are installed; one clear line where they are not."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
import pytest

import flowrl
from flowrl.api import episodes, extras
from flowrl.errors import BadInput, FlowrlError
from tests.api.experiments import camp_skill

CHOP, DRINK, BUILD, WAIT = range(4)


@pytest.fixture
def without(monkeypatch):
    """Makes packages look as if they were not installed."""
    find = importlib.util.find_spec

    def hide(*names):
        monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name in names else find(name))

    return hide


def test_without_gymnasium_the_extra_is_named(without):
    without("gymnasium")
    with pytest.raises(BadInput, match="gymnasium is not installed; install .*'.\\[gym\\]'"):
        camp_skill("Drink").to_gymnasium()


@pytest.mark.parametrize("missing", ["minari", "gymnasium", "h5py"])
def test_without_minari_the_extra_is_named(missing, without, monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(BadInput, match=f"{missing} is not installed; .*'.\\[minari\\]'"):
        flowrl.export_episodes("exp/none", "Collect_Wood")


# Gymnasium.


@pytest.fixture
def build():
    pytest.importorskip("gymnasium", reason="gymnasium is not installed: pip install -e '.[gym]'")
    env = camp_skill("Build").to_gymnasium()
    env.reset(seed=0)
    return env


def test_gymnasium_accepts_the_environment(build):
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings():
        warnings.filterwarnings("error")
        warnings.filterwarnings("ignore", message=".*infinity.*")
        check_env(build, skip_render_check=True)


def test_gymnasium_gets_the_plan_step_by_step(build):
    steps = [build.step(action) for action in (WAIT, CHOP, CHOP, BUILD)]
    assert [reward for _, reward, *_ in steps] == [0, 1, 1, 1]
    assert [(terminated, truncated) for _, _, terminated, truncated, _ in steps] == [(False, False)] * 3 + [(True, False)]
    assert [info["task"] for *_, info in steps] == ["Chop"] * 3 + ["Build"] and steps[-1][-1]["success"] is True
    assert steps[-1][0].tolist() == [0, 5]  # of the end, not of the next episode


def test_gymnasium_is_told_apart_death_and_steps_used_up(build):
    ends = [build.step(WAIT)[2:4] for _ in range(6)]
    assert ends == [(False, False)] * 5 + [(False, True)]
    mortal = camp_skill("Build", limit=20).to_gymnasium()
    mortal.reset(seed=0)
    assert [mortal.step(WAIT)[2:4] for _ in range(9)][-1] == (True, False)


def test_an_episode_that_is_over_has_to_be_reset(build):
    from gymnasium.error import ResetNeeded

    for _ in range(6):
        build.step(WAIT)
    with pytest.raises(ResetNeeded, match="reset"):
        build.step(WAIT)
    build.reset()
    assert build.step(CHOP)[1] == 1


def test_a_seed_decides_the_world(using):
    pytest.importorskip("gymnasium", reason="gymnasium is not installed: pip install -e '.[gym]'")
    env = using("to_gymnasium")["env"]
    one, same, other = (np.stack([env.reset(seed=seed)[0], env.step(5)[0]]) for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert env.observation_space.contains(one[1]) and env.action_space.n == 17


# Episodes.


def test_only_successful_episodes_are_kept_in_full():
    found = episodes.successes(camp_skill("Build"), 5, seed=0)
    assert len(found) == 5
    for each in found:
        assert each.actions.tolist() == [CHOP, CHOP, BUILD] and each.rewards.tolist() == [1, 1, 1]
        assert each.observations.tolist() == [[0, 9], [1, 8], [2, 7], [0, 6]] and each.tasks.tolist() == [0, 0, 1, 1]


def test_a_skill_that_never_succeeds_has_nothing_to_export(monkeypatch):
    monkeypatch.setattr(episodes, "HOPELESS", 128)
    with pytest.raises(FlowrlError, match="Build did not succeed once in 128 episodes"):
        episodes.successes(camp_skill("Build", Build="WAIT"), 2, seed=0)


@pytest.fixture
def minari(tmp_path, monkeypatch):
    for name in ("minari", "h5py"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install -e '.[minari]'")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return pytest.importorskip("minari")


def test_a_dataset_holds_the_episodes(minari):
    from flowrl.api import minari_dataset

    env = camp_skill("Build")
    minari_dataset.write("flowrl/Build-v3", env, episodes.successes(env, 3, seed=0))
    dataset = minari.load_dataset("flowrl/Build-v3")
    assert dataset.total_episodes == 3 and dataset.total_steps == 9
    for episode in dataset.iterate_episodes():
        assert episode.actions.tolist() == [CHOP, CHOP, BUILD] and episode.rewards.tolist() == [1, 1, 1]
        assert episode.observations.tolist() == [[0, 9], [1, 8], [2, 7], [0, 6]]
        assert episode.terminations.tolist() == [False, False, True] and not episode.truncations.any()
        assert episode.infos["task"].tolist() == [0, 0, 1, 1]


def test_a_skill_of_an_experiment_is_exported_once(minari, tmp_path, monkeypatch):
    env = camp_skill("Build")
    monkeypatch.setattr(episodes, "skill_env", lambda graph_path, skill_name: env)
    dataset = flowrl.export_episodes(tmp_path, "Build", episodes=2)
    assert dataset.total_episodes == 2 and dataset.action_space.n == 4
    with pytest.raises(BadInput, match="the dataset Camp/Build-v0 exists; choose another dataset_id"):
        flowrl.export_episodes(tmp_path, "Build", episodes=2)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"episodes": 0}, "episodes must be at least 1, found 0"),
        ({"dataset_id": "my data"}, "'my data' cannot be the name of a dataset"),
        ({"dataset_id": "unversioned"}, "'unversioned' cannot be the name of a dataset"),
        ({"skill_name": "Colect_Wood"}, "did you mean Collect_Wood"),
    ],
)
def test_a_wrong_request_is_refused(how, message, minari, kept):
    with pytest.raises(BadInput, match=message):
        flowrl.export_episodes(**{"graph_path": kept.root, "skill_name": "Collect_Wood"} | how)
