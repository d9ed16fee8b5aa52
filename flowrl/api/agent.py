"""A library as one agent: a planner chooses the next task, and the expert of its skill acts.

`Agent.act` is a pure function of a key, the game's state and the agent's memory, for one environment; ``jax.vmap`` plays many
at once, and ``jax.jit`` and ``lax.scan`` take it as they take a recurrent policy.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from flowrl.api.batching import one_of
from flowrl.api.experts import Experts, experts_of
from flowrl.api.game import GameEnvironment
from flowrl.api.opening import opened
from flowrl.envs.adapter import GameAdapter, State
from flowrl.envs.features import Features
from flowrl.envs.readings import make_reader
from flowrl.evaluation import worth
from flowrl.evaluation.catalogue import names_of
from flowrl.evaluation.composition import Course, make_begin, make_go_on, make_judge
from flowrl.evaluation.library import Library
from flowrl.evaluation.planner import Planned, PlannerSettings, make_explain
from flowrl.skills.module import compile_module

_NO_LIMIT = 2**30
"""Steps. How long an episode may be is up to the environment."""


class Memory(NamedTuple):
    """What an agent remembers from step to step, of one environment."""

    features: Features
    """Of the state in which it acted last: whether a task is done is judged by a step's both ends."""
    course: Course
    """Its task, the steps spent in it, and what has failed in this episode."""
    is_new: jax.Array
    """bool: it has not acted yet."""

    @property
    def skill(self) -> jax.Array:
        """int32: the number of the skill that acts, in `Agent.skill_names`."""
        return self.course.choice.skill


class Agent(struct.PyTreeNode):
    """A library that plays. A pytree: give it to your own jitted functions as an argument, and they compile without its
    parameters."""

    experts: Experts
    planned: Planned
    """What the planner goes by."""
    parts: _Parts = struct.field(pytree_node=False)

    @property
    def env(self) -> GameEnvironment:
        """The game, on its own reward. Any other environment with the same states will do."""
        return self.parts.env

    @property
    def skill_names(self) -> tuple[str, ...]:
        """The library's skills."""
        return self.parts.names.skills

    def begin(self, state: State) -> Memory:
        """The memory at the start of an episode.

        Args:
            state: the game's own, of one environment.
        """
        return _begin(self.parts, self, state)

    def act(self, key: jax.Array, state: State, memory: Memory, done: jax.Array | bool = False) -> tuple[jax.Array, Memory]:
        """The next action, int32, and the memory for the next step.

        Args:
            state: the game's own, of one environment, after the step with the previous action.
            memory: what `begin` or the previous call returned.
            done: the previous step ended an episode, and ``state`` is of the next one.
        """
        return _act(self.parts, self, key, state, memory, done)

    def explain(self, memory: Memory) -> str:
        """A line on the task at hand, of one environment: what is done, for what, and the next best goals."""
        parts, course = self.parts, memory.course
        return parts.explain(self.planned, parts.read(memory.features), course.past, course.choice)


def load_agent(graph_path: Path | str) -> Agent:
    """The library of an experiment as one agent.

    The planner goes by what a rehearsal has seen and ``flowrl evaluate`` has measured; before either, all skills count as
    equally good.

    Raises:
        BadInput: the folder holds no experiment, or its library is empty or damaged.
    """
    paths, library, adapter = opened(graph_path)
    worths = worth.stored(paths, library)
    return agent_of(library, adapter, worth.planned_by(library, adapter.facts, worths, PlannerSettings()))


def agent_of(library: Library, adapter: GameAdapter, planned: Planned) -> Agent:
    """A library as one agent, by what is known of its skills."""
    return Agent(experts_of(library, adapter, library.skills), planned, _Parts(library, adapter))


class _Parts:
    """The functions of an agent that depend on its library's code alone."""

    def __init__(self, library: Library, adapter: GameAdapter):
        self.adapter, self.env = adapter, GameEnvironment(adapter)
        self.names = names_of(library, adapter.facts)
        features = adapter.facts.feature_names
        functions = [compile_module(skill.module_text, adapter.scope, features)[-1] for skill in library.skills]
        read = make_reader(adapter, self.names.resources, self.names.sights)
        self.read = jax.jit(read)
        self._begin, self._go_on = make_begin(read), make_go_on(read)
        self._judge = make_judge(adapter, functions, read, _NO_LIMIT)
        self.explain = make_explain(self.names, tuple(vital.name for vital in adapter.facts.vitals))
        self.begin, self.act = one_of(self._begin_all), one_of(self._act_all)

    def _begin_all(self, agent: Agent, states: State) -> Memory:
        features = jax.vmap(self.adapter.features)(states)
        course = self._begin(features, agent.planned)
        return Memory(features, course, jnp.ones_like(course.steps, bool))

    def _act_all(self, agent: Agent, each: tuple[Any, State, Memory, jax.Array]) -> tuple[jax.Array, Memory]:
        keys, states, memory, done = each
        features = jax.vmap(self.adapter.features)(states)
        judgement = self._judge(memory.features, features, done, memory.course, agent.planned)
        judgement = judgement._replace(ended=done | memory.is_new)
        course = self._go_on(memory.course, judgement, features, agent.planned)
        observation = jax.vmap(self.adapter.observe)(states)
        action = agent.experts.actions(keys, course.choice.skill, observation)
        return action, Memory(features, course, jnp.zeros_like(done))


@partial(jax.jit, static_argnums=0)
def _begin(parts: _Parts, agent: Agent, state: State) -> Memory:
    return parts.begin(agent, state)


@partial(jax.jit, static_argnums=0)
def _act(parts: _Parts, agent: Agent, key, state, memory: Memory, done) -> tuple[jax.Array, Memory]:
    return parts.act(agent, (key, state, memory, jnp.asarray(done, bool)))
