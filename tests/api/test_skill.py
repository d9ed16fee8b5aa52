"""A skill as an environment: the judge of its training, gymnax's signature, and its experts."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowrl
from flowrl.envs import tasks
from flowrl.errors import BadInput
from flowrl.skills.module import compile_module
from tests.api.experiments import camp_skill
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


def test_a_batch_is_made_by_vmap():
    env = camp_skill("Build")

    def step(states, key):
        keys = jax.random.split(key, 3)
        actions = jax.vmap(env.policy.act)(keys, states)
        _, states, reward, done, info = jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys, states, actions, env.default_params)
        return states, (actions, reward, done, info["task"])

    @jax.jit
    def rolled(key):
        _, states = jax.vmap(env.reset)(jax.random.split(key, 3))
        states = states._replace(progress=states.progress._replace(task=jnp.array([0, 1, 0], jnp.int32)))
        return jax.lax.scan(step, states, jax.random.split(key, 6))[1]

    actions, reward, done, task = jax.device_get(rolled(jax.random.key(0)))
    # The second environment builds without any wood, until the steps for that are used up.
    assert actions[:, 0].tolist() == [CHOP, CHOP, BUILD] * 2 and actions[:, 1].tolist() == [BUILD] * 3 + [CHOP, CHOP, BUILD]
    assert done[:, 0].tolist() == [False, False, True] * 2 and done[:, 1].tolist() == done[:, 0].tolist()
    assert reward[:, 1].tolist() == [0, 0, 0, 1, 1, 1] and task[:, 1].tolist() == [1, 1, 1, 0, 0, 1]
    assert all(np.array_equal(each[:, 0], each[:, 2]) for each in (actions, reward, done, task))


# Craftax-Classic.


@pytest.fixture(scope="module")
def wood(using):
    """Of the lines in the documentation, which run as they are."""
    shown = using("state, 5")
    assert shown["observation"].shape == (1345,) and shown["reward"].shape == shown["done"].shape == ()
    return shown["env"]


class Step(NamedTuple):
    before: Any
    action: jax.Array
    observation: jax.Array
    reward: jax.Array
    done: jax.Array
    info: dict
    after: Any


@pytest.fixture(scope="module")
def roll(wood):
    """Steps by its expert, of which the 16th is the last that its task has: a function of a seed."""

    def rolled(seed):
        _, state = wood.reset(jax.random.key(seed))
        used = jnp.int32(wood.default_params.budget[0] - 16)
        state, steps = state._replace(progress=state.progress._replace(steps=used)), []
        for key in jax.random.split(jax.random.key(seed), 20):
            before, action = state, wood.policy.act(key, state)
            observation, state, *rest = wood.step(key, state, action)
            steps.append(Step(before, action, observation, *rest, after=state))
        return steps

    return rolled


@pytest.fixture(scope="module")
def trajectory(roll):
    return roll(5)


def test_the_signature_is_gymnaxs(wood, trajectory):
    assert wood.num_actions == wood.action_space().n == 17
    assert wood.observation_space(wood.default_params).shape == (1345,)
    for step in trajectory:
        assert (step.observation.shape, step.observation.dtype) == ((1345,), jnp.float32)
        assert (step.reward.shape, step.reward.dtype, step.done.shape, step.done.dtype) == ((), jnp.float32, (), bool)
        assert wood.observation_space().contains(step.observation) and wood.action_space().contains(step.action)


def test_each_step_is_judged_as_in_training(wood, trajectory):
    functions = compile_module(wood.skill.module_text, wood.adapter.scope, wood.adapter.facts.feature_names)
    plan = tasks.plan_arrays([0], [wood.skill.plan[0].n], wood.skill.max_task_steps)
    judge, step_game, look = map(jax.jit, (tasks.make_judge(functions), wood.adapter.step, wood.adapter.features))
    one = partial(jax.tree.map, lambda leaf: jnp.asarray(leaf)[None])
    progress = one(trajectory[0].before.progress)
    for key, step in zip(jax.random.split(jax.random.key(5), 20), trajectory):
        _, game, over = step_game(jax.random.split(key)[0], step.before.game, step.action)
        verdict, moved = judge(one(look(step.before.game)), one(look(game)), one(over), progress, plan)
        found = (step.reward, step.info["task_done"], step.info["truncated"], step.info["success"], step.done)
        judged = (verdict.reward, verdict.task_done, verdict.truncated, verdict.success, verdict.ended)
        assert [*map(float, found)] == [float(each[0]) for each in judged]
        assert bool(step.info["terminated"]) == bool((verdict.success | verdict.died)[0])
        progress = tasks.restart(moved, verdict.ended)
        assert jax.tree.all(jax.tree.map(lambda mine, own: mine[0] == own, progress, step.after.progress))
    assert any(step.info["truncated"] for step in trajectory)


def test_a_key_decides_everything(roll, trajectory):
    once, again, otherwise = (
        [(int(step.action), step.observation.tolist()) for step in steps] for steps in (trajectory, roll(5), roll(6))
    )
    assert once == again != otherwise


@pytest.mark.parametrize(
    ("name", "message"),
    [("Colect_Wood", "unknown skill 'Colect_Wood'; did you mean Collect_Wood?"), ("Fly", "choose one of Collect_Wood")],
)
def test_an_unknown_skill_is_refused(name, message, kept):
    with pytest.raises(BadInput, match=message):
        flowrl.skill_env(kept.root, name)


def test_a_folder_without_an_experiment_is_refused(tmp_path):
    with pytest.raises(BadInput, match="holds no experiment"):
        flowrl.skill_env(tmp_path, "Collect_Wood")
