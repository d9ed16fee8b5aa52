"""What every game has to keep to: a mixin of tests, for a class with fixtures `entry`, `adapter` and `walk`."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs.features import task_inputs
from flowrl.envs.registry import GameEntry, make_adapter, make_steps
from flowrl.gate import recorded_states
from flowrl.gate.edited_states import Editor, count, taken
from flowrl.gate.execution import CompiledSkill
from flowrl.gate.recorded_states import RecordedStates
from flowrl.gate.rules import examine
from flowrl.paths import cache_folder
from flowrl.proposers.curriculum import load_curriculum
from flowrl.skills.checks import check_skill_code
from flowrl.skills.facts import check_resources
from flowrl.skills.menu import Gain, write_is_done, write_reward
from flowrl.skills.plan import build_plan
from flowrl.skills.spec import Amount, SkillSpec

SOME = 50
"""Recorded steps that resources are written into."""


class Walk(NamedTuple):
    """A few steps of one world; each field has an entry for each state, the fresh one first."""

    states: list[Any]
    observations: list[jax.Array]
    features: list[Any]


def types(tree):
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.asarray(leaf).dtype, jax.typeof(leaf).weak_type), tree)


class GameContract:
    """The tests. A subclass says which game: ``entry`` is a fixture."""

    @pytest.fixture(scope="class")
    @classmethod
    def adapter(cls, entry: GameEntry):
        return make_adapter(entry.env_name)

    @pytest.fixture(scope="class")
    @classmethod
    def recorded(cls, entry: GameEntry) -> RecordedStates:
        """The states stored on this machine; they are recorded once."""
        recorded_states.ensure(entry.env_name, cache_folder())
        return recorded_states.load(entry.env_name, cache_folder())

    @pytest.fixture(scope="class")
    @classmethod
    def walk(cls, adapter) -> Walk:
        step, features = jax.jit(adapter.step), jax.jit(adapter.features)
        observation, state = jax.jit(adapter.reset)(jax.random.key(0))
        walk = Walk([state], [observation], [features(state)])
        for number in range(8):
            action_key, step_key = jax.random.split(jax.random.key(number))
            action = jax.random.randint(action_key, (), 0, adapter.num_actions)
            observation, state, _ = step(step_key, state, action)
            for values, value in zip(walk, (state, observation, features(state))):
                values.append(value)
        return walk

    def test_the_registry_agrees_with_the_adapter(self, entry, adapter):
        assert adapter.facts is entry.facts and adapter.env_name == entry.env_name
        assert (adapter.observation_size, adapter.num_actions) == (entry.observation_size, entry.num_actions)
        assert set(adapter.scope) == {"jax", "jnp", *entry.facts.constants}

    def test_a_small_observation_expands_to_the_games_own(self, adapter, walk):
        for state, observation in zip(walk.states, walk.observations):
            assert (observation.shape, observation.dtype) == ((adapter.observation_size,), jnp.float32)
            small = jax.tree.map(lambda leaf: leaf[None], adapter.observe(state))
            np.testing.assert_allclose(adapter.layout.expand(small)[0], observation, rtol=1e-6)
        assert adapter.layout.size == adapter.observation_size

    def test_fresh_and_played_states_have_the_same_types(self, walk):
        for values in walk:
            assert all(types(value) == types(values[0]) for value in values)

    def test_worlds_follow_from_their_keys(self, adapter):
        first, again = (adapter.reset(jax.random.key(5)) for _ in range(2))
        jax.tree.map(np.testing.assert_array_equal, first[0], again[0])

    def test_features_are_those_that_are_declared(self, entry, walk):
        inputs = task_inputs(walk.features[0], walk.features[1], 1)
        assert inputs._fields == entry.facts.feature_names
        for leaf in jax.tree.leaves(inputs):
            assert leaf.dtype in (jnp.int32, jnp.float32, jnp.bool_)
        if entry.facts.inventory_fields:
            arrays = {name for name in entry.facts.inventory_fields if getattr(inputs.inventory, name).ndim}
            assert arrays == entry.facts.arrays

    def test_every_resource_is_held_once_it_is_written_into_a_step(self, entry, recorded):
        """The code that tests for a resource agrees with how the gate writes it; each pays for being gained."""
        editor = Editor(make_steps(entry.env_name))
        places = np.linspace(0, count(recorded.before) - 1, SOME).astype(int)
        steps = taken(recorded.before, places), taken(recorded.after, places)
        for resource in self.some_resources(entry):
            level = entry.facts.highest(resource)
            gains = {resource: Amount(fixed=level)}
            code = write_is_done(gains, entry.facts), write_reward([Gain(resource)], entry.facts)
            spec = SkillSpec(name="Get", gains=gains, task_is_done=code[0], task_reward=code[1])
            check_skill_code(spec, entry.facts)
            compiled = CompiledSkill(spec, entry.facts, recorded.enums)
            before, full, without = editor.gained(*steps, {resource: level})
            n = np.ones(SOME, np.int32)
            gained, short = compiled.run(before, full, n), compiled.run(before, without, n)
            assert gained.done.all() and not short.done.any(), resource
            assert (gained.reward > 0).all() and not short.reward.any(), resource

    def some_resources(self, entry) -> list[str]:
        """A few of each kind, for a program is compiled for each: all arrays, and of the rest the last ones."""
        facts = entry.facts
        fields = [*list(facts.stocks)[-2:], *list(facts.possessions)[-2:], *sorted(facts.arrays)]
        return [*dict.fromkeys(fields), *(family.resources[-1] for family in facts.families)]

    def test_the_curriculum_passes_the_gate_and_can_be_planned(self, entry, recorded):
        skills = {spec.name: spec for spec in load_curriculum(entry.curriculum, entry.facts)}
        for spec in skills.values():
            check_resources(spec, entry.facts)
            assert build_plan(spec, skills, entry.facts)[-1]["skill_name"] == spec.name
        for spec in self.tried(skills):
            assert examine(spec, make_steps(entry.env_name), recorded)

    def tried(self, skills):
        return skills.values()
