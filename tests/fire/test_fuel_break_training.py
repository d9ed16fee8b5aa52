"""Trainings as a user starts them: files, results, resuming, interrupts and bad input."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from flowrl.errors import BadInput, FlowrlError
from flowrl.files import read_json
from flowrl.fire import FuelBreakSettings, IterativeFuelBreakTrainer, ParallelFuelBreakTrainer
from flowrl.fire import train_dqn_fuel_breaks as sequential
from flowrl.fire import train_dqn_fuel_breaks_parallel as parallel
from flowrl.fire.agent.agent import DQNAgent
from flowrl.fire.agent.demonstrations import ORDERS, OWN_PATHS
from flowrl.fire.agent.learning import QLearner
from flowrl.fire.breaks.observation import NUM_FIXED
from flowrl.fire.breaks.rules import budget_of
from flowrl.fire.breaks.vectorized import VectorizedFireEnv
from flowrl.fire.landscapes.rasters import Georeference, read_raster, write_geotiff
from flowrl.fire.training import checkpoints, config_file, results, trainer
from flowrl.fire.training.checkpoints import Progress, Saved
from flowrl.fire.training.memories import Memories
from flowrl.fire.training.surroundings import rules_of, surroundings_of
from flowrl.paths import FuelBreakPaths
from tests.fire.data import landscapes, package

TINY = {
    "grid_size": 8,
    "num_landscapes": 2,
    "num_test_landscapes": 1,
    "num_episodes": 2,
    "num_parallel_envs": 2,
    "steps_per_episode": 6,
    "planning_fires": 32,
    "comparison_fires": 32,
    "held_out_fires": 64,
    "memory_simulations": 8,
    "pretrain_steps": 12,
    "batch_size": 8,
    "network_width": 4,
    "evaluate_frequency": 1,
    "improve_frequency": 2,
    "num_maps": 1,
}
DOCUMENTED = """
{
  "raster_dir": "cropped_raster",   // a folder of layers
  "grid_size": 25,
  "input_channels": 8,
  "num_landscapes": 4,
  "num_episodes": 100,
  "num_parallel_envs": 6,
  "parallel_method": "threading",
  "max_workers": 3,
  "steps_per_episode": 40,
  "train_frequency": 3,
  "collection_batch_size": 48,
  "experience_buffer_size": 1500,
  "memory_simulations": 2,
  "pretrain_steps": 150,
  "percentage_increment": 2,
  "learning_rate": 1e-4,
  "gamma": 0.95,
  "initial_epsilon": 1.0,
  "epsilon_min": 0.01,
  "epsilon_decay": 0.995,
  "buffer_size": 30000,
  "batch_size": 24,
  "target_update_frequency": 15,
  "checkpoint_frequency": 15,
  "output_dir": "parallel_outputs",
  "regenerate_memories": false,
}
"""


def flags(**changed) -> list[str]:
    return [word for name, value in (TINY | changed).items() for word in (f"--{name}", str(value))]


def lines(paths: FuelBreakPaths) -> list[dict]:
    return [json.loads(line) for line in paths.metrics.read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training from a file, with flags beside it."""
    folder = tmp_path_factory.mktemp("fuel")
    config = folder / "mine.json"
    config.write_text("// small\n" + json.dumps(TINY | {"num_episodes": 50}).replace("}", ", }"))
    output = folder / "out"
    assert parallel.main(["--config", str(config), "--num_episodes", "2", "--output_dir", str(output)]) == 0
    return FuelBreakPaths(output)


def test_a_training_leaves_settings_metrics_a_checkpoint_and_a_table(trained):
    settings, result = read_json(trained.settings), read_json(trained.result)
    assert settings["num_episodes"] == 2 and settings["grid_size"] == 8
    assert [path.name for path in trained.checkpoints()] == ["checkpoint_0.pkl", "checkpoint_2.pkl"]
    found = lines(trained)
    assert [line["round"] for line in found] == [0, 1, 2] and found[0]["stage"] == "pretrained"
    assert found[2]["experiences"] == 12 and found[2]["updates"] == 12 + 2 * 3 and 0 < found[2]["burned"] < 1
    assert result["progress"]["rounds"] == 2 and result["progress"]["best_share"] == min(line["burned"] for line in found)
    for areas, count in (("trained_areas", 2), ("test_areas", 1)):
        table = result[areas]
        assert {"none", "sequential DPV", "swap search", "DQN"} <= table.keys()
        assert all(len(one["burned_in_each"]) == count and one["cells"] <= 3 for one in table.values())
        assert all(one["cells"] == table["DQN"]["cells"] > 0 for name, one in table.items() if name != "none")
        assert table["swap search"]["burned"] < table["none"]["burned"]


def test_maps_show_the_agents_breaks(trained):
    package("matplotlib")
    picture = (trained.maps / "area_0.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
    assert not list(trained.maps.glob("*.tif"))  # a made landscape lies nowhere


def test_the_same_command_goes_on_and_keeps_its_demonstrations(trained, capsys):
    kept = trained.memories.stat().st_mtime_ns
    assert parallel.main(flags(output_dir=trained.folder, num_episodes=3, improve_frequency=0)) == 0
    said = capsys.readouterr().out
    assert "Continuing after 2 rounds, 18 updates" in said and f"kept in {trained.memories}" in said
    assert trained.memories.stat().st_mtime_ns == kept
    assert [line["round"] for line in lines(trained)] == [0, 1, 2, 3]
    assert read_json(trained.result)["progress"]["updates"] == 21


def test_another_network_than_the_checkpoints_is_refused(trained, capsys):
    assert parallel.main(flags(output_dir=trained.folder, network_width=5)) == 2
    error = capsys.readouterr().err
    assert "does not fit this run" in error and "give another --output_dir" in error and error.count("\n") == 1


def test_parameters_that_are_not_numbers_take_no_checkpoints_place(tmp_path):
    learner = QLearner({"bias": np.array([0.0, np.nan])}, {"bias": np.zeros(2)}, ())
    with pytest.raises(FlowrlError, match="diverged: a parameter is not a number; try a smaller --learning_rate"):
        checkpoints.save(FuelBreakPaths(tmp_path), Saved(learner, {"bias": np.zeros(2)}, Progress(rounds=3)))
    assert not FuelBreakPaths(tmp_path).checkpoints()


@pytest.mark.parametrize(("name", "value"), [("grid_size", 9), ("wind_from", 90.0), ("seed", 3), ("planning_fires", 33)])
def test_another_problem_than_the_checkpoints_is_refused(trained, capsys, name, value):
    assert parallel.main(flags(output_dir=trained.folder, **{name: value})) == 2
    error = capsys.readouterr().err
    assert f"with --{name} " in error and f", not {value}; give another --output_dir" in error and error.count("\n") == 1


def test_the_sequential_command_steps_one_environment(tmp_path, capsys):
    assert sequential.main(flags(output_dir=tmp_path / "out", num_episodes=1, num_parallel_envs=7, num_test_landscapes=0)) == 0
    found = lines(FuelBreakPaths(tmp_path / "out"))
    assert found[-1]["experiences"] == 6
    assert read_json(tmp_path / "out" / "result.json")["test_areas"] is None
    assert "DQN" in capsys.readouterr().out


def test_layers_with_a_place_give_rasters_with_that_place(tmp_path):
    package("rasterio")
    place = Georeference(500_000.0, 4_200_000.0, 30.0, "EPSG:32633")
    folder = tmp_path / "layers"
    folder.mkdir()
    rng = np.random.default_rng(0)
    write_geotiff(folder / "fuels.tif", rng.choice([102, 122, 165], (8, 8)).astype(np.int32), place)
    write_geotiff(folder / "elevation.tif", rng.normal(0, 20, (8, 8)), place)
    settings = TINY | {"raster_dir": str(folder), "num_episodes": 1, "pretrain_steps": 0, "improve_frequency": 0}
    found = ParallelFuelBreakTrainer(settings | {"output_dir": str(tmp_path / "out")}).train()
    assert len(found["trained_areas"]["DQN"]["burned_in_each"]) == 1 and found["test_areas"] is None  # there is one window
    for name in ("breaks", "burn_probability_before", "burn_probability_after"):
        raster = read_raster(tmp_path / "out" / "maps" / f"area_0_{name}.tif")
        assert raster.georeference[:3] == place[:3] and raster.values.shape == (8, 8)
    assert read_raster(tmp_path / "out" / "maps" / "area_0_breaks.tif").values.sum() == found["trained_areas"]["DQN"]["cells"]
    assert not (tmp_path / "out" / "memories.npz").exists()  # nothing was demonstrated


def test_an_interrupted_training_is_saved_and_goes_on(tmp_path):
    arguments = flags(output_dir=tmp_path / "out", num_episodes=100_000, evaluate_frequency=100_000, improve_frequency=0)
    process = subprocess.Popen(
        [sys.executable, "-m", parallel.MODULE, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith("round 3/"):
            process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    paths = FuelBreakPaths(tmp_path / "out")
    rounds = int(paths.checkpoints()[-1].stem.split("_")[1])
    assert rounds >= 3 and f"Stopped after {rounds} rounds" in seen[-1] and "the same command continues" in seen[-1]
    assert [line["round"] for line in lines(paths)] == list(range(rounds + 1))
    trainer = ParallelFuelBreakTrainer(TINY | {"output_dir": tmp_path / "out", "num_episodes": rounds})
    assert trainer.train()["progress"]["rounds"] == rounds


def train_in(folder, **changed) -> dict:
    return ParallelFuelBreakTrainer(TINY | {"output_dir": folder, "num_test_landscapes": 0, "num_maps": 0} | changed).train()


def interrupt_at(count: int, function):
    """The function, but its call of this number is a Ctrl-C."""
    calls = itertools.count(1)

    def counted(*args):
        if next(calls) == count:
            raise KeyboardInterrupt
        return function(*args)

    return counted


def test_a_pretraining_that_was_interrupted_is_finished_before_the_first_round(tmp_path):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(DQNAgent, "replay", interrupt_at(6, DQNAgent.replay))
        train_in(tmp_path)
    assert [path.name for path in FuelBreakPaths(tmp_path).checkpoints()] == ["checkpoint_0.pkl"]
    train_in(tmp_path, num_episodes=1)
    first, second = lines(FuelBreakPaths(tmp_path))
    assert (first["stage"], first["updates"]) == ("pretrained", 12) and second["updates"] == 12 + 3
    train_in(tmp_path, num_episodes=1)
    assert len(lines(FuelBreakPaths(tmp_path))) == 2  # not pretrained again


def test_a_pretraining_that_ran_out_of_time_is_finished_by_the_next_start(tmp_path):
    train_in(tmp_path, max_minutes=1e-6)
    (first,) = lines(FuelBreakPaths(tmp_path))
    assert (first["stage"], first["updates"]) == ("pretrained", 1)
    train_in(tmp_path, num_episodes=1)
    assert [line["updates"] for line in lines(FuelBreakPaths(tmp_path))] == [1, 12, 12 + 3]


def test_a_pretraining_is_kept_when_the_training_after_it_is_killed(tmp_path):
    def killed(self, *_):
        raise SystemExit(9)  # neither Ctrl-C nor an end: nothing is saved

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(trainer.ParallelExperienceCollector, "collect_experiences", killed)
        train_in(tmp_path)
    train_in(tmp_path, num_episodes=1)
    assert [(line["round"], line["updates"]) for line in lines(FuelBreakPaths(tmp_path))] == [(0, 12), (1, 15)]
    for path in FuelBreakPaths(tmp_path).checkpoints():
        path.unlink()
    train_in(tmp_path, num_episodes=1)  # from the beginning, with metrics from the beginning
    assert [(line["round"], line["updates"]) for line in lines(FuelBreakPaths(tmp_path))] == [(0, 12), (1, 15)]


def test_areas_and_fires_of_the_last_comparison_are_not_those_of_the_training(tmp_path, monkeypatch):
    """Fires come from the seed of a comparison and the number of an area, or of an environment."""
    seeds, compared = [], []
    reset, compare = VectorizedFireEnv.reset, results.compare

    def listening(landscapes, seed, *rest):
        compared.append((landscapes, seed))
        return compare(landscapes, seed, *rest)

    monkeypatch.setattr(VectorizedFireEnv, "reset", lambda self, seed=None: seeds.append(seed) or reset(self, seed))
    monkeypatch.setattr(results, "compare", listening)
    train_in(tmp_path, num_test_landscapes=2)
    (areas, first), (others, other) = compared
    assert len({one.elevation_m.tobytes() for one in (*areas, *others)}) == 4
    assert len({start + number for start in (first, other, *seeds) for number in range(2)}) == 6


def test_targets_exploration_and_the_target_network_follow_the_settings(tmp_path, monkeypatch):
    collectors, updated = [], []
    collector, update_target = trainer.ParallelExperienceCollector, DQNAgent.update_target

    def listening(*args, **settings):
        collectors.append(settings)
        return collector(*args, **settings)

    monkeypatch.setattr(trainer, "ParallelExperienceCollector", listening)
    monkeypatch.setattr(DQNAgent, "update_target", lambda self: updated.append(self.updates) or update_target(self))
    changed = {"n_step": 2, "gamma": 0.9, "initial_epsilon": 0.5, "epsilon_decay": 0.5, "epsilon_min": 0.1}
    train_in(tmp_path, num_episodes=4, target_update_frequency=2, **changed)
    assert [(one["n_step"], one["gamma"]) for one in collectors] == [(2, 0.9)]
    assert [line["epsilon"] for line in lines(FuelBreakPaths(tmp_path))[1:]] == [0.25, 0.125, 0.1, 0.1]
    assert updated == [12, 12 + 2 * 3, 12 + 4 * 3]  # after pretraining, and every second round


def test_the_agent_with_the_best_comparison_is_the_result(tmp_path, monkeypatch):
    shares, seen, last = itertools.count(), [], []
    planned, compare = trainer.greedy_breaks, results.compare_with_heuristics
    monkeypatch.setattr(
        trainer, "greedy_breaks", lambda agent, *rest: seen.append(agent.learner.params) or planned(agent, *rest)
    )
    monkeypatch.setattr(trainer, "burned_shares", lambda problem, breaks: np.array([(0.5, 0.4, 0.6, 0.7)[next(shares) // 2]]))
    monkeypatch.setattr(results, "compare_with_heuristics", lambda *args: last.append(args[2].learner.params) or compare(*args))
    train_in(tmp_path, num_episodes=3, improve_frequency=0)
    assert len(seen) == 4 and len(last) == 1
    compared = read_json(FuelBreakPaths(tmp_path).result)["progress"]["best_share"]
    burned = [line["burned"] for line in lines(FuelBreakPaths(tmp_path))]
    assert burned == [0.5, 0.4, 0.6, 0.7] and compared == 0.4  # two areas each
    equal = [all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(last[0]))) for one in seen]
    assert equal == [False, True, False, False]


def test_demonstrations_that_were_interrupted_go_on_with_the_next_area(tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "best_known", interrupt_at(2, trainer.best_known))
        train_in(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "best_known", interrupt_at(2, trainer.best_known))  # one more is made, and no second one
        train_in(tmp_path, num_episodes=1)
    assert f"1 of them kept in {FuelBreakPaths(tmp_path).memories}" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive"])
def test_a_damaged_file_of_demonstrations_is_none(tmp_path, content):
    paths = FuelBreakPaths(tmp_path)
    paths.memories.write_bytes(content)
    assert Memories(paths, [], []).load() == []


def test_every_area_is_demonstrated_however_small_the_replay_memory_and_areas_are_improved_in_turn(tmp_path, monkeypatch):
    agents, improved = [], []
    new_agent = trainer.new_agent
    monkeypatch.setattr(trainer, "new_agent", lambda *args: agents.append(new_agent(*args)) or agents[-1])
    monkeypatch.setattr(trainer, "improved", lambda problem, breaks: improved.append(problem.seed) or (breaks, 0.0))
    train_in(tmp_path, num_landscapes=3, buffer_size=8, improve_frequency=1, improve_areas=2)
    assert improved == [0, 1, 2, 0]
    seen = agents[0].demonstrations.sample(np.random.default_rng(0), 200).observations[:, :NUM_FIXED]
    assert len({one.tobytes() for one in seen}) == 3
    # An area's newest demonstrations stand in place of the first.
    assert agents[0].demonstrations.size <= 3 * 3 * (ORDERS + OWN_PATHS)


def test_where_the_agent_places_the_best_known_breaks_the_search_begins_elsewhere(tmp_path, monkeypatch):
    known, starts = [], []
    make = trainer.best_known
    monkeypatch.setattr(trainer, "best_known", lambda problem: known.append(make(problem)) or known[-1])
    monkeypatch.setattr(trainer, "greedy_paths", lambda *_: [np.stack([known[0].breaks & False, known[0].breaks])])
    monkeypatch.setattr(trainer, "improved", lambda _, breaks: starts.append(breaks) or (breaks, 1.0))
    train_in(tmp_path, num_landscapes=1, improve_frequency=1)
    assert starts and all(start.sum() == known[0].breaks.sum() and (start != known[0].breaks).any() for start in starts)


def test_while_it_is_pretrained_the_agent_is_taught_what_was_right_in_its_own_states(tmp_path, monkeypatch):
    taught = []
    in_own_states = trainer.in_own_states
    monkeypatch.setattr(trainer, "in_own_states", lambda area, *rest: taught.append(area) or in_own_states(area, *rest))
    monkeypatch.setattr(trainer, "OWN_STATES_EVERY", 2)
    train_in(tmp_path, num_landscapes=3, pretrain_steps=5, num_episodes=1, improve_frequency=0, improve_areas=2)
    assert len(taught) == 4 + 1  # areas 0 and 1, then 2 and 0: for this one, its path of before is taught again
    assert len({id(area) for area in taught}) == 3


def test_the_last_comparison_takes_the_first_areas_and_has_planning_fires_of_its_own(tmp_path, monkeypatch, capsys):
    settings = []
    compare = results.compare

    def listening(landscapes, seed, setting, heuristics):
        settings.append(setting)
        return compare(landscapes, seed, setting, {"none": heuristics["none"], results.AGENT: heuristics[results.AGENT]})

    monkeypatch.setattr(results, "compare", listening)
    changed = {"num_landscapes": 3, "num_test_landscapes": 1, "compared_areas": 2, "comparison_fires": 48, "num_episodes": 1}
    found = train_in(tmp_path, **changed)
    assert [len(found[name]["DQN"]["burned_in_each"]) for name in ("trained_areas", "test_areas")] == [2, 1]
    assert [(one.planning_fires, one.held_out_fires) for one in settings] == [(48, 64)] * 2
    assert "The first 2 of 3 areas of the training" in capsys.readouterr().out


def test_the_documents_example_is_accepted_key_by_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.json").write_text(DOCUMENTED)
    settings = config_file.settings_in("example.json")
    assert settings.percentage_increment == 2 and settings.parallel_method == "threading" and settings.learning_rate == 1e-4
    assert settings.to_json()["buffer_size"] == 30000 and str(settings.raster_dir) == "cropped_raster"
    with pytest.raises(BadInput, match="--raster_dir cropped_raster: there is no such folder"):
        ParallelFuelBreakTrainer(settings).train()


@pytest.mark.parametrize("name", ["parallel_config.json", "demo_config.json"])
def test_shipped_settings_are_found_from_anywhere_and_a_path_wins(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_file.settings_in(name).output_dir.name == name.replace("config.json", "outputs")
    (tmp_path / name).write_text('{"grid_size": 9}')
    assert config_file.settings_in(name).grid_size == 9


def test_settings_from_python_are_those_of_a_file():
    assert IterativeFuelBreakTrainer({"num_parallel_envs": 6}).settings.num_parallel_envs == 1
    settings = FuelBreakSettings(num_parallel_envs=3)
    assert ParallelFuelBreakTrainer(settings).settings is settings
    assert IterativeFuelBreakTrainer(settings).settings.parallel_method == "sequential"
    assert FuelBreakSettings.of({"num_episodes": 1e3}).num_episodes == 1000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("[1]", "must hold one object of settings, found list"),
        ('{"num_paralel_envs": 2}', "unknown key 'num_paralel_envs': did you mean num_parallel_envs"),
        ('{"grid_size": "large"}', "grid_size must be a number, found 'large'"),
        ('{"regenerate_memories": 1}', "regenerate_memories must be true or false, found 1"),
        ('{"parallel_method": "thread"}', "unknown parallel_method 'thread'"),
        ('{"input_channels": 6}', "input_channels must be 8"),
        ('{"grid_size": 2}', "grid_size must be at least 4, found 2"),
        ('{"budget": 0}', "budget must be more than 0 and at most 1, found 0"),
        ('{"collection_batch_size": 64, "experience_buffer_size": 8}', "must be at most --experience_buffer_size"),
        ('{"num_episodes": 1.5}', "num_episodes must be a whole number"),
        ('{"wind_from": NaN}', "wind_from must be a number, found nan"),
        ("[" * 20_000, "is nested too deeply for settings"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(content, words, tmp_path, capsys):
    (tmp_path / "bad.json").write_text(content)
    assert parallel.main(["--config", str(tmp_path / "bad.json")]) == 2
    error = capsys.readouterr().err
    assert words in error and "bad.json" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "none.json"], "there is no such file; give a path, or one of flowrl's own: demo_config.json"),
        (["--parallel_method", "thread"], "parallel_method"),
        (["--batch_size", "0"], "--batch_size must be at least 1, found 0"),
        (["--raster_dir", "nowhere"], "--raster_dir nowhere: there is no such folder"),
    ],
)
def test_bad_flags_are_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert parallel.main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.parametrize(("name", "side", "budget"), [("cell2fire_20x20", 20, 15), ("cell2fire_40x40", 40, 72)])
def test_a_published_instance_is_one_area_with_its_budget(name, side, budget):
    """The slope of the larger one has another size, and is not read."""
    settings = FuelBreakSettings(raster_dir=landscapes(name), grid_size=side, planning_fires=8)
    around = surroundings_of(settings)
    assert len(around.areas) == len(around.problems) == 1 and not around.test_areas
    assert around.problems[0].budget == budget_of(around.areas[0].landscape, rules_of(settings)) == budget


def test_windows_of_real_layers_have_their_canopy():
    settings = FuelBreakSettings(raster_dir=landscapes("landfire"), grid_size=40, num_landscapes=2, planning_fires=8)
    around = surroundings_of(settings)
    assert len(around.areas) == 2 and len(around.test_areas) > 0
    for area in around.areas:
        assert area.landscape.burnable.mean() >= 0.5 and area.canopy.max() <= 1 and area.canopy.any()
        assert area.georeference is not None
