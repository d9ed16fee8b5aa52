"""Settings from one start to the next."""

import dataclasses
import json

import pytest

from flowrl.config import Settings
from flowrl.envs.registry import GAMES
from flowrl.errors import BadInput
from flowrl.experiment import stored_settings
from flowrl.paths import ExperimentPaths


@pytest.fixture
def paths(tmp_path):
    """An experiment that was started with some flags."""
    paths = ExperimentPaths(tmp_path / "exp")
    stored_settings.write(paths, Settings(graph_path=paths.root, layer_size=128, max_nodes=6, lr=1e-3, use_wandb=True))
    return paths


def resolve(paths, *arguments: str) -> Settings:
    return stored_settings.resolve(["--graph-path", str(paths.root), *arguments])


def test_the_folder_alone_goes_on_with_the_stored_settings(paths):
    found = resolve(paths)
    assert (found.layer_size, found.max_nodes, found.lr, found.use_wandb) == (128, 6, 1e-3, True)


def test_flags_given_again_override(paths):
    found = resolve(paths, "--max_nodes", "9", "--no-use_wandb")
    assert (found.layer_size, found.max_nodes, found.use_wandb) == (128, 9, False)


def test_what_was_overridden_is_stored(paths):
    stored_settings.write(paths, resolve(paths, "--max_nodes", "9"))
    assert resolve(paths).max_nodes == 9


def test_settings_that_an_earlier_version_did_not_have_take_their_defaults(paths):
    stored = json.loads(paths.config.read_text())
    older = {name: value for name, value in stored.items() if name not in ("no_progress_frames", "skill_budget_frames")}
    assert len(older) == len(stored) - 2
    paths.config.write_text(json.dumps(older))
    found = resolve(paths)
    assert (found.no_progress_frames, found.skill_budget_frames) == (None, None)
    assert found.frames_without_progress == 10_000_000


def test_limits_on_frames_are_stored(paths):
    stored_settings.write(paths, resolve(paths, "--no_progress_frames", "2e6", "--skill_budget_frames", "1e7"))
    assert (resolve(paths).no_progress_frames, resolve(paths).skill_budget_frames) == (2_000_000, 10_000_000)


def test_what_is_said_anew_at_every_start_is_not_stored(paths):
    stored_settings.write(paths, resolve(paths, "--retry_failed", "--dry_run"))
    stored = json.loads(paths.config.read_text())
    assert not {"retry_failed", "dry_run", "graph_path"} & stored.keys()
    assert resolve(paths).retry_failed is False


@pytest.mark.parametrize(
    ("stored", "arguments", "proposer"),
    [
        ({"proposer": "curriculum"}, [], "curriculum"),
        ({"proposer": "curriculum"}, ["--llm_name", "model-a"], "auto"),
        ({"proposer": "curriculum"}, ["--proposer", "llm"], "llm"),
        ({"proposer": "llm", "llm_name": "model-a"}, [], "llm"),
        ({"proposer": "llm", "llm_name": "model-a"}, ["--llm_name", "model-b"], "llm"),
        ({"proposer": "llm", "llm_name": "model-a"}, ["--proposer", "curriculum"], "curriculum"),
        ({"proposer": "curriculum", "llm_name": "model-a"}, ["--max_nodes", "9"], "curriculum"),
    ],
)
def test_who_proposes_stays_until_another_is_asked_for(tmp_path, stored, arguments, proposer):
    paths = ExperimentPaths(tmp_path / "exp")
    stored_settings.write(paths, Settings(graph_path=paths.root, **stored))
    assert resolve(paths, *arguments).proposer == proposer


def test_an_experiment_can_be_moved(paths, tmp_path):
    paths.root.rename(tmp_path / "moved")
    found = stored_settings.resolve(["--graph_path", str(tmp_path / "moved")])
    assert (found.graph_path, found.max_nodes) == (tmp_path / "moved", 6)


@pytest.mark.parametrize(
    ("flag", "value", "before"),
    [("--layer_size", "64", "128"), ("--env_name", "Craftax-Classic-Symbolic-v1", "Craftax-Symbolic-v1")],
)
def test_a_change_that_experts_do_not_survive_is_refused_by_name(paths, flag, value, before):
    with pytest.raises(BadInput) as refused:
        resolve(paths, flag, value)
    for word in (flag, value, before, str(paths.root)):
        assert word in str(refused.value)


def test_the_same_value_given_again_is_no_change(paths):
    assert resolve(paths, "--layer_size", "128", "--env_name", "Craftax-Symbolic-v1").layer_size == 128


def test_a_changed_observation_is_refused_by_name(paths, monkeypatch):
    entry = GAMES["Craftax-Symbolic-v1"]
    monkeypatch.setitem(GAMES, entry.env_name, dataclasses.replace(entry, observation_size=8270))
    with pytest.raises(BadInput, match="observation.*8268.*8270"):
        resolve(paths)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ('{"version": 1, ', ["not valid JSON"]),
        ("[]", ["not written by flowrl"]),
        ('{"max_nodes": 3}', ["not written by flowrl"]),
        ('{"version": 2}', ["version 2", "update flowrl"]),
        ('{"version": 1, "observation_size": 8268, "max_node": 3}', ["max_node", "max_nodes"]),
        ('{"version": 1, "observation_size": 8268, "max_nodes": "many"}', ["max_nodes", "'many'"]),
        ('{"version": 1, "observation_size": 8268, "max_nodes": 0}', ["--max_nodes", "at least 1"]),
        ('{"version": 1, "max_nodes": 3}', ["observation_size"]),
    ],
)
def test_a_config_that_cannot_be_used_is_named_and_left_alone(paths, content, names):
    paths.config.write_text(content)
    with pytest.raises(BadInput) as refused:
        resolve(paths)
    for name in [str(paths.config), *names]:
        assert name in str(refused.value)
    assert "\n" not in str(refused.value)
    assert paths.config.read_text() == content
