"""``flowrl evaluate`` on a real experiment, and on what is none."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import pytest

from flowrl.__main__ import main
from flowrl.envs.craftax.facts_classic import FACTS
from flowrl.evaluation import library
from flowrl.evaluation.findings import _listed
from flowrl.experiment import plain_agents
from flowrl.files import read_json, write_json
from flowrl.parallel.training_setup import prepare_training_run
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.skills.explore import explore
from tests.test_docs import documented

KEPT = Path(__file__).parents[1] / "experiment" / "begun_before" / "version_0_1_0.tar.gz"
FEW = ["--episodes", "6", "--skill_episodes", "4", "--max_steps", "60"]


@pytest.fixture(scope="module", autouse=True)
def surroundings():
    """The command prepares the environment of its process for jax; here, other tests follow in it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """An experiment with one skill, Collect_Wood, with a tiny network."""
    folder = tmp_path_factory.mktemp("kept") / "exp"
    with tarfile.open(KEPT) as archive:
        archive.extractall(folder, filter="data")
    return ExperimentPaths(folder)


@pytest.fixture(scope="module")
def evaluated(kept, capsys_of_module):
    kept.report.mkdir()
    (kept.report / "index.html").write_text("a page without an evaluation")
    assert main(["evaluate", str(kept.root), "--log", *FEW]) == 0
    return read_json(kept.evaluation), capsys_of_module()


@pytest.fixture(scope="module")
def capsys_of_module():
    """Catches what is printed; `capsys` itself is for single tests."""
    import contextlib
    import io

    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        yield stream.getvalue


def test_the_skill_and_the_whole_library_are_measured(evaluated):
    found, _ = evaluated
    (skill,) = found["skills"]
    assert (skill["skill_name"], skill["episodes"]) == ("Collect_Wood", 4)
    assert 0 <= skill["success_rate"]["low"] <= skill["success_rate"]["value"] <= skill["success_rate"]["high"] <= 1
    assert sum(failure["episodes"] for failure in skill["failures"]) == 4 - round(4 * skill["success_rate"]["value"])
    whole = found["whole"]
    assert whole["episodes"] == 6 and len(whole["rates"]) == whole["achievements_in_all"] == 22
    mean = sum(rate["value"] for rate in whole["rates"].values())
    assert whole["achievements"]["value"] == pytest.approx(mean, abs=1e-2)
    assert whole["episode_steps"]["value"] <= 60 and sum(whole["endings"].values()) == pytest.approx(1, abs=1e-3)


def test_what_was_found_is_printed(evaluated, kept):
    _, printed = evaluated
    assert "Collect_Wood" in printed and "of 22 achievements" in printed and "COLLECT_WOOD" in printed
    assert str(kept.evaluation) in printed.replace("\n", "")
    assert "Acting then: Collect_Wood 100%" in printed


def test_of_many_skills_that_act_at_the_end_the_first_are_listed():
    shares = {f"Skill_{number}": 0.2 - 0.02 * number for number in range(9)}
    assert _listed(shares).endswith("Skill_7 6%, Skill_8 4%")
    assert _listed(shares | {"Last": 0.01}).endswith("Skill_7 6%, 2 others 5%")


def test_a_report_that_is_there_shows_what_was_found(evaluated, kept):
    page = kept.report / "index.html"
    assert f"Brought up to date: {page}" in evaluated[1].replace("\n", "")
    assert "as <code>flowrl evaluate</code> played them: 6 of them" in page.read_text()


def test_the_planners_choices_are_written_down(evaluated, kept):
    lines = kept.planner_log.read_text().splitlines()
    assert lines[0].startswith("step 0, 0 of 22 unlocked: Collect_Wood x1 for Collect_Wood")


@pytest.mark.parametrize("part", ["", "skills", "whole"])
def test_every_field_is_documented(evaluated, part):
    found, _ = evaluated
    shown = {"": found, "skills": found["skills"][0], "whole": found["whole"]}[part]
    assert documented(f"evaluation.json: {part}" if part else "evaluation.json") == shown.keys()


@pytest.fixture
def exploring(kept, tmp_path):
    """The experiment with Explore in its library too: its expert is a copy of the other one."""
    paths = copy_of(kept, tmp_path)
    data = explore(FACTS).to_data()
    run = RunPaths(prepare_training_run("Explore", data, 1, [], {}, paths.root)[0])
    write_json(run.result, {"outcome": "completed", "attempt": 1, "frames": 4096})
    params = paths.expert_params(1, "Explore")
    params.parent.mkdir(parents=True)
    shutil.copy(paths.expert_params(0, "Collect_Wood"), params)
    for file in (run.module, run.run_json, run.result, run.folder / "skill.json"):
        file.rename(paths.skill_folder(1, "Explore") / file.name)
    shutil.rmtree(run.folder)
    return paths


def test_a_skill_that_is_never_done_is_not_tested_and_only_passes_the_time(exploring, kept, capsys):
    assert library.frames_trained(exploring) == library.frames_trained(kept) + 4096
    assert main(["evaluate", str(exploring.root), "--log", *FEW]) == 0
    tested, explored = read_json(exploring.evaluation)["skills"]
    assert (explored["skill_name"], explored["episodes"], explored["success_rate"]) == ("Explore", 0, None)
    assert explored.keys() == tested.keys()
    rows = (line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines())
    assert next(row for row in rows if row[:1] == ["Explore"]) == ["Explore", *["-"] * 5]
    choices = exploring.planner_log.read_text().splitlines()
    assert all("nothing is left to unlock" in line for line in choices if ": Explore" in line)
    assert all(": Explore" in line for line in choices if "nothing is left to unlock" in line)


def test_the_same_seed_gives_the_same_figures(evaluated, kept):
    assert main(["evaluate", str(kept.root), *FEW]) == 0
    assert read_json(kept.evaluation) == evaluated[0]


def test_plain_agents_are_trained_for_as_many_frames_and_shown_beside_the_library(evaluated, kept, monkeypatch, capsys):
    trained = []

    def train(paths, entry, variant, settings, frames, on_frames):
        trained.append((variant, frames, settings["layer_size"]))
        return kept  # any library will do

    monkeypatch.setattr(plain_agents, "train", train)
    assert main(["evaluate", str(kept.root), "--flat", *FEW]) == 0
    found = read_json(kept.evaluation)
    assert trained == [(variant, found["frames"], 4) for variant in plain_agents.VARIANTS]
    for figures in found["flat"].values():
        assert figures["frames"] == found["frames"] and figures.keys() - {"frames"} == found["whole"].keys()
    printed = capsys.readouterr().out
    assert "Beside plain agents" in printed and "plain, small batches" in printed


def copy_of(kept, tmp_path) -> ExperimentPaths:
    shutil.copytree(kept.root, tmp_path / "exp")
    return ExperimentPaths(tmp_path / "exp")


def refused(arguments, capsys) -> str:
    assert main(["evaluate", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_folder_without_an_experiment_is_refused(tmp_path, capsys):
    assert "holds no experiment" in refused([str(tmp_path)], capsys)


def test_an_empty_library_is_refused(kept, tmp_path, capsys):
    paths = copy_of(kept, tmp_path)
    shutil.rmtree(paths.skills)
    line = refused([str(paths.root)], capsys)
    assert "has no completed skill" in line and "flowrl.bottomup_parallel" in line


@pytest.mark.parametrize("name", ["run.json", "skill.json", "0.py", "expert_0_policy/params.pkl"])
def test_a_missing_file_is_named(name, kept, tmp_path, capsys):
    paths = copy_of(kept, tmp_path)
    (paths.skill_folder(0, "Collect_Wood") / name).unlink()
    assert f"{name} is missing" in refused([str(paths.root)], capsys)


def test_a_skill_of_another_game_is_refused(kept, tmp_path, capsys):
    paths = copy_of(kept, tmp_path)
    record = paths.skill_folder(0, "Collect_Wood") / "run.json"
    write_json(record, read_json(record) | {"env_name": "Craftax-Symbolic-v1"})
    assert "was trained on Craftax-Symbolic-v1" in refused([str(paths.root)], capsys)


def test_an_expert_of_another_width_is_refused(kept, tmp_path, capsys):
    paths = copy_of(kept, tmp_path)
    record = paths.skill_folder(0, "Collect_Wood") / "run.json"
    data = read_json(record)
    write_json(record, data | {"settings": data["settings"] | {"layer_size": 8}})
    assert "has layers of width 4, and the library's first expert 8" in refused([str(paths.root)], capsys)


def test_a_skill_of_a_plan_that_is_gone_is_named(kept, tmp_path, capsys):
    paths = copy_of(kept, tmp_path)
    record = paths.skill_folder(0, "Collect_Wood") / "run.json"
    data = read_json(record)
    write_json(record, data | {"plan": [data["plan"][0] | {"skill_name": "Gone"}, *data["plan"]]})
    assert "uses Gone, which is not in" in refused([str(paths.root)], capsys)


def test_all_frames_of_an_experiment_count(kept, tmp_path):
    paths = copy_of(kept, tmp_path)
    trained = read_json(paths.skill_folder(0, "Collect_Wood") / "result.json")["frames"]
    (unfinished,) = paths.training_runs.iterdir()
    assert library.frames_trained(paths) == trained + 6400  # of the checkpoint of a run that was stopped
    write_json(unfinished / "result.json", {"outcome": "failed", "attempt": 1, "frames": 9000})
    assert library.frames_trained(paths) == trained + 9000


def test_code_that_was_changed_is_refused(kept, tmp_path, capsys):
    paths = copy_of(kept, tmp_path)
    module = paths.skill_module(0, "Collect_Wood")
    module.write_text(module.read_text().replace(">= n", "> n"))
    assert "has not passed the gate" in refused([str(paths.root)], capsys)


@pytest.mark.parametrize(("flag", "value"), [("--episodes", "0"), ("--seed", "-1"), ("--max_steps", "no")])
def test_a_wrong_flag_is_named(flag, value, kept, capsys):
    assert flag in refused([str(kept.root), flag, value], capsys)
