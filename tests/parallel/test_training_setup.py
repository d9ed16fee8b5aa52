"""A run's folder as the training process finds it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from flowrl import pickles
from flowrl.envs.registry import game
from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.parallel import training_setup
from flowrl.parallel.task_steps import FEWEST, following
from flowrl.parallel.training_setup import (
    build_remapping,
    prepare_training_run,
    write_launch,
)
from flowrl.paths import RunPaths
from flowrl.records.run_record import Slot
from flowrl.records.training_settings import RunSettings
from flowrl.skills.explore import EXPLORE, explore
from flowrl.skills.module import read_module, skill_functions
from flowrl.training.run import specification as specifications
from tests.evaluation.libraries import classic_specs
from tests.parallel.fakes.experiments import put_in_library, skill

DEFAULTS = RunSettings().training() | {"stop_at_goal": True}


@pytest.fixture
def library(experiment):
    put_in_library(experiment.root, 0, "Collect_Wood", 50_000_000, 40_000_000)
    put_in_library(experiment.root, 1, "Collect_Stone", 40_000_000)
    return experiment


def prepare(base_dir, **changes):
    """The example of the seed, to the letter."""
    arguments = {
        "skill_name": "Make_Pickaxe",
        "skill_data": skill("Make_Pickaxe", "stone"),
        "global_expert_idx": 2,
        "dependency_skill_names": ["Collect_Wood", "Collect_Stone"],
        "completed_skills": {"Collect_Wood": {"expert_idx": 0}, "Collect_Stone": {"expert_idx": 1}},
        "base_dir": base_dir,
    }
    return prepare_training_run(**(arguments | changes))


def files_below(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_sparse_global_indices_become_contiguous():
    assert build_remapping([0, 5], 10) == ({0: 0, 5: 1, 10: 2}, {0: 0, 1: 5, 2: 10})


def test_a_skill_that_needs_nothing_is_local_expert_0():
    assert build_remapping([], 7) == ({7: 0}, {0: 7})


def test_remapping_orders_by_index_and_counts_each_expert_once():
    assert build_remapping([5, 0, 5], 3) == ({0: 0, 3: 1, 5: 2}, {0: 0, 1: 3, 2: 5})


def test_the_seeds_example_makes_folder_module_and_policies(library):
    folder, module, policies = prepare(library.root)
    assert folder == library.root / "training_runs" / "skill_2_Make_Pickaxe"
    assert module == folder / "2.py"
    assert policies == folder / "2_policies"
    assert module.read_text().splitlines()[:4] == [
        "# Auto-generated training module for: Make_Pickaxe",
        "# Global expert index: 2",
        "GLOBAL_TO_LOCAL = {0: 0, 1: 1, 2: 2}",
        "LOCAL_TO_GLOBAL = {0: 0, 1: 1, 2: 2}",
    ]


def test_the_module_of_a_sparse_run_uses_local_indices(experiment):
    for index, name in ((0, "Collect_Wood"), (5, "Collect_Stone")):
        put_in_library(experiment.root, index, name, 1000)
    completed = {"Collect_Wood": {"expert_idx": 0}, "Collect_Stone": {"expert_idx": 5}}
    _, module, _ = prepare(experiment.root, skill_name="Test", global_expert_idx=10, completed_skills=completed)
    source = read_module(module.read_text())
    assert source.global_to_local == {0: 0, 5: 1, 10: 2}
    assert source.local_to_global == {0: 0, 1: 5, 2: 10}
    assert [(task.skill_name, task.local_expert_idx) for task in source.tasks] == [
        ("Collect_Wood", 0), ("Collect_Stone", 1), ("Test", 2),
    ]  # fmt: skip


def test_the_run_starts_from_the_experts_of_the_library(library):
    _, _, policies = prepare(library.root)
    experts = pickles.load(policies / "initial.pkl")["experts"]
    assert set(experts) == {"0", "1"}
    np.testing.assert_array_equal(experts["0"]["actor"]["w"], np.full(3, 50_000_000, np.float32))
    np.testing.assert_array_equal(experts["1"]["critic"]["w"], np.full(3, 40_000_000, np.float32))


def test_run_json_names_plan_experts_and_their_ages(library):
    folder, _, _ = prepare(library.root)
    run = read_json(folder / "run.json")
    assert run["plan"] == [
        {"skill_name": "Collect_Wood", "n": 1, "global_expert_idx": 0, "local_expert_idx": 0},
        {"skill_name": "Collect_Stone", "n": 1, "global_expert_idx": 1, "local_expert_idx": 1},
        {"skill_name": "Make_Pickaxe", "n": 1, "global_expert_idx": 2, "local_expert_idx": 2},
    ]
    ages = [(e["global_expert_idx"], e["total_frames"], e["acted_frames"]) for e in run["experts"]]
    assert ages == [(0, 50_000_000, 40_000_000), (1, 40_000_000, 0), (2, 0, 0)]
    assert run["experiment"] == str(library.root.resolve())


def test_the_execution_plan_decides_order_and_counts(library):
    data = skill("Make_Pickaxe") | {
        "execution_plan": [
            {"skill_name": "Collect_Stone", "n": 2},
            {"skill_name": "Collect_Wood", "n": 5},
            {"skill_name": "Collect_Stone", "n": 1},
            {"skill_name": "Make_Pickaxe", "n": 3},
        ]
    }
    folder, module, _ = prepare(library.root, skill_data=data)
    plan = [(step["skill_name"], step["n"], step["local_expert_idx"]) for step in read_json(folder / "run.json")["plan"]]
    assert plan == [("Collect_Stone", 2, 1), ("Collect_Wood", 5, 0), ("Collect_Stone", 1, 1), ("Make_Pickaxe", 3, 2)]
    assert [task.n for task in read_module(module.read_text()).tasks] == [2, 5, 1, 3]


def test_a_skill_that_is_slow_has_its_own_budget_in_every_plan(library):
    """Its own data says so, or, of one that is in the library, what the caller or the library knows of it."""
    known = {"Collect_Wood": {"expert_idx": 0, "skill_data": skill("Collect_Wood") | {"max_task_steps": 300}}}
    write_json(library.skill_folder(1, "Collect_Stone") / "skill.json", {"skill_name": "Collect_Stone", "max_task_steps": 500})
    completed = {"Collect_Stone": {"expert_idx": 1}} | known
    folder, _, _ = prepare(library.root, skill_data=skill("Make_Pickaxe") | {"max_task_steps": 800}, completed_skills=completed)
    steps = {step["skill_name"]: step["max_task_steps"] for step in read_json(folder / "run.json")["plan"]}
    assert steps == {"Collect_Wood": 300, "Collect_Stone": 500, "Make_Pickaxe": 800}


def test_steps_that_follow_successes_are_twice_those_of_nearly_all(library):
    """What is known of a skill is in the library; the skill that is new has no successes yet."""
    for index, name, seen, own in ((0, "Collect_Wood", 31, None), (1, "Collect_Stone", 450, 300)):
        data = {"skill_name": name, "observed": {"most_steps": seen}} | ({"max_task_steps": own} if own else {})
        write_json(library.skill_folder(index, name) / "skill.json", data)

    def steps(**settings):
        folder, _, _ = prepare(library.root, settings=settings)
        return [step.get("max_task_steps") for step in read_json(folder / "run.json")["plan"]]

    assert steps(task_steps="fixed") == [None, 300, None]
    assert steps() == steps(task_steps="successes") == [62, 600, None]


@pytest.mark.parametrize(
    "known",
    [
        {}, {"observed": None}, {"observed": {}}, {"observed": {"most_steps": None}}, {"observed": {"most_steps": 0}},
        {"observed": "much"},
    ],
)  # fmt: skip
def test_without_enough_successes_steps_are_as_they_were(library, known):
    write_json(library.skill_folder(0, "Collect_Wood") / "skill.json", {"skill_name": "Collect_Wood", **known})
    folder, _, _ = prepare(library.root, settings={"task_steps": "successes"})
    assert "max_task_steps" not in read_json(folder / "run.json")["plan"][0]


@pytest.mark.parametrize(
    ("seen", "fixed", "allowed"),
    [(1, 200, FEWEST), (10, 200, 20), (11, 200, 22), (150, 200, 300), (300, 200, 400), (390, 200, 400), (1, 5, 10)],
)
def test_steps_that_follow_successes_stay_within_bounds(seen, fixed, allowed):
    assert following(seen, fixed) == allowed


def test_the_code_of_a_skill_is_read_once_however_often_it_is_in_the_plan(library, monkeypatch):
    read, steps = [], ["Collect_Stone", "Collect_Wood", "Collect_Stone", "Make_Pickaxe"]
    monkeypatch.setattr(training_setup, "skill_functions", lambda text: read.append(text) or skill_functions(text))
    prepare(library.root, skill_data=skill("Make_Pickaxe") | {"execution_plan": [{"skill_name": name} for name in steps]})
    assert len(read) == 2


def test_a_dependency_outside_the_plan_is_remapped_too(library):
    data = skill("Make_Pickaxe") | {"execution_plan": [{"skill_name": "Make_Pickaxe", "n": 1}]}
    folder, _, policies = prepare(library.root, skill_data=data)
    assert [e["skill_name"] for e in read_json(folder / "run.json")["experts"]] == [
        "Collect_Wood", "Collect_Stone", "Make_Pickaxe",
    ]  # fmt: skip
    assert set(pickles.load(policies / "initial.pkl")["experts"]) == {"0", "1"}


def test_code_given_with_a_completed_skill_goes_before_the_archived_one(library):
    given = skill("Collect_Wood", "sapling") | {"expert_idx": 0}
    _, module, _ = prepare(library.root, completed_skills={"Collect_Wood": given, "Collect_Stone": {"expert_idx": 1}})
    tasks = read_module(module.read_text()).tasks
    assert "inventory.sapling" in tasks[0].task_is_done
    assert "inventory.wood" in tasks[1].task_is_done  # from the library


@pytest.mark.parametrize("removed", ["skills/0_Collect_Wood/expert_0_policy/params.pkl", "skills/0_Collect_Wood/0.py"])
def test_a_missing_expert_or_code_is_named_and_nothing_written(library, removed):
    (library.root / removed).unlink()
    before = files_below(library.root)
    with pytest.raises(BadInput, match="Make_Pickaxe needs .*Collect_Wood.*missing; restore"):
        prepare(library.root)
    assert files_below(library.root) == before


def test_a_dependency_that_is_not_completed_is_named(library):
    with pytest.raises(BadInput, match="Make_Pickaxe needs Collect_Stone, which is not a completed skill; train"):
        prepare(library.root, completed_skills={"Collect_Wood": {"expert_idx": 0}})


def test_settings_come_from_the_experiment_and_then_from_the_flags_defaults(library):
    write_json(library.config, {"num_envs": 16, "env_name": "Craftax-Classic-Symbolic-v1", "graph_path": "elsewhere"})
    folder, _, _ = prepare(library.root, settings={"lr": 1e-3})
    run = read_json(folder / "run.json")
    assert run["env_name"] == "Craftax-Classic-Symbolic-v1"
    assert run["settings"] == DEFAULTS | {"num_envs": 16, "lr": 1e-3}


def test_preparing_again_keeps_a_run_that_has_checkpoints(library):
    folder, _, policies = prepare(library.root)
    checkpoint = RunPaths(folder).checkpoint(64)
    pickles.dump(checkpoint, {"experts": {}})
    kept = {path: path.read_bytes() for path in files_below(folder)}
    put_in_library(library.root, 0, "Collect_Wood", 99_000_000)
    assert prepare(library.root) == (folder, folder / "2.py", policies)
    assert {path: path.read_bytes() for path in files_below(folder)} == kept


def test_a_run_that_goes_on_takes_the_settings_of_now_that_keep_its_checkpoints_valid(library):
    write_json(library.config, {"num_envs": 16, "layer_size": 64, "seed": 3})
    folder, _, _ = prepare(library.root, settings={"ent_coef": 0.5})
    pickles.dump(RunPaths(folder).checkpoint(64), {"experts": {}})
    before = read_json(folder / "run.json")
    now = {"num_envs": 32, "layer_size": 128, "seed": 4, "total_timesteps": 5000, "max_task_steps": 7, "use_wandb": True}
    write_json(library.config, now | {"env_name": "Craftax-Classic-Symbolic-v1"})
    prepare(library.root, settings={"lr": 1e-3})
    refreshed = {"num_envs": 32, "total_timesteps": 5000, "max_task_steps": 7, "use_wandb": True, "lr": 1e-3}
    settings = DEFAULTS | {"layer_size": 64, "seed": 3, "ent_coef": 0.5} | refreshed
    assert read_json(folder / "run.json") == before | {"settings": settings}


def test_preparing_again_without_checkpoints_takes_the_library_as_it_is_now(library):
    prepare(library.root)
    put_in_library(library.root, 0, "Collect_Wood", 99_000_000)
    folder, _, _ = prepare(library.root)
    assert read_json(folder / "run.json")["experts"][0]["total_frames"] == 99_000_000


@pytest.mark.parametrize(
    ("envs", "steps", "minibatches", "fewer", "expected"),
    [(1024, 64, 8, 512, 4), (1024, 64, 8, 64, 1), (1000, 64, 8, 500, 4), (24, 5, 6, 12, 3), (9, 8, 6, 8, 4), (30, 7, 7, 15, 3)],
)
def test_with_fewer_environments_minibatches_keep_about_their_size_and_divide_the_frames(
    envs, steps, minibatches, fewer, expected
):
    settings = RunSettings(num_envs=envs, num_steps=steps, num_minibatches=minibatches, lr=0.1)
    assert settings.with_num_envs(fewer) == RunSettings(num_envs=fewer, num_steps=steps, num_minibatches=expected, lr=0.1)
    assert fewer * steps % expected == 0


def test_a_launch_with_fewer_environments_says_how_many_were_asked_for(library):
    write_json(library.config, {"num_envs": 64, "num_steps": 8, "num_minibatches": 4})
    folder, _, _ = prepare(library.root)
    write_launch(folder, 2, Slot(), num_envs=16)
    run = read_json(folder / "run.json")
    assert (run["settings"]["num_envs"], run["settings"]["num_minibatches"], run["asked_num_envs"]) == (16, 1, 64)
    pickles.dump(RunPaths(folder).checkpoint(64), {"experts": {}})
    write_json(library.config, {"num_envs": 16, "num_steps": 8, "num_minibatches": 4})  # the person asks for as many
    prepare(library.root)
    write_launch(folder, 3, Slot(), num_envs=16)
    assert read_json(folder / "run.json")["settings"]["num_minibatches"] == 4


def test_a_launch_is_named_in_run_json_and_an_older_result_moved_aside(library):
    folder, _, _ = prepare(library.root)
    write_json(folder / "result.json", {"attempt": 1, "outcome": "failed"})
    write_launch(folder, 2, Slot(cores=(0, 1)))
    run = read_json(folder / "run.json")
    assert run["attempt"] == 2
    assert run["slot"] == {"cores": [0, 1], "gpu": None, "memory_fraction": None}
    assert not (folder / "result.json").exists()
    assert json.loads((folder / "result_1.json").read_text())["outcome"] == "failed"


# What a new expert starts from.

CLASSIC = game("Craftax-Classic-Symbolic-v1").facts


@pytest.fixture
def related_library(experiment):
    """Wood, stone and Explore, with their skills."""
    for index, (name, spec) in enumerate({**classic_specs(), EXPLORE: explore(CLASSIC)}.items()):
        if name in ("Collect_Wood", "Collect_Stone", EXPLORE):
            put_in_library(experiment.root, index, name, 1000 * (index + 1))
            write_json(experiment.skill_folder(index, name) / "skill.json", spec.to_data())
    return experiment


def prepare_new(experiment, name="Collect_Coal", given=CLASSIC, **settings):
    """Prepares a skill of the curriculum that is planned alone; returns its run record and its initial weight, if any."""
    completed = {known: {"expert_idx": index} for index, known in experiment.library().items()}
    data, index = classic_specs()[name].to_data(), 40 + list(classic_specs()).index(name)
    folder, _, policies = prepare_training_run(name, data, index, [], completed, experiment.root, settings, given)
    start = pickles.load(policies / "initial.pkl")["experts"].get("0")
    return read_json(folder / "run.json"), start and (start["actor"]["w"][0], start["critic"]["w"][0])


def weight_of(experiment, name):
    index = next(index for index, known in experiment.library().items() if known == name)
    return (1000 * (index + 1),) * 2


@pytest.mark.parametrize(
    ("name", "wanted", "source"),
    [
        ("Collect_Coal", "auto", "Collect_Stone"),
        ("Wake_Up", "auto", "Explore"),
        ("Collect_Coal", "Collect_Wood", "Collect_Wood"),
        ("Collect_Coal", "Collect_Iron", None),
        ("Collect_Coal", "none", None),
    ],
)
def test_a_new_expert_starts_as_a_copy(related_library, name, wanted, source):
    record, start = prepare_new(related_library, name, init_from=wanted)
    assert record.get("init_from") == source and record["settings"]["init_from"] == wanted
    assert start == (source and weight_of(related_library, source))
    (expert,) = record["experts"]
    assert (expert["total_frames"], expert["acted_frames"]) == (0, 0)


def test_several_initial_experts_are_stored_to_be_tried_and_equal_ones_count_once(related_library):
    first, explorer = (weight_of(related_library, name) for name in ("Collect_Stone", EXPLORE))
    put_in_library(related_library.root, 31, "Collect_Stone_Again", first[0])  # an untrained copy
    again = classic_specs()["Collect_Stone"].to_data() | {"skill_name": "Collect_Stone_Again"}
    write_json(related_library.skill_folder(31, "Collect_Stone_Again") / "skill.json", again)
    record, start = prepare_new(related_library, "Collect_Coal", init_from="auto", init_trial=4)
    assert (record["init_from"], start) == ("Collect_Stone_Again", first)
    assert record["init_tried"] == ["Collect_Stone_Again", "Collect_Wood", EXPLORE]
    run = specifications.read(related_library.run_folder(40 + list(classic_specs()).index("Collect_Coal"), "Collect_Coal"))
    tried = {initial.skill_name: initial.params["actor"]["w"][0] for initial in run.init_tried}
    assert tried["Collect_Stone_Again"] == first[0] and tried[EXPLORE] == explorer[0]
    rewards = read_module(run.module_text).rewards
    assert len(rewards) == 3 and len(set(rewards)) == 1

    record, _ = prepare_new(related_library, "Collect_Coal", init_from="auto", init_trial=5)
    assert record["init_tried"][-1] is None, "a fresh expert is the last candidate"


@pytest.mark.parametrize(
    "how", [{"total_timesteps": 0}, {"init_trial": 1}, {"candidates": ["def task_reward():\n    return 0.0\n"]}]
)
def test_one_initial_expert_is_taken_where_there_is_nothing_to_try(related_library, how):
    settings = {"init_from": "auto", "init_trial": 3} | {name: value for name, value in how.items() if name != "candidates"}
    skill_data = classic_specs()["Collect_Coal"].to_data() | {name: how[name] for name in how if name == "candidates"}
    completed = {known: {"expert_idx": index} for index, known in related_library.library().items()}
    given = ("Collect_Coal", skill_data, 40, [], completed, related_library.root, settings, CLASSIC)
    record = read_json(prepare_training_run(*given)[0] / "run.json")
    assert record["init_from"] == "Collect_Stone" and "init_tried" not in record


def test_a_retry_starts_from_the_same_skill_and_a_change_of_mind_counts(related_library):
    prepare_new(related_library, init_from="auto")
    put_in_library(related_library.root, 30, "Mine_Coal", 9)
    write_json(
        related_library.skill_folder(30, "Mine_Coal") / "skill.json",
        classic_specs()["Collect_Coal"].to_data() | {"skill_name": "Mine_Coal"},
    )
    assert prepare_new(related_library, init_from="auto")[0]["init_from"] == "Collect_Stone"
    assert prepare_new(related_library, init_from="Mine_Coal")[0]["init_from"] == "Mine_Coal"
    assert prepare_new(related_library, "Collect_Iron", init_from="auto")[0]["init_from"] == "Mine_Coal"


def test_a_skill_that_is_trained_further_starts_from_its_own_expert(related_library):
    put_in_library(related_library.root, 40, "Collect_Wood_Again", 7)
    completed = {"Collect_Wood": {"expert_idx": 0}}
    data = classic_specs()["Collect_Wood"].to_data()
    given = ("Collect_Wood_Again", data, 40, [], completed, related_library.root, {"init_from": "auto"}, CLASSIC)
    folder, _, policies = prepare_training_run(*given)
    assert "init_from" not in read_json(folder / "run.json")
    assert pickles.load(policies / "initial.pkl")["experts"]["0"]["actor"]["w"][0] == 7


def test_to_choose_without_the_facts_of_the_game_is_refused(related_library):
    with pytest.raises(BadInput, match="--init_from auto needs the facts"):
        prepare_new(related_library, given=None, init_from="auto")


def test_a_skill_has_training_settings_of_its_own(library):
    write_json(library.config, {"total_timesteps": 100})
    data = skill("Make_Pickaxe") | {"settings": {"total_timesteps": 7, "stop_at_goal": False}}
    folder, _, _ = prepare(library.root, skill_data=data)
    pickles.dump(RunPaths(folder).checkpoint(64), {"experts": {}})
    for _ in range(2):  # new, and going on
        settings = read_json(folder / "run.json")["settings"]
        assert (settings["total_timesteps"], settings["stop_at_goal"]) == (7, False)
        prepare(library.root, skill_data=data)
    prepare(library.root, skill_data=data, settings={"total_timesteps": 8})
    assert read_json(folder / "run.json")["settings"]["total_timesteps"] == 8
