"""The agent's parts: network, targets, symmetries, memory, demonstrations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowrl.errors import BadInput
from flowrl.fire.agent import demonstrations
from flowrl.fire.agent.agent import AgentSettings, DQNAgent
from flowrl.fire.agent.collector import Step, experiences_of
from flowrl.fire.agent.demonstrations import ORDERS, OWN_PATHS, as_experiences, best_known, in_own_states
from flowrl.fire.agent.learning import LearningBatch, QLearner, double_targets, margin_loss, programs_of, td_loss
from flowrl.fire.agent.memory import Experiences, ReplayMemory
from flowrl.fire.agent.planner import as_heuristic, greedy_breaks, greedy_paths
from flowrl.fire.agent.symmetries import symmetries_of, transformed, transformed_observations
from flowrl.fire.breaks.areas import area_of, made_areas
from flowrl.fire.breaks.observation import CHANNELS, NUM_FIXED, fixed_channels
from flowrl.fire.breaks.rules import BreakRules, budget_of
from flowrl.fire.heuristics import swap_search as swap_search_module
from flowrl.fire.heuristics.comparison import Setting, problem_and_judges
from flowrl.fire.heuristics.swap_search import burned_shares, improved, moved_at_random, swap_search
from flowrl.fire.landscapes.landscape import Landscape
from flowrl.fire.spread.fires import WindClimate
from flowrl.fire.spread.passages import split
from tests.fire.scenes import plain, rough

RULES = BreakRules(num_steps=20)
TAUGHT = AgentSettings(width=4, batch_size=16, learning_rate=5e-3)
SMALL = Setting(num_steps=20, planning_fires=64, held_out_fires=64)


@pytest.fixture(scope="module")
def area():
    return made_areas(1, 8, 2)[0]


@pytest.fixture(scope="module")
def problem(area):
    return problem_and_judges(area.landscape, 0, SMALL)[0]


def test_the_network_takes_areas_of_any_size_and_its_advantages_have_mean_0_over_allowed_cells():
    programs = programs_of(4, 1e-3, 0.5)
    params = programs.new_params(0, (3, 8, 8))
    for rows, columns in ((5, 7), (13, 4)):
        rng = np.random.default_rng(rows)
        seen = rng.normal(size=(2, 3, rows, columns)).astype(np.float32)
        allowed = rng.random((2, rows * columns)) < 0.5
        values = programs.values(params, seen, allowed)
        assert values.shape == allowed.shape
        # The value of a state is the mean over its allowed cells, whatever stands in the others.
        others = programs.values(params, seen, np.ones_like(allowed))
        differences = np.asarray(values - others)
        assert np.allclose(differences, differences[:, :1], atol=1e-5)


def test_double_targets_by_hand():
    values = jnp.array([[1.0, 5.0, 9.0], [3.0, 2.0, 1.0]])
    target_values = jnp.array([[10.0, 20.0, 30.0], [7.0, 8.0, 9.0]])
    allowed = jnp.array([[True, True, False], [True, True, True]])
    found = double_targets(jnp.array([1.0, 2.0]), jnp.array([0.5, 0.0]), values, target_values, allowed)
    assert found.tolist() == [1.0 + 0.5 * 20.0, 2.0]  # the newest network chooses among the allowed, the target network judges


def test_losses_by_hand():
    values = jnp.array([[1.0, 2.0, 4.0, 0.0]])
    chosen = jnp.array([[True, True, False, False]])
    assert td_loss(values, chosen, jnp.array([1.5])).tolist() == [0.125]  # Huber: both are off by a half
    values = jnp.array([[1.0, 2.0, 4.0, 0.9, 0.6]])
    wrong = jnp.array([[False, True, True, True, True]])
    # They should be at most 1.5 - 0.75: too high by 1.25, 3.25 and 0.15, and the last one is low enough.
    assert margin_loss(values, wrong, jnp.array([1.5]), 0.75).tolist() == pytest.approx([1.25 - 0.5 + 3.25 - 0.5 + 0.15**2 / 2])
    assert margin_loss(values, jnp.zeros_like(wrong), jnp.array([1.5]), 0.75).tolist() == [0.0]


def test_demonstrations_are_complete_and_the_network_says_what_comes_after_the_others():
    programs, shape, rng = programs_of(4, 1e-3, 0.5), (3, 5, 4), np.random.default_rng(0)
    params, target = (programs.new_params(seed, shape) for seed in (0, 1))
    seen, later = (rng.normal(size=(count, *shape)).astype(np.float32) for count in (3, 2))
    allowed, chosen = np.ones((3, 20), bool), np.eye(20, dtype=bool)[:3]
    returns, discounts = np.array([-1.0, -2.0, -3.0], np.float32), np.array([0.5, 0.0], np.float32)
    demonstrated = np.array([True, False, False])
    batch = LearningBatch(seen, allowed, chosen, returns, demonstrated, discounts, later, allowed[1:])
    _, losses = programs.update(QLearner(params, target, programs.optimiser.init(params)), batch)
    values, *ahead = (
        programs.values(*of) for of in ((params, seen, allowed), *((p, later, allowed[1:]) for p in (params, target)))
    )
    wanted = np.concatenate([returns[:1], double_targets(returns[1:], discounts, *ahead, allowed[1:])])
    assert wanted[1] != returns[1] and wanted[2] == returns[2]
    assert np.isclose(losses.td, td_loss(values, chosen, wanted).mean(), rtol=1e-4)
    assert np.isclose(losses.margin, margin_loss(values, allowed & ~chosen, wanted, 0.5)[0], rtol=1e-4)


@pytest.mark.parametrize(("turns", "mirror"), symmetries_of((8, 8)))
def test_a_transformed_area_is_seen_as_the_transformed_observation(turns, mirror):
    """The landscape itself is turned, and observed: the wind and the slopes have to come out the same."""
    landscape = rough(3, 8, 8)
    *maps, cell_size_m = landscape
    turned = Landscape(*(transformed(layer, turns, mirror) for layer in maps), cell_size_m)
    climate = WindClimate(6.0, 300.0, 20.0)
    towards = climate.from_deg if not mirror else -climate.from_deg
    seen = fixed_channels(area_of(turned), climate._replace(from_deg=towards - 90.0 * turns))
    expected = transformed_observations(fixed_channels(area_of(landscape), climate)[None], turns, mirror)[0]
    assert np.allclose(seen, expected, atol=1e-5)


def test_symmetries_keep_the_shape():
    assert len(symmetries_of((5, 5))) == 8 and len(symmetries_of((5, 6))) == 4
    maps = np.arange(30).reshape(5, 6)
    assert {transformed(maps, *symmetry).shape for symmetry in symmetries_of((5, 6))} == {(5, 6)}
    assert len({transformed(maps, *symmetry).tobytes() for symmetry in symmetries_of((5, 6))}) == 4


def experiences(count: int, first: int = 0, channels: int = len(CHANNELS)) -> Experiences:
    numbers = np.arange(first, first + count, dtype=np.float32)
    observations = np.zeros((count, channels, 3, 3), np.float32)
    observations[:, 1] = (numbers % 2)[:, None, None]  # two areas
    observations[:, -1] = numbers[:, None, None]
    rng = np.random.default_rng(first)
    return Experiences(
        observations,
        rng.random((count, 9)) < 0.5,
        rng.random((count, 9)) < 0.5,
        numbers,
        numbers / 2,
        observations + 0.5 * (np.arange(channels) >= NUM_FIXED)[None, :, None, None],
        rng.random((count, 9)) < 0.5,
        numbers % 3 == 0,
    )


@pytest.mark.parametrize("num_fixed", [0, NUM_FIXED])
def test_the_memory_keeps_the_newest_and_gives_them_back_whole(num_fixed):
    memory = ReplayMemory(10, (len(CHANNELS), 3, 3), num_fixed)
    given_ = [experiences(count, first) for count, first in ((4, 0), (5, 4), (6, 9))]
    for found in given_:
        memory.add(found)
    everything = Experiences(*(np.concatenate(values) for values in zip(*given_, strict=True)))
    sampled = memory.sample(np.random.default_rng(0), 200)
    numbers = sampled.returns.astype(int)
    assert set(numbers.tolist()) == set(range(5, 15)) and memory.size == 10
    for one, whole in zip(sampled, everything, strict=True):
        assert np.array_equal(one, whole[numbers])


def test_observations_of_somebody_elses_simulator_are_kept_exactly():
    found = experiences(3)
    found.observations[:, 0], found.later[:, 0] = 123_456.7, -1e9
    memory = ReplayMemory(3, (len(CHANNELS), 3, 3), 0)
    memory.add(found)
    sampled = memory.sample(np.random.default_rng(0), 20)
    numbers = sampled.returns.astype(int)
    assert np.array_equal(sampled.observations, found.observations[numbers])
    assert np.array_equal(sampled.later, found.later[numbers])


def test_the_memory_forgets_one_area_and_goes_on_with_the_others():
    memory = ReplayMemory(10, (len(CHANNELS), 3, 3), NUM_FIXED)
    found = experiences(6)
    memory.add(found)
    memory.forget_area(found.observations[1])  # odd numbers are one area, even ones the other
    assert sorted(set(memory.sample(np.random.default_rng(0), 100).returns.tolist())) == [0, 2, 4]
    memory.forget_area(np.full_like(found.observations[0], 9.0))  # never seen
    memory.add(experiences(2, 20))
    assert memory.size == 5
    assert sorted(set(memory.sample(np.random.default_rng(0), 200).returns.tolist())) == [0, 2, 4, 20, 21]


def test_an_agent_never_chooses_what_is_not_allowed_and_names_the_best_first(area):
    env_shape = (len(CHANNELS), 8, 8)
    agent = DQNAgent(env_shape, TAUGHT, cells_per_step=3)
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(6, *env_shape)).astype(np.float32)
    masks = rng.random((6, 64)) < 0.2
    masks[:, :3] = True
    for agent.epsilon, greedy in ((0.0, False), (1.0, False), (1.0, True)):
        cells = agent.act(seen, masks, greedy)
        assert cells.shape == (6, 3) and all(mask[row].all() for mask, row in zip(masks, cells, strict=True))
        assert all(len(set(row)) == 3 for row in cells.tolist())
        if agent.epsilon == 0 or greedy:
            values = agent.values(seen, masks)
            assert np.array_equal(cells, np.argsort(-values, axis=1, kind="stable")[:, :3])
    agent.epsilon = 1.0
    assert not np.array_equal(agent.act(seen, masks), agent.act(seen, masks))


def step_of(cells, reward=0.0, seen=0) -> Step:
    return Step(np.full((1, 2, 2), seen), np.ones(4, bool), np.array(cells), reward)


@given(st.integers(1, 6), st.integers(1, 8), st.floats(0.5, 1.0))
def test_returns_of_several_steps_and_what_follows_add_up_to_the_whole_return(count, n_step, gamma):
    rng = np.random.default_rng(count)
    steps = [step_of([number % 4], rng.normal(), number) for number in range(count)]
    found = experiences_of(steps, n_step, gamma)
    whole = [sum(gamma ** (later - now) * steps[later].reward for later in range(now, count)) for now in range(count)]
    for now in range(count):
        ahead = int(found.later[now, 0, 0, 0])
        assert ahead == min(now + n_step, count - 1)
        follows = found.discounts[now] * whole[ahead] if found.discounts[now] else 0.0
        assert found.returns[now] + follows == pytest.approx(whole[now], abs=1e-5)
        assert np.flatnonzero(found.chosen[now]).tolist() == [now % 4]
    assert (found.discounts > 0).tolist() == [now + n_step < count for now in range(count)]


@given(st.integers(1, 6), st.integers(1, 8), st.floats(0.5, 1.0))
def test_after_an_episode_that_was_cut_off_what_would_have_come_counts(count, n_step, gamma):
    rng = np.random.default_rng(count)
    steps = [step_of([number % 4], rng.normal(), number) for number in range(count)]
    found = experiences_of(steps, n_step, gamma, after=np.full((1, 2, 2), 99.0))
    for now in range(count):
        is_cut = now + n_step >= count
        ahead = count - now if is_cut else n_step
        assert found.returns[now] == pytest.approx(sum(gamma**k * steps[now + k].reward for k in range(ahead)), abs=1e-5)
        assert found.discounts[now] == pytest.approx(gamma**ahead)
        assert found.later[now, 0, 0, 0] == (99.0 if is_cut else now + n_step)
        assert found.later_allowed[now].tolist() == [not is_cut or cell != (count - 1) % 4 for cell in range(4)]


def test_cells_beyond_the_budget_are_not_counted_as_chosen():
    steps = [step_of([0, 3]), step_of([1, 2], -0.5)]
    breaks = np.array([[True, True], [False, True]])
    found = experiences_of(steps, 1, 1.0, breaks)
    assert found.chosen.tolist() == [[True, False, False, True], [False, True, False, False]]


@pytest.mark.parametrize("reward", ["end", "difference"])
def test_demonstrations_are_orders_of_the_set_whose_returns_are_what_its_fires_burn(area, problem, reward):
    breaks = swap_search(problem)
    rules = RULES._replace(reward=reward)
    found = as_experiences(area, problem, breaks, rules, 1.0, np.random.default_rng(0))
    budget = budget_of(area.landscape, rules)
    assert breaks.sum() == budget and ORDERS * (budget - 1) <= len(found.returns) <= ORDERS * budget
    placed = found.observations[:, CHANNELS.index("breaks")] > 0
    right = found.chosen.reshape(-1, *breaks.shape)
    assert found.demonstrated.all() and not found.discounts.any()
    assert not (right & ~breaks).any() and not (right & placed).any() and right.any(axis=(1, 2)).all()
    shares = burned_shares(problem, np.stack([breaks, np.zeros_like(breaks)]))
    whole = [row for row in range(len(placed)) if not placed[row].any()]
    wanted = -shares[0] if reward == "end" else shares[1] - shares[0]
    assert whole and np.allclose(found.returns[whole], wanted, atol=1e-6)


@pytest.mark.parametrize("reward", ["end", "difference"])
def test_in_the_agents_own_states_the_cells_that_it_still_lacks_are_right(area, problem, reward):
    agent, rules = DQNAgent((len(CHANNELS), 8, 8), TAUGHT), RULES._replace(reward=reward)
    (path,) = greedy_paths(agent, [area], rules)
    assert np.array_equal(path[-1], greedy_breaks(agent, [area], rules)[0])
    assert not path[0].any() and (np.diff(path.sum(axis=(1, 2))) == 1).all() and path[-1].sum() == problem.budget
    breaks = swap_search(problem)
    found = in_own_states(area, problem, path, breaks, rules, 1.0, np.random.default_rng(0))
    assert np.array_equal(found.observations[:, CHANNELS.index("breaks")] > 0, path[:-1])
    assert np.array_equal(found.chosen.reshape(-1, *breaks.shape), breaks & ~path[:-1])
    assert found.demonstrated.all() and not found.discounts.any()
    began, whole = burned_shares(problem, np.stack([path[0], breaks]))
    assert found.returns[0] == pytest.approx(-whole if reward == "end" else began - whole, abs=1e-6)
    last = np.repeat(path[-2][None], (breaks & ~path[-2]).sum(), axis=0)  # one cell is left: any that it lacks
    last.reshape(len(last), -1)[np.arange(len(last)), np.flatnonzero(breaks & ~path[-2])] = True
    ends = -burned_shares(problem, last) + (0.0 if reward == "end" else burned_shares(problem, path[-2:-1])[0])
    assert np.isclose(ends, found.returns[-1], atol=1e-6).any()


def test_moving_cells_saves_more_and_keeps_the_budget(problem):
    for seed in range(3):
        start = np.zeros(problem.landscape.shape, bool)
        free = np.flatnonzero(problem.landscape.burnable)
        start.flat[np.random.default_rng(seed).choice(free, problem.budget, replace=False)] = True
        breaks, share = improved(problem, start)
        before = burned_shares(problem, start[None])[0]
        assert share == pytest.approx(burned_shares(problem, breaks[None])[0]) and share < before
        assert breaks.sum() == problem.budget and not (breaks & ~problem.landscape.burnable).any()


def test_of_a_long_path_some_states_are_taught(area, problem, monkeypatch):
    monkeypatch.setattr(demonstrations, "OWN_STATES", 2)
    path = greedy_paths(DQNAgent((len(CHANNELS), 8, 8), TAUGHT), [area], RULES)[0]
    found = in_own_states(area, problem, path, swap_search(problem), RULES, 1.0, np.random.default_rng(0))
    states = found.observations[:, CHANNELS.index("breaks")] > 0
    assert len(states) == 2 < len(path) - 1 and all((state == path).all((1, 2)).any() for state in states)
    assert demonstrations.most_experiences([problem] * 3) == 3 * (ORDERS * problem.budget + OWN_PATHS * 2)


def test_with_many_fires_the_best_known_breaks_are_those_for_all_of_them(area, monkeypatch):
    monkeypatch.setattr(swap_search_module, "FEW_FIRES", 32)
    monkeypatch.setattr(swap_search_module, "PLACE_FIRES", 64)
    problem = problem_and_judges(area.landscape, 0, SMALL._replace(planning_fires=200))[0]
    begun = swap_search(problem._replace(passages=split(problem.passages, 32)[0]))
    known = best_known(problem)
    assert known.burned_share == pytest.approx(burned_shares(problem, known.breaks[None])[0])
    assert known.burned_share < burned_shares(problem, begun[None])[0] and known.breaks.sum() == problem.budget


@given(st.integers(0, 30), st.integers(0, 40), st.integers(0, 2**31 - 1))
def test_cells_that_are_moved_at_random_stay_in_what_burns(num_breaks, num_moved, seed):
    rng = np.random.default_rng(seed)
    burnable = rng.random((6, 6)) < 0.8
    breaks = np.zeros((6, 6), bool)
    breaks.flat[rng.permutation(np.flatnonzero(burnable))[:num_breaks]] = True
    moved = moved_at_random(breaks, burnable, num_moved, rng)
    assert moved.sum() == breaks.sum() and not (moved & ~burnable).any()
    free = (burnable & ~breaks).sum()
    assert (moved & ~breaks).sum() == min(num_moved, breaks.sum(), free)


def test_a_search_ends_when_no_part_of_the_fires_finds_a_better_place(problem, monkeypatch):
    monkeypatch.setattr(swap_search_module, "PLACE_FIRES", 32)
    parts, asked = [part.starts.tolist() for part in split(problem.passages, 32)], []

    def only_the_second_part_finds_one_move(_, few, breaks, share):
        asked.append(parts.index(few.starts.tolist()))
        return (breaks, share / 2) if asked == [0, 1] else None

    monkeypatch.setattr(swap_search_module, "_one_move", only_the_second_part_finds_one_move)
    start = swap_search_module.row_across_the_wind(problem)
    breaks, share = improved(problem, start)
    assert len(parts) == 2 and asked == [0, 1, 0, 1]
    assert (breaks == start).all() and share == pytest.approx(burned_shares(problem, start[None])[0] / 2)


def test_an_agent_taught_one_area_places_its_demonstration(area, problem):
    """A probe: on one area, demonstrations alone have to be enough."""
    agent = DQNAgent((len(CHANNELS), 8, 8), TAUGHT)
    breaks = swap_search(problem)
    agent.remember(as_experiences(area, problem, breaks, RULES, 1.0, np.random.default_rng(0)))
    assert agent.memory.size == 0 and agent.can_learn
    before = burned_shares(problem, greedy_breaks(agent, [area], RULES))[0]
    for _ in range(100):
        losses = agent.replay()
    placed = greedy_breaks(agent, [area], RULES)
    assert np.array_equal(placed[0], breaks) and float(losses.margin) < 0.5
    assert burned_shares(problem, placed)[0] < before
    assert np.array_equal(as_heuristic(agent, RULES, [area])(problem), breaks)


def test_two_agents_with_one_seed_learn_the_same(area, problem):
    found = []
    for _ in range(2):
        agent = DQNAgent((len(CHANNELS), 8, 8), TAUGHT._replace(symmetric=True), seed=3)
        agent.remember(as_experiences(area, problem, swap_search(problem), RULES, 1.0, np.random.default_rng(0)))
        for _ in range(3):
            agent.replay()
        found.append(jax.tree.leaves(agent.learner.params))
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))


def test_a_landscape_of_another_size_can_be_planned_by_the_same_agent(area):
    agent = DQNAgent((len(CHANNELS), 8, 8), TAUGHT)
    larger = area_of(plain(11, 9))
    breaks = greedy_breaks(agent, [larger], RULES)
    assert breaks.shape == (1, 11, 9) and breaks.sum() == budget_of(larger.landscape, RULES)


def test_targets_come_from_an_older_network_until_it_is_updated(area, problem):
    agent = DQNAgent((len(CHANNELS), 8, 8), TAUGHT)
    agent.remember(as_experiences(area, problem, swap_search(problem), RULES, 1.0, np.random.default_rng(0)))
    before = agent.learner.params
    agent.replay()
    assert jax.tree.all(jax.tree.map(np.array_equal, agent.learner.target, before))
    assert not jax.tree.all(jax.tree.map(np.array_equal, agent.learner.params, before))
    agent.update_target()
    assert jax.tree.all(jax.tree.map(np.array_equal, agent.learner.target, agent.learner.params))


def test_an_agent_without_experiences_does_not_learn():
    assert DQNAgent((len(CHANNELS), 8, 8), TAUGHT).replay() is None
    with pytest.raises(BadInput, match="buffer_size must be at least 1"):
        DQNAgent((len(CHANNELS), 8, 8), AgentSettings(width=4, buffer_size=0))
