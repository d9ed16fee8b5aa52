"""A library as an agent: it does what whole episodes of an evaluation do, alone, in batches, and in the README."""

from __future__ import annotations

import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowrl
from flowrl.errors import BadInput
from flowrl.files import write_json
from flowrl.paths import ExperimentPaths
from tests.api.experiments import camp_agent

CHOP, DRINK, BUILD = range(3)


@pytest.fixture(scope="module")
def camp():
    return camp_agent()


def with_settings(agent, **settings):
    """The same agent by other settings of the planner, for the same compiled programs."""
    return agent.replace(planned=agent.planned._replace(settings=agent.planned.settings._replace(**settings)))


@jax.jit
def played(agent, key):
    """Twenty steps of one environment: the actions, rewards, skills, ends, goals and failures, each over time."""

    def step(carried, key):
        state, memory, done = carried
        action, memory = agent.act(key, state, memory, done)
        _, state, reward, done, info = agent.env.step(key, state, action)
        return (state, memory, done), (action, reward, memory.skill, done, info["goals"], memory.course.past.failures)

    _, state = agent.env.reset(key)
    return jax.lax.scan(step, (state, agent.begin(state), False), jax.random.split(key, 20))[1]


def test_an_agent_plays_as_whole_episodes_do(camp):
    actions, rewards, skills, done, goals, _ = played(camp, jax.random.key(0))
    # Chop twice (the hut takes two), build on the spot, drink; then the best skill passes the time.
    assert actions[:7].tolist() == [CHOP, CHOP, BUILD, DRINK, CHOP, CHOP, CHOP] == skills[:7].tolist()
    assert rewards[:7].tolist() == [1, 0, 1, 1, 0, 0, 0] and goals[3:7].all() and not done[:7].any()


def test_a_new_episode_begins_with_a_new_plan(camp):
    # Nine units of water, filled in the fourth step: thirst ends the first episode after step 13.
    actions, _, _, done, _, _ = played(with_settings(camp, low=0.0), jax.random.key(0))
    assert np.flatnonzero(done).tolist() == [12]
    assert actions[13:17].tolist() == actions[:4].tolist() == [CHOP, CHOP, BUILD, DRINK]


def test_what_has_failed_is_remembered_within_an_episode_and_forgotten_after_it(camp):
    idle = camp_agent(Build="WAIT").experts.params
    agent = with_settings(camp.replace(experts=camp.experts.replace(params=idle)), low=0.0)
    _, _, _, done, _, failures = played(agent, jax.random.key(0))
    end = int(np.flatnonzero(done)[0])
    assert failures[end, BUILD] > 0 and failures[end + 1].tolist() == [0, 0, 0]


def test_a_batch_does_what_each_environment_does_alone(camp):
    agent = camp
    keys = jax.random.split(jax.random.key(3), 5)
    _, states = jax.vmap(agent.env.reset)(keys)
    states = states._replace(water=jnp.array([9, 2, 9, 5, 1], jnp.int32))
    memories, courses = jax.vmap(agent.begin)(states), []
    for number in range(6):
        done = jnp.array([False, False, number == 3, False, False])
        alone = [
            agent.act(keys[row], *jax.tree.map(lambda leaf: leaf[row], (states, memories, done))) for row in range(len(keys))
        ]
        actions, memories = jax.vmap(agent.act)(keys, states, memories, done)
        expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
        assert jax.tree.all(jax.tree.map(lambda one, other: (one == other).all(), expected, (actions, memories)))
        _, states, *_ = jax.vmap(agent.env.step)(keys, states, actions)
        courses.append(tuple(actions.tolist()))
    assert len({*zip(*courses)}) == 3  # they do not all do the same


def test_the_first_action_of_an_episode_follows_no_step(camp):
    key = jax.random.key(0)
    _, state = camp.env.reset(key)
    action, first = camp.act(key, state, camp.begin(state))
    _, state, *_ = camp.env.step(key, state, action)
    _, second = camp.act(key, state, first)
    assert (int(first.course.steps), int(second.course.steps)) == (0, 1)
    _, fresh = camp.act(key, state, second, True)
    assert int(fresh.course.steps) == int(fresh.course.length) == 0


def test_agents_may_be_mapped_over_and_batches_nested(camp):
    agents = jax.tree.map(lambda *leaves: jnp.stack(leaves), camp, camp)
    _, state = camp.env.reset(jax.random.key(0))
    memory = camp.begin(state)
    by_agent = jax.vmap(lambda agent: agent.act(jax.random.key(0), state, memory)[0])(agents)
    assert by_agent.tolist() == [CHOP, CHOP]
    keys = jax.random.split(jax.random.key(0), (2, 3))
    nested = jax.vmap(jax.vmap(lambda key: camp.act(key, state, memory)[0]))(keys)
    assert nested.tolist() == [[CHOP] * 3] * 2


def test_an_agent_explains_its_task(camp):
    _, state = camp.env.reset(jax.random.key(0))
    assert camp.explain(camp.begin(state)).startswith("Chop x2 for Chop: ")
    assert camp.skill_names == ("Chop", "Drink", "Build")


# With an experiment's folder.


@pytest.fixture(scope="module")
def readme(run_lines):
    """What the lines of the README leave behind."""
    return run_lines("README.md", "load_agent")


def test_the_lines_of_the_readme_run_as_they_are(readme):
    assert readme["observation"].shape == (1345,) and 0 <= int(readme["action"]) < 17
    assert not readme["memory"].is_new and not readme["done"] and readme["info"]["goals"].shape == (22,)


def test_the_lines_on_batches_run_as_they_are(using):
    shown = using("load_agent")
    assert shown["rewards"].shape == (20, 8) and shown["goals"].shape == (20, 8, 22)


def test_a_loaded_agent_does_the_same_for_the_same_key(readme):
    def play(seed):
        agent = readme["agent"]
        _, state = agent.env.reset(jax.random.key(seed))
        memory, seen = agent.begin(state), []
        for key in jax.random.split(jax.random.key(seed), 8):
            action, memory = agent.act(key, state, memory)
            observation, state, *_ = agent.env.step(key, state, action)
            seen.append((int(action), observation.tolist()))
        return seen

    one, same, other = play(0), play(0), play(1)
    assert one == same != other and len({action for action, _ in one}) > 1


def test_the_planner_goes_by_the_last_evaluation(kept, tmp_path):
    paths = ExperimentPaths(shutil.copytree(kept.root, tmp_path / "exp"))
    assert flowrl.load_agent(paths.root).planned.weights.success.tolist() == [1.0]
    write_json(paths.evaluation, evaluation(own_success_rate=0.25, steps=None, unlocks={}))
    weights = flowrl.load_agent(paths.root).planned.weights
    assert weights.success.tolist() == [0.25] and weights.steps.tolist() == [200.0]


def evaluation(**skill) -> dict:
    skills = [{"skill_name": "Collect_Wood", "expert_idx": 0, **skill}]
    return {"version": 1, "env_name": "Craftax-Classic-Symbolic-v1", "skills": skills}


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([], "has version None, and this flowrl reads version 1"),
        (evaluation() | {"version": 2}, "has version 2, and this flowrl reads version 1"),
        (evaluation() | {"env_name": "Craftax-Symbolic-v1"}, "is of Craftax-Symbolic-v1, and the experiment's game is"),
        (evaluation(own_success_rate="often"), "is damaged: 0.own_success_rate"),
        (evaluation() | {"skills": None}, "is damaged: skills"),
    ],
)
def test_an_evaluation_that_cannot_be_used_is_refused(kept, tmp_path, stored, message):
    paths = ExperimentPaths(shutil.copytree(kept.root, tmp_path / "exp"))
    write_json(paths.evaluation, stored)
    with pytest.raises(BadInput, match=message) as refused:
        flowrl.load_agent(paths.root)
    assert "run flowrl evaluate" in str(refused.value) and "\n" not in str(refused.value)


def test_skills_completed_since_the_last_evaluation_count_as_their_training_measured_them(kept, tmp_path):
    paths = ExperimentPaths(shutil.copytree(kept.root, tmp_path / "exp"))
    write_json(paths.evaluation, evaluation() | {"skills": []})
    weights = flowrl.load_agent(paths.root).planned.weights
    trained = flowrl.files.read_json(paths.skill_folder(0, "Collect_Wood") / "result.json")["success_rate"]
    assert weights.success.tolist() == [pytest.approx(trained)] and weights.steps.tolist() == [200.0]


def test_a_folder_without_an_experiment_is_refused(tmp_path):
    with pytest.raises(BadInput, match="holds no experiment"):
        flowrl.load_agent(tmp_path / "none")


def test_an_empty_library_is_refused(kept, tmp_path):
    paths = ExperimentPaths(shutil.copytree(kept.root, tmp_path / "exp"))
    shutil.rmtree(paths.skills)
    with pytest.raises(BadInput, match="has no completed skill"):
        flowrl.load_agent(paths.root)


def test_64_bits_are_refused(kept):
    jax.config.update("jax_enable_x64", True)
    try:
        with pytest.raises(BadInput, match="jax_enable_x64 is on; turn it off"):
            flowrl.load_agent(kept.root)
    finally:
        jax.config.update("jax_enable_x64", False)


def test_the_surroundings_of_the_caller_stay_as_they_are(kept):
    before = dict(os.environ)
    flowrl.load_agent(kept.root)
    assert dict(os.environ) == before


def test_an_unknown_name_is_no_attribute():
    assert {"load_agent", "skill_env", "export_episodes"} <= set(dir(flowrl))
    with pytest.raises(AttributeError, match="no attribute 'load_agents'"):
        _ = flowrl.load_agents
