"""Whole episodes step by step: the planner chooses, the chosen skill's expert acts, until its task ends or the game does.

A `Course` stands where a run of one plan has its progress. A step is the world's, then a judgement of it, then (ended
environments being in their next worlds) the choice of the next task wherever one is due.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.adapter import GameAdapter
from flowrl.envs.features import Features, task_inputs
from flowrl.envs.readings import Readings, make_ending, make_own_reward, make_reader
from flowrl.envs.tasks import is_done, reward_of
from flowrl.envs.worlds import WorldBank
from flowrl.evaluation.catalogue import NO_SKILL, Catalogue, Names
from flowrl.evaluation.planner import NO_VITAL, Choice, PlannerSettings, Weights, choose
from flowrl.skills.module import TaskFunctions
from flowrl.training.learning.networks import Params
from flowrl.training.playing.acting import Acting
from flowrl.training.playing.world import World

AT_ONCE = 8
"""Environments for which the next task is chosen together."""


class Course(NamedTuple):
    """How far each environment is in its episode."""

    choice: Choice
    """``[B]`` each: the task at hand."""
    steps: jax.Array
    """int32 ``[B]``: spent in it."""
    failures: jax.Array
    """int32 ``[B, S]``: how often a task of each skill has failed since it last succeeded."""
    length: jax.Array
    """int32 ``[B]``: steps of the episode so far."""


class Judgement(NamedTuple):
    """What a step amounted to, ``[B, ...]`` each."""

    task_done: jax.Array
    """bool."""
    gave_up: jax.Array
    """bool: the task's steps were used up."""
    interrupted: jax.Array
    """bool: a vital has become low, and another task did not do anything about it."""
    died: jax.Array
    """bool: the game is over."""
    ended: jax.Array
    """bool: the episode is over, by the game or by its longest length."""
    ending: jax.Array
    """int32: why the game is over, where it is (`readings.ending_names`)."""
    goals: jax.Array
    """bool ``[B, A]``: the achievements unlocked by now."""
    own_reward: jax.Array
    """float32: what the task's skill pays; of a task that is to recover a vital, by how much it rose."""
    game_reward: jax.Array
    """float32: what the game itself pays."""

    @property
    def is_free(self) -> jax.Array:
        """bool ``[B]``: a task is to be chosen."""
        return self.task_done | self.gave_up | self.interrupted | self.ended


class Games(NamedTuple):
    """A batch of environments in the middle of their episodes."""

    bank: WorldBank
    scene: NamedTuple
    course: Course
    typical: jax.Array
    """As in `environments.Playing`."""


class Planned(NamedTuple):
    """What the planner goes by: fixed arrays, and numbers that may change while it plays."""

    catalogue: Catalogue
    weights: Weights
    settings: PlannerSettings


class Composition(NamedTuple):
    """The compiled functions of a library that plays; what is planned by is an argument of each."""

    world: World
    acting: Acting
    judge: Callable
    """``(features before, after, game_over, course, planned) -> Judgement``."""
    go_on: Callable
    """``(course, judgement, features, planned) -> Course``, once ended environments are in their next worlds."""
    begin: Callable
    """``(features, planned) -> Course`` at the start of episodes."""


def compose(
    world: World,
    acting: Acting,
    adapter: GameAdapter,
    functions: Sequence[TaskFunctions],
    names: Names,
    max_steps: int,
) -> Composition:
    """
    Args:
        functions: of each skill of the library, in the order of the catalogue.
        max_steps: of an episode; longer ones are ended.
    """
    read = make_reader(adapter, names.resources, names.sights)
    return Composition(
        world,
        acting,
        judge=jax.jit(make_judge(adapter, functions, read, max_steps)),
        go_on=jax.jit(make_go_on(read)),
        begin=jax.jit(make_begin(read)),
    )


def begin(composition: Composition, key: jax.Array, num_worlds: int, planned: Planned) -> Games:
    """Every environment at the start of an episode, in a world of its own; ``num_worlds`` in all for these and later ones."""
    world = composition.world
    fresh = world.fresh(key, max(num_worlds, world.num_envs))
    first = world.first_worlds(fresh)
    course = composition.begin(first.features, planned)
    return Games(WorldBank(fresh, np.int32(world.num_envs)), first, course, world.typical(first.observation.columns))


def play_step(
    composition: Composition, params: Params, games: Games, planned: Planned, act_key, step_key, number: int
) -> tuple[Games, Judgement]:
    """One step of every environment; the game states of ``games`` are used up."""
    world, scene, course = composition.world, games.scene, games.course
    decision = composition.acting.act(params, scene.observation, games.typical, course.choice.skill, act_key, number)
    state, observation, features, game_over = world.step(scene.state, decision.action, step_key, number)
    judgement = composition.judge(scene.features, features, game_over, course, planned)
    next_world, scene = world.renew(games.bank, state, observation, features, judgement.ended)
    course = composition.go_on(course, judgement, scene.features, planned)
    return Games(games.bank._replace(next_world=next_world), scene, course, games.typical), judgement


def make_judge(adapter: GameAdapter, functions: Sequence[TaskFunctions], read: Callable[[Features], Readings], max_steps: int):
    """What a step amounted to, for ``B`` environments."""
    ending, game_reward = make_ending(adapter), make_own_reward(adapter)

    def judge_one(before, after, game_over, choice, steps, length, planned):
        inputs, readings = task_inputs(before, after, choice.n), read(after)
        done = jnp.stack([is_done(task, inputs) for task in functions])[choice.skill]
        paid = jnp.stack([reward_of(task, inputs) for task in functions])[choice.skill]
        keeps_alive = choice.until != NO_VITAL
        recovered, is_low = _vitals(readings, choice, planned.settings, planned.weights)
        task_done = jnp.where(keeps_alive, recovered, done)
        goes_on = ~task_done & ~game_over
        limit = planned.catalogue.max_steps[choice.skill] * choice.n
        return Judgement(
            task_done=task_done,
            gave_up=goes_on & (steps + 1 >= limit),
            interrupted=goes_on & is_low & (choice.goal != NO_SKILL),
            died=game_over,
            ended=game_over | (length + 1 >= max_steps),
            ending=ending(after),
            goals=readings.goals,
            own_reward=jnp.where(keeps_alive, _risen(read(before), readings, choice.until), paid),
            game_reward=game_reward(inputs),
        )

    def judge(before, after, game_over, course, planned):
        each = jax.vmap(judge_one, in_axes=(0, 0, 0, 0, 0, 0, None))
        return each(before, after, game_over, course.choice, course.steps, course.length, planned)

    return judge


def _vitals(readings: Readings, choice: Choice, settings: PlannerSettings, weights: Weights):
    """Whether the vital at hand is high again, and whether one that can be recovered is low."""
    if not len(readings.vitals):
        return jnp.bool_(False), jnp.bool_(False)
    return (
        readings.vitals[choice.until] >= settings.enough,
        ((readings.vitals < settings.low) & (weights.upkeep >= 0)).any(),
    )


def _risen(before: Readings, after: Readings, vital: jax.Array) -> jax.Array:
    return (after.vitals - before.vitals)[vital] if len(after.vitals) else jnp.float32(0)


def make_begin(read: Callable[[Features], Readings]):
    """The first tasks of ``B`` environments."""

    def begin(features, planned):
        num_envs, num_skills = len(jax.tree.leaves(features)[0]), len(planned.catalogue.plans)
        failures = jnp.zeros((num_envs, num_skills), jnp.int32)
        choice = choose_each(read, features, failures, planned)
        return Course(choice, jnp.zeros(num_envs, jnp.int32), failures, jnp.zeros(num_envs, jnp.int32))

    return begin


def make_go_on(read: Callable[[Features], Readings]):
    """The course after a step: counts it, and chooses wherever a task is due, some environments at a time."""

    def go_on(course: Course, judgement: Judgement, features, planned: Planned) -> Course:
        num_envs = len(course.steps)
        own = course.choice.skill[:, None] == jnp.arange(course.failures.shape[1])
        failures = jnp.where(own & judgement.gave_up[:, None], course.failures + 1, course.failures)
        failures = jnp.where((own & judgement.task_done[:, None]) | judgement.ended[:, None], 0, failures)
        free = judgement.is_free
        rows = jnp.nonzero(free, size=-(-num_envs // AT_ONCE) * AT_ONCE, fill_value=num_envs)[0]

        def some(number, choice):
            here = jax.lax.dynamic_slice_in_dim(rows, number * AT_ONCE, AT_ONCE)
            their_features, their_failures = jax.tree.map(lambda leaf: leaf.at[here].get(mode="clip"), (features, failures))
            new = choose_each(read, their_features, their_failures, planned)
            return jax.tree.map(lambda old, value: old.at[here].set(value, mode="drop"), choice, new)

        num_blocks = -(-jnp.sum(free, dtype=jnp.int32) // AT_ONCE)
        choice = jax.lax.fori_loop(0, num_blocks, some, course.choice)
        steps = jnp.where(free, 0, course.steps + 1)
        length = jnp.where(judgement.ended, 0, course.length + 1)
        return Course(choice, steps, failures, length)

    return go_on


def choose_each(read: Callable[[Features], Readings], features: Features, failures: jax.Array, planned: Planned) -> Choice:
    """The next task of each of some environments."""

    def one(features, failures):
        return choose(planned.catalogue, planned.weights, planned.settings, read(features), failures)

    return jax.vmap(one)(features, failures)
