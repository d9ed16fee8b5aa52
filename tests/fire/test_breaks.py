"""Placing breaks: the rules, what an agent sees, and four ways of stepping environments that agree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from flowrl.errors import BadInput
from flowrl.fire import BreakRules, DQNAgent, FuelBreakEnv, ParallelExperienceCollector, VectorizedFireEnv
from flowrl.fire.agent import collector as collector_module
from flowrl.fire.agent.agent import AgentSettings
from flowrl.fire.breaks.areas import CANOPY, area_of, made_areas, windows_of
from flowrl.fire.breaks.observation import CHANNELS, NUM_FIXED, fixed_channels
from flowrl.fire.breaks.rules import place
from flowrl.fire.breaks.vectorized import METHODS
from flowrl.fire.breaks.vmapped import VmappedFireEnv
from flowrl.fire.landscapes.landscape import Density, Vegetation
from flowrl.fire.landscapes.layers import Layers
from flowrl.fire.landscapes.rasters import Georeference
from flowrl.fire.spread.fires import WindClimate
from flowrl.host.faults import EnvironmentFault
from tests.fire import outside_fire
from tests.fire.scenes import plain

RULES = BreakRules(memory_simulations=40, num_steps=20)
SIDE = 8


def random_cells(env: VectorizedFireEnv, rng: np.random.Generator) -> np.ndarray:
    scores = np.where(env.get_action_masks(), rng.random((env.num_envs, SIDE * SIDE)), -1)
    cells = np.argsort(-scores, axis=1)[:, : env.cells_per_step]
    return cells if env.cells_per_step > 1 else cells[:, 0]


def transitions(rules: BreakRules, method: str, steps: int, num_areas: int = 2) -> list:
    """All that a batch gives in some random steps."""
    with VectorizedFireEnv(made_areas(num_areas, SIDE, 5), 3, method, 2, rules=rules) as env:
        rng = np.random.default_rng(1)
        found = [env.reset(7)]
        for _ in range(steps):
            observations, rewards, dones, infos = env.wait_for_results(env.step_async(random_cells(env, rng)))
            found += [observations, rewards, dones, env.get_action_masks()]
            found += [value for info in infos for _, value in sorted(info.items())]
        return [*found, sorted(env.get_episode_stats().items())]


@pytest.mark.parametrize(
    "rules", [RULES, RULES._replace(reward="difference", percentage_increment=3.0)], ids=["a cell", "some cells"]
)
def test_every_way_of_stepping_gives_the_same_transitions(rules):
    found = {method: transitions(rules, method, 7) for method in METHODS}
    stats = dict(found["vmap"][-1])
    assert stats["num_episodes"] > 3 and stats["mean_burned_share"] > 0
    for method, values in found.items():
        assert len(values) == len(found["vmap"]), method
        assert all(np.array_equal(one, other) for one, other in zip(values[:-1], found["vmap"][:-1], strict=True)), method
        assert values[-1] == found["vmap"][-1], method


@pytest.mark.parametrize("reward", ["end", "difference"])
def test_more_landscapes_than_environments_take_turns_alike_in_every_way_of_stepping(reward):
    """Five areas in three environments: two of them have two areas each."""
    rules = RULES._replace(percentage_increment=3.0, reward=reward)
    one_by_one, together = (transitions(rules, method, 8, num_areas=5) for method in ("sequential", "vmap"))
    assert dict(together[-1])["num_episodes"] > 9
    assert all(np.array_equal(*pair) for pair in zip(one_by_one[:-1], together[:-1], strict=True))
    assert one_by_one[-1] == together[-1]


def test_every_landscape_is_used_and_a_seed_begins_with_the_first_one_again():
    areas = made_areas(5, SIDE, 5)
    number_of = {fixed_channels(area, RULES.climate).tobytes(): number for number, area in enumerate(areas)}
    with VectorizedFireEnv(areas, 2, rules=RULES._replace(percentage_increment=100.0)) as env:  # a step is an episode
        for _ in range(2):
            seen = [env.reset(3), *(env.step(np.argsort(~env.get_action_masks(), axis=1, kind="stable"))[0] for _ in range(5))]
            found = [[number_of[row[:NUM_FIXED].tobytes()] for row in batch] for batch in seen]
            assert found == [[0, 1], [2, 3], [4, 1], [0, 3], [2, 1], [4, 3]]


def test_the_rewards_of_an_episode_by_difference_add_up_to_what_breaks_save():
    area = made_areas(1, SIDE, 3)[0]
    without = FuelBreakEnv(area, RULES._replace(budget=0.01))
    shares = {}
    for reward in ("end", "difference"):
        env = FuelBreakEnv(area, RULES._replace(reward=reward))
        env.reset(seed=4)
        rewards, is_over = [], False
        while not is_over:
            cell = np.flatnonzero(env.action_masks())[3 * len(rewards)]
            observation, gained, is_over, truncated, info = env.step(cell)
            rewards.append(gained)
            assert not truncated
        shares[reward] = info["burned_share"]
        if reward == "end":
            assert rewards[:-1] == [0.0] * (len(rewards) - 1) and rewards[-1] == -info["burned_share"]
    assert shares["end"] == shares["difference"]
    without.reset(seed=4)
    assert without._burned() - shares["difference"] == pytest.approx(sum(rewards), abs=1e-12)
    assert sum(rewards) >= 0 and min(rewards) >= 0  # a further break never makes a fire larger


def test_an_observation_has_the_layers_the_breaks_and_the_budget_left():
    env = FuelBreakEnv(made_areas(1, SIDE, 0)[0], RULES)
    first, _ = env.reset(seed=0)
    cell = int(np.flatnonzero(env.action_masks())[5])
    second = env.step(cell)[0]
    assert first.shape == (len(CHANNELS), SIDE, SIDE) and first.dtype == np.float32 and np.isfinite(first).all()
    assert np.array_equal(first[:NUM_FIXED], second[:NUM_FIXED])
    assert not first[CHANNELS.index("breaks")].any()
    assert np.flatnonzero(second[CHANNELS.index("breaks")]).tolist() == [cell]
    left = [one[CHANNELS.index("budget_left")] for one in (first, second)]
    assert np.allclose(left[0] - left[1], 1 / SIDE) and not env.action_masks()[cell]


def test_channels_by_hand():
    vegetation = np.full((4, 4), Vegetation.PINE)
    burnable = np.ones((4, 4), bool)
    burnable[0, 0] = False
    landscape = plain(
        4,
        4,
        vegetation=vegetation,
        density=np.full((4, 4), Density.SPARSE),
        burnable=burnable,
        elevation_m=np.indices((4, 4))[1] * 50.0,  # rises to the east, half a metre for each
    )
    seen = dict(zip(CHANNELS, fixed_channels(area_of(landscape), WindClimate(10.0, 270.0, 0.0)), strict=False))
    assert np.allclose(seen["vegetation"], np.where(burnable, 0.4, 0)) and np.allclose(
        seen["density"], np.where(burnable, -0.4, 0)
    )
    assert np.allclose(seen["slope_east"], 0.5) and np.allclose(seen["slope_north"], 0)
    assert np.allclose(seen["wind_east"], 1.0) and np.allclose(seen["wind_north"], 0, atol=1e-6)
    assert np.array_equal(seen["burnable"], burnable) and (seen["inside"] == 1).all()


@given(st.data())
def test_a_step_places_no_more_than_the_budget_and_refuses_what_is_not_allowed(data):
    burnable = np.array(data.draw(st.lists(st.booleans(), min_size=12, max_size=12))).reshape(3, 4)
    breaks = burnable & np.array(data.draw(st.lists(st.booleans(), min_size=12, max_size=12))).reshape(3, 4)
    allowed = burnable & ~breaks
    left = data.draw(st.integers(1, 4))
    cells = np.array(data.draw(st.lists(st.integers(-1, 12), min_size=1, max_size=4)))
    used = cells[:left]
    is_fine = len(set(used.tolist())) == len(used) and all(0 <= cell < 12 and allowed.flat[cell] for cell in used)
    if not is_fine:
        with pytest.raises(BadInput):
            place(breaks, allowed, cells, left)
        return
    grown, rest = place(breaks, allowed, cells, left)
    assert np.array_equal(np.flatnonzero(grown & ~breaks), np.sort(used)) and rest == left - len(used)
    assert (grown[breaks]).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([],), "landscape_data_list is empty"),
        (([plain(6, 6)], 0), "num_envs must be at least 1, found 0"),
        (([plain(6, 6)], 2, "thread"), "threading"),
        (([plain(6, 6)], 2, "threading", 0), "max_workers must be at least 1"),
        (([plain(6, 6), plain(6, 7)],), "landscapes must have one shape"),
        ((["forest"],), "must be a FireArea, a Landscape or Layers, found str"),
    ],
)
def test_a_batch_that_cannot_be_made_is_refused_in_one_line(arguments, words):
    with pytest.raises(BadInput, match=words) as error:
        VectorizedFireEnv(*arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"budget": 0.0}, "budget must be a share"),
        ({"memory_simulations": 0}, "memory_simulations must be at least 1"),
        ({"percentage_increment": 101}, "percentage_increment must be from 0 to 100"),
        ({"reward": "late"}, "reward must be one of end, difference"),
    ],
)
@pytest.mark.parametrize("method", ["vmap", "sequential"])
def test_impossible_rules_are_refused(method, change, words):
    with pytest.raises(BadInput, match=f"^{words}"):
        VectorizedFireEnv([plain(6, 6)], method=method, rules=RULES._replace(**change))


def test_a_cell_that_is_a_break_already_is_refused_with_its_place():
    env = VmappedFireEnv(made_areas(1, SIDE, 0), RULES)
    env.reset(0)
    cell = int(np.flatnonzero(env.get_action_masks()[0])[0])
    env.step([cell])
    with pytest.raises(BadInput, match=rf"cell {cell} \(row {cell // SIDE}, column {cell % SIDE}\) is a break already"):
        env.step([cell])
    env.close()


def layers_of(rows: int, columns: int, **more) -> Layers:
    values = {
        "fuels": np.full((rows, columns), 102.0),
        "elevation": np.arange(rows * columns, dtype=float).reshape(rows, columns),
    }
    paths = {name: Path(f"{name}.tif") for name in values | more}
    return Layers(values | more, Georeference(1000.0, 5000.0, 30.0, "EPSG:5070"), paths)


def test_windows_of_layers_lie_where_they_were_cut_and_do_not_overlap():
    cover = np.zeros((20, 30))
    cover[:, 15:] = 60.0
    areas = windows_of(layers_of(20, 30, canopy_cover=cover), 6, 10, seed=1).areas
    assert len(areas) == 6
    seen = np.zeros((20, 30), int)
    for area in areas:
        row, column = (int(word.rstrip(",")) for word in area.name.split()[3::2])
        seen[row : row + 10, column : column + 10] += 1
        assert area.georeference.west == 1000 + 30 * column and area.georeference.north == 5000 - 30 * row
        assert area.landscape.elevation_m[0, 0] == row * 30 + column and float(area.landscape.cell_size_m) == 30
        assert np.array_equal(area.canopy[CANOPY.index("canopy_cover")], (cover / 60)[row : row + 10, column : column + 10])
    assert (seen == 1).all()


def test_layers_with_room_for_one_window_give_one_and_too_small_ones_none():
    assert len(windows_of(layers_of(10, 10), 4, 10, seed=0).areas) == 1
    with pytest.raises(BadInput, match="grid_size 11 is more than the layers have: 10 x 10 cells; give at most 10"):
        windows_of(layers_of(10, 10), 4, 11, seed=0)
    bare = layers_of(10, 10)
    bare.values["fuels"][:, :7] = 98.0
    with pytest.raises(BadInput, match="no window of 10 x 10 cells has 50% that burns"):
        windows_of(bare, 1, 10, seed=0)


def cells_of(areas) -> list[tuple[float, float]]:
    """The north-western corners of all cells."""
    places = [area.georeference for area in areas]
    return [(place.west + 30 * column, place.north - 30 * row) for place in places for row, column in np.ndindex(10, 10)]


@pytest.mark.parametrize("seed", range(5))
def test_windows_to_test_on_share_no_cell_with_those_to_train_on(seed):
    """Layers with room for two windows apart, and for many that overlap."""
    areas, test_areas = windows_of(layers_of(15, 28), 3, 10, seed, num_test_areas=4)
    assert len(areas) == 3 and not set(cells_of(areas)) & set(cells_of(test_areas))
    areas, test_areas = windows_of(layers_of(15, 28), 1, 10, seed, num_test_areas=4)
    assert len(areas) == 1 and test_areas and not set(cells_of(areas)) & set(cells_of(test_areas))


class OutsideEnv(gymnasium.Env):
    """Breaks that another program judges."""

    def __init__(self, burnable: np.ndarray):
        self.burnable = burnable
        self.observation_space = spaces.Box(0, 1, (2, *burnable.shape), np.float32)
        self.action_space = spaces.Discrete(burnable.size)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.breaks = np.zeros_like(self.burnable)
        return self._seen(), {}

    def step(self, action):
        self.breaks.flat[action] = True
        if self.breaks.sum() < 3:
            return self._seen(), 0.0, False, False, {}
        asked = json.dumps({"burnable": self.burnable.tolist(), "breaks": self.breaks.tolist()})
        program = [sys.executable, outside_fire.__file__]
        burned = int(subprocess.run(program, input=asked, capture_output=True, text=True, check=True).stdout)
        share = burned / int(self.burnable.sum())
        return self._seen(), -share, True, False, {"burned_share": share}

    def action_masks(self):
        return (self.burnable & ~self.breaks).ravel()

    def _seen(self):
        return np.stack([self.burnable, self.breaks]).astype(np.float32)


class OutsideBatch(VectorizedFireEnv):
    def create_environment(self, landscape_data):
        return OutsideEnv(landscape_data)


class Listener:
    """Places the first cell that is allowed, and keeps what it was handed."""

    def __init__(self):
        self.found = []

    def act(self, observations, masks, greedy=False):
        return masks.argmax(axis=1)

    def remember(self, found):
        self.found.append(found)

    def replay(self):
        return None


def test_a_simulator_of_ones_own_plugs_in_and_is_learned_from():
    """A strip of 3 x 5 cells, where fire starts at the left: three breaks in a column keep it there."""
    strip = np.ones((3, 5), bool)
    with OutsideBatch([strip], 4, "threading") as env:
        agent = DQNAgent(env.observation_shape, AgentSettings(width=4, batch_size=8), has_own_channels=False)
        collector = ParallelExperienceCollector(env, agent, collection_batch_size=8, n_step=0)
        stats = collector.collect_experiences(num_steps=6, train_frequency=4)
        assert stats["experiences"] == 24 and stats["episodes"] == 8 and stats["updates"] > 0
        burned = outside_fire.burned_cells(strip.tolist(), np.zeros_like(strip).tolist()) / strip.size
        assert -1 <= stats["mean_return"] == -stats["mean_burned_share"] < 0 < burned == 1


def test_an_episode_that_a_time_limit_cuts_off_says_so_and_goes_on_in_what_is_learned():
    class Cut(OutsideBatch):
        def create_environment(self, landscape_data):
            return gymnasium.wrappers.TimeLimit(OutsideEnv(landscape_data), 2)

    listener = Listener()
    with Cut([np.ones((3, 5), bool)], 1, "sequential") as env:
        ParallelExperienceCollector(env, listener, 1, n_step=0).collect_experiences(num_steps=2)
    (found,) = listener.found
    assert found.discounts.tolist() == [1.0, 1.0] and found.returns.tolist() == [0.0, 0.0]
    assert found.later[:, 1].reshape(2, -1).sum(axis=1).tolist() == [2.0, 2.0]  # both look at the last observation
    with Cut([np.ones((3, 5), bool)], 1, "sequential") as env:
        env.reset(0)
        assert [env.step([cell])[3][0].get("truncated") for cell in (0, 1)] == [None, True]
    with OutsideBatch([np.ones((3, 5), bool)], 1, "sequential") as env:
        env.reset(0)
        assert [env.step([cell])[3][0].get("truncated") for cell in (0, 1, 2)] == [None, None, False]


def test_of_experiences_that_wait_too_long_the_newest_are_kept():
    listener = Listener()
    with OutsideBatch([np.ones((3, 5), bool)], 1, "sequential") as env:
        ParallelExperienceCollector(env, listener, 2, 2, n_step=1).collect_experiences(num_steps=3)
    (found,) = listener.found
    assert found.chosen.argmax(axis=1).tolist() == [1, 2]  # of three


def test_the_first_call_counts_for_the_speed_until_there_is_another(monkeypatch):
    """With a clock by which the calls take 100, 2 and 4 seconds."""
    clock = iter([0.0, 100.0, 200.0, 202.0, 300.0, 304.0])
    monkeypatch.setattr(collector_module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    areas = made_areas(1, 8, 0)
    with VectorizedFireEnv(areas, 2, rules=BreakRules(memory_simulations=8, num_steps=8)) as env:
        agent = DQNAgent(env.observation_shape, AgentSettings(width=4))
        collector = ParallelExperienceCollector(env, agent)
        assert collector.get_performance_stats() == {"experiences_per_second": 0.0, "average_step_time": 0.0}
        found = []
        for _ in range(3):
            collector.collect_experiences(num_steps=2, train_frequency=1000)
            found.append(collector.get_performance_stats())
    assert [one["experiences_per_second"] for one in found] == [4 / 100, 4 / 2, 8 / 6]
    assert [one["average_step_time"] for one in found] == [100 / 2, 2 / 2, 6 / 4]


def test_before_an_episode_has_ended_its_means_are_not_numbers():
    with VectorizedFireEnv(made_areas(1, 8, 0), 1, rules=BreakRules(memory_simulations=8, num_steps=8)) as env:
        stats = env.get_episode_stats()
    assert stats["num_episodes"] == 0 and not stats["mean_steps"] < 10 and np.isnan(stats["mean_return"])


def test_a_simulator_of_ones_own_takes_its_landscapes_in_turn():
    strips = [np.ones((3, 5), bool) for _ in range(3)]
    strips[2][0, 0] = False
    with OutsideBatch(strips, 2, "sequential") as env:
        assert env.reset(0)[:, 0].all()
        for _ in range(3):
            first = env.step(env.get_action_masks().argmax(axis=1))[0]
        assert np.array_equal(first[0, 0], strips[2]) and not env.get_action_masks()[0, 0]
    with pytest.raises(EnvironmentFault, match="must have the same spaces"):
        OutsideBatch([strips[0], np.ones((3, 6), bool)], 1, "sequential")


def test_a_simulator_of_ones_own_does_not_run_in_vmap():
    with pytest.raises(BadInput, match="OutsideBatch has a create_environment of its own; give method threading"):
        OutsideBatch([np.ones((3, 5), bool)])
