"""The planner: from where a player is and what the library can do, the next task of a whole episode.

It looks for what is not unlocked yet and works backwards, as the plans of skills do: from a skill that unlocks it through
the providers of what that skill needs, leaving out what the player has already. The way that costs the fewest expected
steps for what it unlocks is taken, and its first task is done; after that task, or its failure, it chooses again. Beside
that, four rules, each worth some achievements:

- what uses something up and can be done on the spot (crafting, placing) is done at once
- a way whose first task looks for what is not in view costs more
- a task that has failed in this episode costs more each time
- a stock that is cheap to collect is collected for several goals at a time

When a vital is low, a skill that restores it acts until it is high again. Where nothing is left to do, a skill that is never
done passes the time, if there is one; it is chosen for nothing else.

All of it is plain arithmetic on a few arrays (`Catalogue`), for one environment; `explain` puts a choice into words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.readings import Readings
from flowrl.evaluation.catalogue import NO_SKILL, Catalogue, Names

NO_VITAL = -1
PASSING_TIME = -2
"""In place of a vital: nothing is left to do, and the task ends when its steps are used up."""
_NEVER = jnp.inf
_LEAST_SUCCESS = 0.05
"""A skill that is used nevertheless is not taken for a worse one than this."""
_MOST_UPKEEP_FAILURES = 2
"""Tasks to restore a vital that fail one after the other; then goals come first until a task for one of them has ended."""


class Weights(NamedTuple):
    """What is known of the skills' worth, as measured."""

    success: jax.Array
    """float32 ``[S]``: how often a try succeeds."""
    steps: jax.Array
    """float32 ``[S]``: steps of a try, for each unit of ``n``."""


class PlannerSettings(NamedTuple):
    """How the planner weighs; numbers that a compiled program takes as arguments."""

    min_success: float = 0.1
    """Skills that succeed less often are not used."""
    out_of_view: float = 3.0
    """How many times as much a first task costs where nothing that it looks for is in view."""
    failure: float = 3.0
    """How many times as much a task costs after each failure in the same episode."""
    stockpile: float = 5.0
    """The most of a stock that is collected at a time for further goals."""
    cheap: float = 15.0
    """Expected steps for a unit of a stock up to which it is collected for further goals."""
    low: float = 4.0
    """A vital below this is restored first; 0: never."""
    enough: float = 8.0
    """A vital is restored until it is this high."""
    min_upkeep_success: float = 0.25
    """A vital that takes more than one task to restore is left alone if any of their skills succeeds less often."""


class Planned(NamedTuple):
    """What the planner goes by: fixed arrays, and numbers that may change while it plays."""

    catalogue: Catalogue
    weights: Weights
    settings: PlannerSettings


class Past(NamedTuple):
    """What has failed, or was broken off, in this episode."""

    failures: jax.Array
    """int32 ``[S]``: how often a task of each skill has failed since it last succeeded."""
    upkeep_failures: jax.Array
    """int32: tasks to restore a vital that have failed since a task for a goal ended."""
    spent: jax.Array
    """float32 ``[S]``: steps of each skill's tasks that were broken off, for each unit of ``n``, since one has succeeded or
    failed. The next task of the skill has so many fewer."""


class Choice(NamedTuple):
    """The next task of one environment; each a scalar."""

    skill: jax.Array
    """int32: whose expert acts."""
    n: jax.Array
    """int32: how often it is to be done."""
    until: jax.Array
    """int32: the vital that the task is to restore; `NO_VITAL` for a task that ends when its skill is done."""
    goal: jax.Array
    """int32: the skill that the task serves; `NO_SKILL` where it only keeps the player alive."""


class Way(NamedTuple):
    """From where the player is to a skill; each ``[S]``, one way for each skill."""

    skill: jax.Array
    """int32: whose task comes first."""
    n: jax.Array
    """int32: how often."""
    cost: jax.Array
    """float32: expected steps of all its tasks."""
    num_tasks: jax.Array
    """int32."""
    is_usable: jax.Array
    """bool: every task's skill is good enough, and nothing that is needed is left without a provider."""
    least_success: jax.Array
    """float32: of its skills' success, the lowest."""


def choose(planned: Planned, readings: Readings, past: Past) -> Choice:
    """The next task of one environment, given where it is and what has failed."""
    catalogue = planned.catalogue
    ways = ways_from(planned, readings, past)
    price = prices(catalogue, ways, readings, past)
    goal = jnp.argmin(price).astype(jnp.int32)
    vital, restorer = most_urgent(planned, ways, readings, past)
    nothing_open = ~(price[goal] < _NEVER)
    idle = who_passes_time(planned)
    target = jnp.where(vital >= 0, restorer, jnp.where(nothing_open, idle, goal))
    is_for_goal = (vital < 0) & ~nothing_open
    restores_now = (vital >= 0) & (ways.num_tasks[target] == 1)
    until = jnp.where(restores_now, vital, jnp.where((vital < 0) & nothing_open, PASSING_TIME, NO_VITAL))
    return Choice(
        skill=jnp.where((vital < 0) & nothing_open, idle, ways.skill[target]),
        n=jnp.where(is_for_goal, _with_stockpile(planned, ways, price, past, target), jnp.where(vital >= 0, ways.n[target], 1)),
        until=until.astype(jnp.int32),
        goal=jnp.where(is_for_goal, goal, NO_SKILL).astype(jnp.int32),
    )


def who_passes_time(planned: Planned) -> jax.Array:
    """int32: whose expert acts where nothing is left to do: of a skill that is never done, else of the most successful one."""
    explores = planned.catalogue.explores
    return jnp.where(explores.any(), jnp.argmax(explores), jnp.argmax(planned.weights.success)).astype(jnp.int32)


def ways_from(planned: Planned, readings: Readings, past: Past) -> Way:
    """The way to each skill. Where something has to be fetched first, what is beside the player will have been left."""
    catalogue, weights, settings = planned
    costs = task_costs(weights, settings, past)
    away = jnp.where(catalogue.is_near, 0.0, readings.levels)

    def shorter(goal):
        here = _way_to(goal, planned, costs, readings.levels)
        there = _way_to(goal, planned, costs, away)
        stays = (here.num_tasks == 1) | catalogue.crafts[here.skill]
        return jax.tree.map(lambda one, other: jnp.where(stays, one, other), here, there)

    ways = jax.vmap(shorter)(jnp.arange(len(catalogue.plans)))
    return ways._replace(cost=ways.cost + _search_cost(catalogue, costs, settings, readings, ways))


def task_costs(weights: Weights, settings: PlannerSettings, past: Past) -> jax.Array:
    """float32 ``[S]``: expected steps until a task of each skill is done once."""
    tries = weights.steps / jnp.maximum(weights.success, _LEAST_SUCCESS)
    return tries * settings.failure ** past.failures.astype(jnp.float32)


def prices(catalogue: Catalogue, ways: Way, readings: Readings, past: Past) -> jax.Array:
    """float32 ``[S]``: what a way costs for each unit of what it unlocks; infinite where it unlocks nothing, or is not usable.

    What is crafted or placed on the spot costs nothing, unless that has failed just now.
    """
    worth = jnp.where(catalogue.goals & ~readings.goals, catalogue.values, 0.0).sum(axis=1)
    is_open = (worth > 0) & catalogue.has_plan & ways.is_usable & ~catalogue.explores
    on_the_spot = catalogue.crafts & (ways.num_tasks == 1) & (past.failures == 0)
    cost = jnp.where(on_the_spot, 0.0, ways.cost)
    return jnp.where(is_open, cost / jnp.where(is_open, worth, 1.0), _NEVER)


def can_restore(planned: Planned) -> jax.Array:
    """bool ``[V]``: some skill that is good enough restores the vital."""
    is_good = planned.weights.success >= planned.settings.min_success
    return (planned.catalogue.restores & is_good[:, None]).any(axis=0)


def most_urgent(planned: Planned, ways: Way, readings: Readings, past: Past) -> tuple[jax.Array, jax.Array]:
    """The vital that is furthest below where it is restored, of those that can be (`NO_VITAL` without any), and the skill to
    restore it."""
    catalogue = planned.catalogue
    if not len(readings.vitals):
        return jnp.int32(NO_VITAL), jnp.int32(0)
    is_promising = (ways.num_tasks == 1) | (ways.least_success >= planned.settings.min_upkeep_success)
    costs = jnp.where(catalogue.restores & (ways.is_usable & is_promising)[:, None], ways.cost[:, None], _NEVER)
    can = (costs.min(axis=0) < _NEVER) & (past.upkeep_failures < _MOST_UPKEEP_FAILURES)
    spare = jnp.where(can, readings.vitals - lows(planned), _NEVER)
    lowest = jnp.argmin(spare).astype(jnp.int32)
    return jnp.where(spare[lowest] < 0, lowest, NO_VITAL), jnp.argmin(costs[:, lowest]).astype(jnp.int32)


def lows(planned: Planned) -> jax.Array:
    """float32 ``[V]``: each vital is restored below this."""
    return jnp.minimum(planned.settings.low, planned.catalogue.low)


def _way_to(goal, planned: Planned, costs, levels) -> Way:
    """Backwards through the tasks before one skill's own, with what is demanded at their front; those that bring nothing that
    is lacking are left out."""
    catalogue, (success, _), settings = planned
    num_before = catalogue.plans.shape[1]

    def back(place, carried):
        demand, way = carried
        skill = catalogue.plans[goal, num_before - 1 - place]
        gains_once = catalogue.gains_per[skill] + catalogue.gains_fixed[skill]
        lacking = (gains_once > 0) & (demand > levels) & (skill >= 0)
        n = jnp.max(jnp.where(lacking, times_for(catalogue, skill, demand), 1), initial=1)
        gained = catalogue.gains_per[skill] * n + catalogue.gains_fixed[skill]
        left = jnp.where(gained >= demand, 0.0, demand) + catalogue.consumes_per[skill] * n + catalogue.consumes_fixed[skill]
        before = jnp.maximum(left, catalogue.needs_per[skill] * n + catalogue.needs_fixed[skill])
        least = jnp.minimum(way.least_success, success[skill])
        longer = Way(skill, n, way.cost + costs[skill] * n, way.num_tasks + 1, way.is_usable, least)
        return jax.tree.map(lambda new, old: jnp.where(lacking.any(), new, old), (before, longer), carried)

    start = Way(goal.astype(jnp.int32), jnp.int32(1), costs[goal], jnp.int32(1), jnp.bool_(True), success[goal])
    demand = catalogue.needs_per[goal] + catalogue.needs_fixed[goal]
    demand, way = jax.lax.fori_loop(0, num_before, back, (demand, start))
    return way._replace(is_usable=(way.least_success >= settings.min_success) & (demand <= levels).all())


def times_for(catalogue: Catalogue, skill, demand: jax.Array) -> jax.Array:
    """int32 ``[R]``: how often a skill has to be done for what is demanded of each resource; 1 where more brings nothing."""
    per, fixed = catalogue.gains_per[skill], catalogue.gains_fixed[skill]
    times = jnp.ceil((demand - fixed) / jnp.where(per > 0, per, 1.0))
    return jnp.where(per > 0, jnp.maximum(times, 1), 1).astype(jnp.int32)


def _search_cost(catalogue: Catalogue, costs, settings: PlannerSettings, readings: Readings, ways: Way) -> jax.Array:
    """What each way costs on top, where its first task looks for something, and none of it is in view."""
    looks_for = catalogue.sought[ways.skill]
    is_blind = looks_for.any(axis=1) & ~(looks_for & readings.seen).any(axis=1)
    return jnp.where(is_blind, (settings.out_of_view - 1) * costs[ways.skill] * ways.n, 0.0)


def _with_stockpile(planned: Planned, ways: Way, price, past: Past, goal) -> jax.Array:
    """How often the first task is done: for its goal, and for what the other open goals will use up of the same stock."""
    catalogue, weights, settings = planned
    once = catalogue.consumes_per + catalogue.consumes_fixed
    wanted = jnp.minimum(jnp.where((price < _NEVER)[:, None], once, 0.0).sum(axis=0), settings.stockpile)
    skill = ways.skill[goal]
    is_cheap = task_costs(weights, settings, past)[skill] <= settings.cheap
    brings = catalogue.is_stock & (catalogue.gains_per[skill] > 0) & is_cheap
    times = jnp.max(jnp.where(brings, times_for(catalogue, skill, wanted), 1), initial=1)
    return jnp.maximum(ways.n[goal], times).astype(jnp.int32)


def make_explain(names: Names, vital_names: tuple[str, ...]) -> Callable[[Planned, Readings, Past, Choice], str]:
    """The function that puts a choice for one environment into a line: what is done, for what, at which price, and the next
    best goals."""

    @jax.jit
    def weighed(planned: Planned, readings: Readings, past: Past):
        ways = ways_from(planned, readings, past)
        return ways.num_tasks, prices(planned.catalogue, ways, readings, past)

    def explain(planned: Planned, readings: Readings, past: Past, choice: Choice) -> str:
        choice = jax.device_get(choice)
        task = f"{names.skills[choice.skill]} x{choice.n}"
        if choice.until == PASSING_TIME:
            return f"{task}: nothing is left to unlock with these skills"
        if choice.until >= 0:
            return f"{task} until {vital_names[choice.until]} is {planned.settings.enough:g}"
        if choice.goal == NO_SKILL:
            return f"{task}: a vital is low, and what restores it needs this first"
        num_tasks, price = jax.device_get(weighed(planned, readings, past))
        ranked = [place for place in np.argsort(price, kind="stable") if np.isfinite(price[place])]
        others = ", ".join(f"{names.skills[place]} {price[place]:.0f}" for place in ranked if place != choice.goal) or "none"
        left = "1 task to go" if num_tasks[choice.goal] == 1 else f"{num_tasks[choice.goal]} tasks to go"
        return f"{task} for {names.skills[choice.goal]}: {left}, price {price[choice.goal]:.0f}; other goals: {others}"

    return explain
