"""What must be there before anything is launched."""

import dataclasses

import pytest

from flowrl.config import Settings
from flowrl.errors import BadInput
from flowrl.experiment import preflight
from flowrl.paths import ExperimentPaths
from flowrl.tracking.wandb_key import check_wandb_key


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=f"{tmp_path}/file is a file"):
        preflight.check_folder(tmp_path / "file" / "exp")


def test_a_folder_that_is_not_writable_is_named(tmp_path, monkeypatch):
    # Permissions do not stop root, whom tests may run as: so what the system answers is set here.
    monkeypatch.setattr(preflight.os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(BadInput, match=f"{tmp_path} is not writable.*--graph_path"):
        preflight.check_folder(tmp_path / "a" / "b")


def test_a_folder_that_can_be_made_is_not_made_yet(tmp_path):
    preflight.check_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "environ", "chosen"),
    [
        ({}, {}, "curriculum"),
        ({}, {"OPENAI_API_KEY": ""}, "curriculum"),
        ({}, {"OPENAI_API_KEY": "k"}, "llm"),
        ({"llm_name": "m"}, {}, "llm"),
        ({"llm_base_url": "http://localhost:1/v1"}, {}, "llm"),
        ({"proposer": "curriculum"}, {"OPENAI_API_KEY": "k"}, "curriculum"),
        ({"proposer": "llm"}, {}, "llm"),
        ({"llm_mode": "replay"}, {}, "llm"),
    ],
)
def test_auto_takes_the_model_when_there_is_a_sign_of_one(flags, environ, chosen):
    assert preflight.chosen_proposer(dataclasses.replace(Settings(), **flags), environ) == chosen


@pytest.mark.parametrize("flags", [{"llm_name": "m"}, {"proposer": "llm"}])
def test_a_model_needs_a_key_or_an_address(flags):
    settings = dataclasses.replace(Settings(), **flags)
    with pytest.raises(BadInput, match="OPENAI_API_KEY"):
        preflight.check_llm(settings, {})
    preflight.check_llm(settings, {"OPENAI_API_KEY": "k"})
    preflight.check_llm(dataclasses.replace(settings, llm_base_url="http://localhost:1/v1"), {})


def test_a_replay_needs_neither_key_nor_address():
    preflight.check_llm(dataclasses.replace(Settings(), llm_mode="replay"), {})


def test_what_the_model_needs_to_know_comes_from_flags_and_environment(tmp_path):
    settings = dataclasses.replace(Settings(), graph_path=tmp_path, llm_name="m", max_repairs=1, llm_budget_usd=2.5, seed=7)
    found = preflight.llm_settings(settings, {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://x/v1/"})
    assert (found.model, found.base_url, found.key, found.folder) == ("m", "http://x/v1", "k", tmp_path / "llm")
    assert (found.max_repairs, found.budget_usd, found.seed, found.timeout_s) == (1, 2.5, 7, 600)
    assert preflight.llm_settings(Settings(), {}).base_url == "https://api.openai.com/v1"
    assert preflight.llm_settings(Settings(), {}).model == "gpt-5"
    flagged = dataclasses.replace(settings, llm_base_url="http://y/v1")
    assert preflight.llm_settings(flagged, {"OPENAI_BASE_URL": "http://x/v1"}).base_url == "http://y/v1"


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb_needs_no_key_offline(mode, tmp_path):
    check_wandb_key({"HOME": str(tmp_path), "WANDB_MODE": mode})


def test_wandb_takes_a_key_from_the_environment_or_from_netrc(tmp_path):
    check_wandb_key({"HOME": str(tmp_path), "WANDB_API_KEY": "k"})
    (tmp_path / ".netrc").write_text("machine api.wandb.ai\n  login user\n  password key\n")
    check_wandb_key({"HOME": str(tmp_path)})
    with pytest.raises(BadInput):
        check_wandb_key({"HOME": str(tmp_path), "WANDB_BASE_URL": "https://wandb.example.org"})


def test_wandb_without_a_key_is_one_line_with_the_remedies(tmp_path):
    with pytest.raises(BadInput, match="wandb login.*WANDB_API_KEY.*WANDB_MODE=offline.*--no-use_wandb"):
        check_wandb_key({"HOME": str(tmp_path)})


def test_a_user_without_a_home_has_no_netrc(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda user_id: {}[user_id])
    with pytest.raises(BadInput, match="wandb login"):
        check_wandb_key({})


def test_a_netrc_elsewhere_may_be_named_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "logins").write_text("machine api.wandb.ai\n  login user\n  password key\n")
    check_wandb_key({"NETRC": "~/logins"})


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("auto", {}), ("none", {}), ("Collect_Coal", {}), ("Explore", {"explore_frames": 100_000}), ("Odd_One", {}),
        ("Anything", {"proposer": "llm"}), ("Anything", {"continue_skill": "Collect_Wood", "extra_timesteps": 5}),
    ],
)  # fmt: skip
def test_what_can_be_started_from_is_accepted(tmp_path, name, flags):
    ExperimentPaths(tmp_path).skill_folder(3, "Odd_One").mkdir(parents=True)
    preflight.check_init_from(Settings(graph_path=tmp_path, init_from=name, **{"proposer": "curriculum", **flags}))


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("Colect_Coal", {}, "--init_from Colect_Coal names no skill.*did you mean Collect_Coal"),
        ("Explore", {}, "--init_from Explore names no skill"),
        ("two words", {"proposer": "llm"}, "'two words' is not usable"),
    ],
)
def test_a_skill_that_no_start_can_have_is_named(tmp_path, name, flags, words):
    with pytest.raises(BadInput, match=words):
        preflight.check_init_from(Settings(graph_path=tmp_path, init_from=name, **{"proposer": "curriculum", **flags}))
