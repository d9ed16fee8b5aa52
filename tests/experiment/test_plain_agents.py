"""Plain agents: the game's own reward as a skill, and a real training of one with a tiny network."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs.features import task_inputs
from flowrl.envs.registry import GAMES, game, make_adapter
from flowrl.errors import BadInput
from flowrl.experiment import plain_agents
from flowrl.paths import ExperimentPaths
from flowrl.records import result as run_result
from flowrl.records import run_record
from flowrl.skills.checks import check_skill_code
from flowrl.skills.explore import explore
from flowrl.skills.module import TaskSource, compile_module, render_module
from tests.experiment.starts import SIZE
from tests.skills.builders import FACTS

TINY = SIZE | {"lr": 1e-3}


@pytest.mark.parametrize("entry", GAMES.values(), ids=GAMES)
def test_a_plain_agent_is_paid_what_the_game_pays(entry):
    adapter = make_adapter(entry.env_name)
    spec = explore(entry.facts)
    check_skill_code(spec, entry.facts)
    text = render_module(spec.name, 0, {0: 0}, [TaskSource(spec.name, 1, 0, spec.task_is_done, spec.task_reward)])
    (functions,) = compile_module(text, adapter.scope, adapter.facts.feature_names)

    @jax.jit
    def step(key, state, action):
        before = adapter.features(state)
        _, after, reward, _, _ = adapter._env.step_env(key, state, action, adapter._params)
        inputs = task_inputs(before, adapter.features(after), 1)
        paid = functions.reward(**{name: getattr(inputs, name) for name in functions.reward_params})
        done = functions.is_done(**{name: getattr(inputs, name) for name in functions.is_done_params})
        return after, reward, paid, done

    _, fresh = jax.jit(adapter.reset)(jax.random.key(0))
    state = jax.tree.map(lambda leaf: leaf[0], adapter.equipped(jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), fresh)))
    rewards = []
    for number in range(120):
        key = jax.random.key(number)
        state, reward, paid, done = step(key, state, jax.random.randint(key, (), 0, adapter.num_actions))
        assert float(paid) == pytest.approx(float(reward), abs=1e-5) and not bool(done)
        rewards.append(float(reward))
    assert sum(reward > 0.5 for reward in rewards) >= 2, "no achievement was unlocked: the test shows nothing"


def test_a_game_without_its_own_reward_is_refused():
    with pytest.raises(BadInput, match="declare no own_reward"):
        explore(FACTS)


def test_of_plain_agents_with_equal_settings_one_is_trained():
    falling = plain_agents.VARIANTS["small batches, falling learning rate"]
    assert plain_agents.variants_beside({"num_envs": 16}) == tuple(plain_agents.VARIANTS)
    assert plain_agents.variants_beside(falling) == ("small batches", "small batches, falling learning rate")


def test_a_plain_agent_is_trained_once_and_is_a_library_of_its_own(tmp_path):
    experiment, entry, seen = ExperimentPaths(tmp_path / "exp"), game("Craftax-Classic-Symbolic-v1"), []
    where = (experiment, entry, "settings of the skills", TINY)
    paths = plain_agents.train(*where, 1024, seen.append)
    assert paths.root == experiment.root / "flat" / "settings_of_the_skills"
    record = run_record.read(paths.skill_folder(0, "Explore") / "run.json")
    assert record.settings.total_timesteps == 1024 and record.settings.layer_size == 16 and not record.settings.stop_at_goal
    result = run_result.read(paths.skill_folder(0, "Explore") / "result.json")
    assert result.outcome == "completed" and result.frames == 1024
    assert result.success_rate is result.random_success_rate is result.goal_reached is result.tasks is None
    assert seen[0] == 0 and seen[-1] == 1024 and np.all(np.diff(seen) >= 0)
    trained = paths.expert_params(0, "Explore").stat().st_mtime_ns
    assert plain_agents.train(*where, 1024) == paths
    assert paths.expert_params(0, "Explore").stat().st_mtime_ns == trained
