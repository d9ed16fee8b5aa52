"""How a step is assembled: which expert acts, what is recorded, and where the next world comes from."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs import tasks
from flowrl.envs.observations import Layout, dense
from flowrl.skills.module import TaskFunctions
from flowrl.training.compiled.stored_programs import ProgramStore
from flowrl.training.learning import experts
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing.acting import acting_block_size, make_act
from flowrl.training.playing.environments import begin, begin_test, play_step, random_policy, refresh_worlds
from flowrl.training.playing.rollout import collect, learned_policy, values
from flowrl.training.playing.world import WORLDS_AT_ONCE
from tests.training.probes import Probe, done_after, paid, programs_of, stage_of

NUM_ENVS, BUDGET = 16, 3


class NumberedSteps(Probe):
    """The agent sees a number that is the world's own, and grows by 1 with each step; a step pays what is seen."""

    num_actions = 3

    def first_sight(self, key):
        return 1000.0 * jax.random.randint(key, (), 1, 1000)

    def next_sight(self, key, world):
        return world.sight + 1

    def pay(self, world, action):
        return world.sight


NETWORK = ExpertNetwork(Layout(0, 0, 1), 3, layer_size=4)
FOREVER = TaskFunctions(lambda: False, (), paid, ("inventory_diff",))


@pytest.fixture(scope="module")
def programs():
    return programs_of(NumberedSteps(), NETWORK, NUM_ENVS, 2, Hyperparameters())


@pytest.fixture(scope="module")
def stage(programs):
    # Task 0 takes two steps; task 1 never ends, so that its budget runs out after three more.
    return stage_of(programs, [done_after(2), FOREVER], tasks.plan_arrays([1, 0], [1, 1], BUDGET))


@pytest.fixture(scope="module")
def params():
    init = jax.jit(NETWORK.init)
    fresh = [init(jax.random.key(k)) for k in range(2)]
    # Larger heads: the experts' choices differ clearly.
    return experts.stack(jax.tree.map(lambda leaf: 30 * leaf, fresh))


def test_programs_of_another_precision_are_stored_apart(monkeypatch):
    def made(mixed_precision):
        found = {}

        def program(self, name, function, made_from=None, donate_argnums=(), group=""):
            found[name] = repr(made_from)

        monkeypatch.setattr(ProgramStore, "program", program)
        network = ExpertNetwork(Layout(400, 2, 1), 3, 4, mixed_precision)
        programs_of(NumberedSteps(), network, NUM_ENVS, 1, Hyperparameters())
        return found

    plain, mixed = made(False), made(True)
    differing = {name for name in plain if plain[name] != mixed[name]}
    assert differing == {"act", "values", *(name for name in plain if name.startswith("update"))}
    assert len(differing) > 3


@pytest.mark.parametrize(("seed", "number"), [(0, 0), (7, 3), (2**31 + 5, 1), (2**40 + 11, 2)])
def test_the_keys_of_a_run_are_jaxs_own(programs, seed, number):
    def bits(keys):
        return [jax.random.key_data(key).tolist() for key in keys]

    root = jax.random.fold_in(jax.random.key(seed), number)
    keys = programs.keys.of_run(seed, number)
    assert bits(keys) == bits(jax.random.split(root, len(keys)))
    assert bits(programs.keys.of_update(root, 3)) == bits(jax.random.split(jax.random.fold_in(root, 3), 3))
    assert bits([programs.keys.fold_in(root, 5)]) == bits([jax.random.fold_in(root, 5)])


@pytest.mark.parametrize("num_worlds", [4, NUM_ENVS, 40])
def test_every_environment_starts_in_its_own_world_and_continues_in_the_banks(stage, num_worlds):
    """A bank may have fewer worlds than there are environments: the first ones of those in which these start."""

    def names(scene):
        return np.asarray(scene.observation.scalars)[:, 0].tolist()

    playing = begin(stage, jax.random.key(0), num_worlds)
    bank, first = names(playing.bank.worlds), names(playing.scene)
    assert len(set(first)) == NUM_ENVS and len(bank) >= num_worlds
    assert bank[:NUM_ENVS] == first[: len(bank)]
    assert playing.bank.next_world == (NUM_ENVS if num_worlds >= NUM_ENVS else 0)
    # What a step uses up are the environments' own states, not the bank's.
    decision = random_policy(stage)(playing, jax.random.key(1), 0)
    after, *_ = play_step(stage, playing, decision, jax.random.key(2), 0)
    assert names(after.bank.worlds) == bank
    jax.block_until_ready(jax.tree.map(jnp.copy, after.bank.worlds.state))


def test_the_acting_experts_choose_and_value(stage, params):
    sight = jnp.linspace(-1, 1, NUM_ENVS)[:, None]
    expert = jnp.arange(NUM_ENVS) % 2
    playing = begin(stage, jax.random.key(0), 40)
    playing = playing._replace(scene=playing.scene._replace(observation=dense(sight)), expert=expert)
    decide = learned_policy(stage, params)
    decisions = [decide(playing, jax.random.key(0), step) for step in range(400)]
    actions = np.stack([decision.action for decision in decisions])
    for env in range(NUM_ENVS):
        own = experts.select(params, expert[env])
        probabilities = jax.nn.softmax(NETWORK.logits(own, dense(sight[env : env + 1])))[0]
        np.testing.assert_allclose(np.bincount(actions[:, env], minlength=3) / 400, probabilities, atol=0.13)
        for decision in decisions[:3]:
            np.testing.assert_allclose(np.exp(decision.log_prob[env]), probabilities[decision.action[env]], rtol=1e-4)
            np.testing.assert_allclose(decision.value[env], NETWORK.value(own, dense(sight[env : env + 1]))[0], rtol=1e-4)


def test_a_gpu_acts_in_larger_blocks_and_chooses_the_same(stage, params, monkeypatch):
    playing, key = begin(stage, jax.random.key(0), 40), jax.random.key(3)
    asked = params, playing.scene.observation, playing.typical, jnp.arange(NUM_ENVS) % 2, key, 0
    expected = stage.acting.act(*asked)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert acting_block_size() == 1024
    found = jax.jit(make_act(NETWORK, 2))(*asked)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), found, expected)


def test_the_random_policy_takes_every_action_equally_often(stage):
    decide = random_policy(stage)
    actions = np.concatenate([decide(None, jax.random.key(0), step).action for step in range(300)])
    np.testing.assert_allclose(np.bincount(actions, minlength=3) / len(actions), 1 / 3, atol=0.03)
    assert np.exp(decide(None, jax.random.key(0), 0).log_prob[0]) == pytest.approx(1 / 3)


def test_episodes_begin_in_different_worlds_with_the_first_tasks_expert(stage):
    playing = begin(stage, jax.random.key(0), 40)
    assert playing.bank.size >= 40
    np.testing.assert_array_equal(playing.scene.observation.scalars, playing.bank.worlds.observation.scalars[:NUM_ENVS])
    assert len(np.unique(playing.scene.observation.scalars)) > NUM_ENVS - 3
    assert playing.bank.next_world == NUM_ENVS
    assert playing.expert.tolist() == [1] * NUM_ENVS
    assert playing.progress.task.tolist() == playing.progress.steps.tolist() == [0] * NUM_ENVS


def test_a_test_with_an_environment_for_each_episode_keeps_few_worlds_for_later(stage):
    playing = begin_test(stage, jax.random.key(0), NUM_ENVS)
    full = begin(stage, jax.random.key(0), NUM_ENVS)
    assert playing.bank.size == WORLDS_AT_ONCE and playing.bank.next_world == 0
    jax.tree.map(np.testing.assert_array_equal, playing._replace(bank=None), full._replace(bank=None))
    assert begin_test(stage, jax.random.key(0), NUM_ENVS + 1).bank.size > NUM_ENVS


def test_a_rollout_records_outcomes_and_acting_experts(stage, params):
    start = begin(stage, jax.random.key(0), 40)
    playing, rollout, outcomes = collect(stage, params, start, jax.random.key(1), 7)
    sight = np.stack([step.observation.scalars[:, 0] for step in rollout])
    first = np.array(start.bank.worlds.observation.scalars[:, 0])
    # Two steps of task 0, three of task 1 until its budget is used up, and the first two in the next worlds.
    expected = [first[:NUM_ENVS] + step for step in range(5)] + [first[NUM_ENVS : 2 * NUM_ENVS] + step for step in range(2)]
    np.testing.assert_array_equal(sight, expected)
    np.testing.assert_array_equal([step.reward for step in rollout], expected)
    assert [step.expert[0].item() for step in rollout] == [1, 1, 0, 0, 0, 1, 1]
    assert [step.continues[0].item() for step in rollout] == [True, False, True, True, False, True, False]
    assert [outcome.task[0] for outcome in outcomes] == [0, 0, 1, 1, 1, 0, 0]
    assert [outcome.next_task[0] for outcome in outcomes] == [0, 1, 1, 1, 0, 0, 1]
    assert [outcome.ended.all() for outcome in outcomes] == [False] * 4 + [True] + [False] * 2
    assert playing.bank.next_world == 2 * NUM_ENVS
    check_truncation_values(rollout, params, sight[4] + 1)


def check_truncation_values(rollout, params, led_to):
    """Where the budget ran out, this is the acting expert's value of the last state; elsewhere it is 0."""
    values = NETWORK.value(experts.select(params, 0), dense(led_to[:, None]))
    np.testing.assert_allclose(rollout[4].truncation_value, values, rtol=1e-4)
    for step in (0, 1, 2, 3, 5, 6):
        assert not np.any(rollout[step].truncation_value)


def test_values_are_those_of_the_experts_that_act_next(stage, params):
    playing, _, _ = collect(stage, params, begin(stage, jax.random.key(0), 40), jax.random.key(1), 3)
    own = experts.select(params, 0)
    np.testing.assert_allclose(values(stage, params, playing), NETWORK.value(own, playing.scene.observation), rtol=1e-4)


@pytest.mark.parametrize("count", [0, 1, WORLDS_AT_ONCE, WORLDS_AT_ONCE + 1])
def test_refreshing_replaces_as_many_of_the_oldest_worlds(stage, count):
    playing = begin(stage, jax.random.key(0), 4 * WORLDS_AT_ONCE)
    playing = playing._replace(bank=playing.bank._replace(next_world=jnp.int32(40), oldest=jnp.int32(8)))
    old = np.array(playing.bank.worlds.observation.scalars[:, 0])
    after = refresh_worlds(stage, playing, jax.random.key(9), count)
    new = np.asarray(after.bank.worlds.observation.scalars[:, 0])
    replaced = -(-count // WORLDS_AT_ONCE) * WORLDS_AT_ONCE
    assert np.flatnonzero(old != new).tolist() == list(range(8, 8 + replaced))
    assert len(np.unique(new)) > len(new) - 3
    assert after.bank.next_world == 40
