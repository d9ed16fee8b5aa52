"""A skill as an environment: the judge of its training, gymnax's signature, and its experts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowrl
from flowrl.envs import tasks
from flowrl.errors import BadInput
from flowrl.skills.module import compile_module
from tests.api.experiments import camp_skill, kept_experiment
from tests.evaluation.camp import MAX_TASK_STEPS

CHOP, DRINK, BUILD, WAIT = range(4)


def episode(env, actions, params=None):
    """What happens with these actions: reward, done and info, each over time."""
    key = jax.random.key(0)
    _, state = env.reset(key, params)

    def step(state, chosen):
        number, action = chosen
        _, state, reward, done, info = env.step(jax.random.fold_in(key, number), state, action, params)
        return state, (reward, done, info)

    numbered = jnp.arange(len(actions)), jnp.asarray(actions, jnp.int32)
    return jax.device_get(jax.jit(lambda state: jax.lax.scan(step, state, numbered))(state)[1])


def test_the_plan_is_walked_through_and_its_last_task_is_a_success():
    env = camp_skill("Build")
    assert env.task_names == ("Chop", "Build") and env.name == "Build"
    reward, done, info = episode(env, [WAIT, CHOP, CHOP, WAIT, BUILD, CHOP])
    assert info["task"].tolist() == [0, 0, 0, 1, 1, 0]
    assert reward.tolist() == [0, 1, 1, 0, 1, 1]
    assert info["task_done"].tolist() == [False, False, True, False, True, False]
    assert done.tolist() == info["success"].tolist() == info["terminated"].tolist() == [False] * 4 + [True, False]
    assert not info["truncated"].any()


def test_a_task_whose_steps_are_used_up_truncates_the_episode():
    _, done, info = episode(camp_skill("Build"), [WAIT] * (2 * MAX_TASK_STEPS))
    assert np.flatnonzero(done).tolist() == np.flatnonzero(info["truncated"]).tolist() == [2 * MAX_TASK_STEPS - 1]
    assert not info["terminated"].any() and not info["success"].any()


def test_death_terminates_the_episode():
    _, done, info = episode(camp_skill("Build", limit=20), [WAIT] * 9)
    assert np.flatnonzero(done).tolist() == np.flatnonzero(info["terminated"]).tolist() == [8]
    assert not info["success"].any() and not info["truncated"].any()


def test_the_next_episode_begins_by_itself_and_the_last_observation_is_kept():
    env = camp_skill("Drink")
    _, state = env.reset(jax.random.key(0))
    observation, state, _, done, info = env.step(jax.random.key(1), state, DRINK)
    assert bool(done) and observation.tolist() == [0, 9] and int(state.progress.steps) == 0
    observation, _, _, done, info = env.step(jax.random.key(1), state, CHOP)
    assert not done and info["final_observation"].tolist() == observation.tolist() == [1, 8]


def test_params_are_the_plan():
    env = camp_skill("Build")
    params = env.default_params._replace(budget=env.default_params.budget * 0 + 2)
    _, done, _ = episode(env, [WAIT] * 5, params=params)
    assert np.flatnonzero(done).tolist() == [1, 3]


def test_the_experts_of_the_plan_succeed():
    env = camp_skill("Build")
    _, state = env.reset(jax.random.key(0))
    actions = []
    for number in range(3):
        actions.append(int(env.policy.act(jax.random.key(number), state)))
        _, state, _, done, info = env.step(jax.random.key(number), state, actions[-1])
    assert actions == [CHOP, CHOP, BUILD] and done and info["success"]


# Craftax-Classic.


@pytest.fixture(scope="module")
def wood(tmp_path_factory):
    return flowrl.skill_env(kept_experiment(tmp_path_factory.mktemp("kept") / "exp").root, "Collect_Wood")


@pytest.fixture(scope="module")
def roll(wood):
    """Plays three environments by its expert, under jit, vmap and scan: a function of a key, of ``[T, B, ...]``."""

    def step(states, key):
        act_keys, step_keys = (jax.random.split(each, 3) for each in jax.random.split(key))
        actions = jax.vmap(wood.policy.act)(act_keys, states)
        observation, after, reward, done, info = jax.vmap(wood.step)(step_keys, states, actions)
        return after, (states, actions, observation, reward, done, info)

    @jax.jit
    def rolled(key):
        _, states = jax.vmap(wood.reset)(jax.random.split(key, 3))
        late = states._replace(progress=states.progress._replace(steps=jnp.array([0, 190, 195], jnp.int32)))
        return jax.lax.scan(step, late, jax.random.split(key, 24))[1]

    return lambda seed: jax.device_get(rolled(jax.random.key(seed)))


@pytest.fixture(scope="module")
def trajectory(roll):
    return roll(5)


def test_the_signature_is_gymnaxs(wood, trajectory):
    _, actions, observation, reward, done, info = trajectory
    assert wood.num_actions == wood.action_space().n == 17
    assert wood.observation_space(wood.default_params).shape == (1345,)
    assert (observation.shape, observation.dtype) == ((24, 3, 1345), jnp.float32)
    assert (reward.shape, reward.dtype, done.dtype, actions.dtype) == ((24, 3), jnp.float32, bool, jnp.int32)
    assert bool(wood.observation_space().contains(observation)) and bool(wood.action_space().contains(actions).all())
    assert {leaf.shape[:2] for leaf in jax.tree.leaves(info)} == {(24, 3)}


def test_each_step_is_judged_as_in_training(wood, trajectory):
    states, actions, _, reward, done, info = trajectory
    functions = compile_module(wood.skill.module_text, wood.adapter.scope, wood.adapter.facts.feature_names)
    plan = tasks.plan_arrays([0], [wood.skill.plan[0].n], wood.skill.max_task_steps)
    judge = jax.jit(tasks.make_judge(functions))
    progress = jax.tree.map(lambda leaf: leaf[0], states.progress)
    for number in range(23):
        before = jax.tree.map(lambda leaf: leaf[number], states.features)
        after = jax.tree.map(lambda leaf: leaf[number + 1], states.features)
        over = info["terminated"][number] & ~info["success"][number]
        verdict, moved = judge(before, after, over, progress, plan)
        ended = done[number]
        # Where an episode ended, what follows is a new world; there, only the ends by steps can be judged again.
        assert (verdict.truncated == info["truncated"][number])[ended | ~verdict.ended].all()
        assert (verdict.reward == reward[number])[~ended].all() and not verdict.success[~ended].any()
        progress = tasks.restart(moved, ended)
        assert jax.tree.all(jax.tree.map(lambda one, row: (one == row[number + 1]).all(), progress, states.progress))
    assert info["truncated"].any()


def test_a_key_decides_everything(roll, trajectory):
    same, other = roll(5), roll(6)
    assert jax.tree.all(jax.tree.map(np.array_equal, trajectory, same))
    assert not np.array_equal(trajectory[2], other[2])


@pytest.mark.parametrize(
    ("name", "message"),
    [("Colect_Wood", "unknown skill 'Colect_Wood'; did you mean Collect_Wood?"), ("Fly", "choose one of Collect_Wood")],
)
def test_an_unknown_skill_is_refused(name, message, tmp_path):
    with pytest.raises(BadInput, match=message):
        flowrl.skill_env(kept_experiment(tmp_path / "exp").root, name)


def test_a_folder_without_an_experiment_is_refused(tmp_path):
    with pytest.raises(BadInput, match="holds no experiment"):
        flowrl.skill_env(tmp_path, "Collect_Wood")
