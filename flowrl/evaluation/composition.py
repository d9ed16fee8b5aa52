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

from flowrl.envs.adapter import GameAdapter, State
from flowrl.envs.features import Features, task_inputs
from flowrl.envs.observations import Observation
from flowrl.envs.readings import Readings, make_ending, make_own_reward, make_reader
from flowrl.envs.tasks import is_done, reward_of
from flowrl.envs.worlds import WorldBank
from flowrl.evaluation.catalogue import NO_SKILL, Catalogue, Names
from flowrl.evaluation.planner import NO_VITAL, PASSING_TIME, Choice, Past, Planned, can_restore, choose, lows
from flowrl.skills.module import TaskFunctions
from flowrl.training.learning.networks import Params
from flowrl.training.playing.acting import Acting
from flowrl.training.playing.world import Decision, World

AT_ONCE = 8
"""Environments for which the next task is chosen together."""


class Course(NamedTuple):
    """How far each environment is in its episode, ``[B, ...]`` each."""

    choice: Choice
    """The task at hand."""
    steps: jax.Array
    """int32: spent in it, those apart in which the player was busy."""
    past: Past
    length: jax.Array
    """int32: steps of the episode so far."""


class Judgement(NamedTuple):
    """What a step amounted to, ``[B, ...]`` each."""

    task_done: jax.Array
    """bool."""
    failed: jax.Array
    """bool: the task's steps or its materials were used up, or it had been done before it began."""
    interrupted: jax.Array
    """bool: a vital has become low in this step, and the task does nothing about it."""
    died: jax.Array
    """bool: the game is over."""
    ended: jax.Array
    """bool: the episode is over, by the game or by its longest length."""
    is_busy: jax.Array
    """bool: the player does not act at the moment; such steps are not counted against the task."""
    ending: jax.Array
    """int32: why the game is over, where it is (`readings.ending_names`)."""
    goals: jax.Array
    """bool ``[B, A]``: the achievements unlocked by now."""
    own_reward: jax.Array
    """float32: what the task's skill pays; of a task that is to restore a vital, by how much it rose."""
    game_reward: jax.Array
    """float32: what the game itself pays; nothing for what the task's materials were used up for instead of what it makes."""

    @property
    def is_free(self) -> jax.Array:
        """bool ``[B]``: a task is to be chosen."""
        return self.task_done | self.failed | self.interrupted | self.ended


class Games(NamedTuple):
    """A batch of environments in the middle of their episodes."""

    bank: WorldBank
    scene: NamedTuple
    course: Course
    typical: jax.Array
    """As in `environments.Playing`."""


class Step(NamedTuple):
    """One step of every environment, ``[B, ...]`` each."""

    decision: Decision
    judgement: Judgement
    led_to: Observation
    """What the step led to, before a new world took its place."""


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
    composition: Composition,
    params: Params,
    games: Games,
    planned: Planned,
    act_key,
    step_key,
    number: int,
    look: Callable[[State, Features], None] = lambda state, features: None,
) -> tuple[Games, Step]:
    """One step of every environment; the game states of ``games`` are used up.

    Args:
        look: gets the states and features that the step led to, before ended environments got their next worlds; the states
            are used up once it returns.
    """
    world, scene, course = composition.world, games.scene, games.course
    decision = composition.acting.act(params, scene.observation, games.typical, course.choice.skill, act_key, number)
    state, observation, features, game_over = world.step(scene.state, decision.action, step_key, number)
    look(state, features)
    judgement = composition.judge(scene.features, features, game_over, course, planned)
    next_world, scene = world.renew(games.bank, state, observation, features, judgement.ended)
    course = composition.go_on(course, judgement, scene.features, planned)
    after = Games(games.bank._replace(next_world=next_world), scene, course, games.typical)
    return after, Step(decision, judgement, observation)


def make_judge(adapter: GameAdapter, functions: Sequence[TaskFunctions], read: Callable[[Features], Readings], max_steps: int):
    """What a step amounted to, for ``B`` environments."""
    ending, game_reward = make_ending(adapter), make_own_reward(adapter)

    def judge_one(before, after, game_over, choice, steps, spent, length, planned):
        inputs, was, now = task_inputs(before, after, choice.n), read(before), read(after)
        done, paid = _own_verdict(functions, inputs, was, now, choice, planned)
        # A task that was done before it began would end at every step, and be chosen again.
        was_done = done & (steps == 0) & (choice.until == NO_VITAL) & _nothing_changed(was, now)
        is_used_up = (steps + 1) / choice.n + spent[choice.skill] >= planned.catalogue.max_steps[choice.skill]
        is_wasted = ~done & _used_up_otherwise(was, now, choice, planned.catalogue)
        goes_on = ~done & ~game_over & ~now.is_busy
        return Judgement(
            task_done=done & ~was_done,
            failed=was_done | (goes_on & (is_used_up | is_wasted)),
            interrupted=goes_on & ~is_used_up & ~is_wasted & _became_low(planned, was, now, choice.until),
            died=game_over,
            ended=game_over | (length + 1 >= max_steps),
            is_busy=now.is_busy,
            ending=ending(after),
            goals=now.goals,
            own_reward=paid,
            game_reward=jnp.where(is_wasted, 0.0, game_reward(inputs)),
        )

    def judge(before, after, game_over, course, planned):
        each = jax.vmap(judge_one, in_axes=(0, 0, 0, 0, 0, 0, 0, None))
        return each(before, after, game_over, course.choice, course.steps, course.past.spent, course.length, planned)

    return judge


def _own_verdict(functions: Sequence[TaskFunctions], inputs, was: Readings, now: Readings, choice: Choice, planned: Planned):
    """Whether the task is done, and what it pays: by its skill's code, or by the vital that it is to restore."""
    done = jnp.stack([is_done(task, inputs) for task in functions])[choice.skill] & (choice.until != PASSING_TIME)
    paid = jnp.stack([reward_of(task, inputs) for task in functions])[choice.skill]
    if not len(now.vitals):
        return done, paid
    restores = choice.until >= 0
    a_point = jnp.where(restores, planned.catalogue.pays[choice.until], 0.0)
    return (
        jnp.where(restores, now.vitals[choice.until] >= planned.settings.enough, done),
        jnp.where(a_point > 0, a_point * (now.vitals - was.vitals)[choice.until], paid),
    )


def _used_up_otherwise(was: Readings, now: Readings, choice: Choice, catalogue: Catalogue) -> jax.Array:
    """bool: something was used up that the task is to make something of. To be asked where the task is not done."""
    uses = (catalogue.consumes_per + catalogue.consumes_fixed)[choice.skill] > 0
    return catalogue.makes[choice.skill] & (uses & (now.levels < was.levels)).any()


def _nothing_changed(was: Readings, now: Readings) -> jax.Array:
    return (was.levels == now.levels).all() & (was.goals == now.goals).all()


def _became_low(planned: Planned, was: Readings, now: Readings, until: jax.Array) -> jax.Array:
    """bool: a vital has become low, other than the one that the task is to restore."""
    low = lows(planned)
    is_another = jnp.arange(len(now.vitals)) != until
    return ((was.vitals >= low) & (now.vitals < low) & is_another & can_restore(planned)).any()


def make_begin(read: Callable[[Features], Readings]):
    """The first tasks of ``B`` environments."""

    def begin(features, planned):
        num_envs, num_skills = len(jax.tree.leaves(features)[0]), len(planned.catalogue.plans)
        none = jnp.zeros((num_envs, num_skills))
        past = Past(none.astype(jnp.int32), jnp.zeros(num_envs, jnp.int32), none)
        choice = choose_each(read, features, past, planned)
        return Course(choice, jnp.zeros(num_envs, jnp.int32), past, jnp.zeros(num_envs, jnp.int32))

    return begin


def make_go_on(read: Callable[[Features], Readings]):
    """The course after a step: counts it, and chooses wherever a task is due, some environments at a time."""

    def go_on(course: Course, judgement: Judgement, features, planned: Planned) -> Course:
        past, free = _past_after(course, judgement), judgement.is_free
        choice = _chosen(read, course.choice, features, past, free, planned)
        steps = jnp.where(free, 0, course.steps + ~judgement.is_busy)
        length = jnp.where(judgement.ended, 0, course.length + 1)
        return Course(choice, steps, past, length)

    return go_on


def steps_of_try(course: Course) -> jax.Array:
    """float32 ``[B]``: steps of the task at hand, this one included, for each unit of ``n``, and of those of the same skill
    that were broken off before it."""
    spent = jnp.take_along_axis(course.past.spent, course.choice.skill[:, None], axis=1)[:, 0]
    return (course.steps + 1) / course.choice.n + spent


def _past_after(course: Course, judgement: Judgement) -> Past:
    """What has failed, or was broken off, so far; a new episode forgets it."""
    own = course.choice.skill[:, None] == jnp.arange(course.past.failures.shape[1])
    failures = course.past.failures + (own & judgement.failed[:, None])
    failures = jnp.where((own & judgement.task_done[:, None]) | judgement.ended[:, None], 0, failures)
    is_for_goal, before = course.choice.goal != NO_SKILL, course.past.upkeep_failures
    upkeep_failures = jnp.where(judgement.failed & ~is_for_goal, before + 1, before)
    is_forgotten = judgement.ended | judgement.task_done | (judgement.failed & is_for_goal)
    spent = jnp.where(own & judgement.interrupted[:, None], steps_of_try(course)[:, None], course.past.spent)
    is_over = judgement.task_done | judgement.failed
    spent = jnp.where((own & is_over[:, None]) | judgement.ended[:, None], 0.0, spent)
    return Past(failures, jnp.where(is_forgotten, 0, upkeep_failures), spent)


def _chosen(read, choice: Choice, features: Features, past: Past, free: jax.Array, planned: Planned) -> Choice:
    """The choices, with a new one wherever the environment is free."""
    num_envs = len(free)
    rows = jnp.nonzero(free, size=-(-num_envs // AT_ONCE) * AT_ONCE, fill_value=num_envs)[0]

    def some(number, choice):
        here = jax.lax.dynamic_slice_in_dim(rows, number * AT_ONCE, AT_ONCE)
        theirs = jax.tree.map(lambda leaf: leaf.at[here].get(mode="clip"), (features, past))
        new = choose_each(read, *theirs, planned)
        return jax.tree.map(lambda old, value: old.at[here].set(value, mode="drop"), choice, new)

    return jax.lax.fori_loop(0, -(-jnp.sum(free, dtype=jnp.int32) // AT_ONCE), some, choice)


def choose_each(read: Callable[[Features], Readings], features: Features, past: Past, planned: Planned) -> Choice:
    """The next task of each of some environments."""
    return jax.vmap(lambda features, past: choose(planned, read(features), past))(features, past)
