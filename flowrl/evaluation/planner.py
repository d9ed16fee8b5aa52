"""The planner: from where a player is and what the library can do, the next task of a whole episode.

It looks for what is not unlocked yet and works backwards, as the plans of skills do: from a skill that unlocks it through
the providers of what that skill needs, leaving out what the player has already. The way that costs the fewest expected
steps for what it unlocks is taken, and its first task is done; after that task, or its failure, it chooses again. Beside
that, four rules, each worth some achievements:

- what uses something up and can be done on the spot (crafting, placing) is done at once
- a way whose first task looks for what is not in view costs more
- a task that has failed in this episode costs more each time
- stocks are collected for several goals at a time

When a vital is low, the skill that recovers it best acts until it is high again.

All of it is plain arithmetic on a few arrays (`Catalogue`), for one environment; `explain` puts a choice into words.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.readings import Readings
from flowrl.evaluation.catalogue import NO_SKILL, Catalogue, Names

NO_VITAL = -1
_NEVER = jnp.inf
_LEAST_SUCCESS = 0.05
"""A skill that is used nevertheless is not taken for a worse one than this."""
_MOST_FAILURES = 2
"""Of a skill that recovers a vital; after so many it is tried no more until something else has been done."""


class Weights(NamedTuple):
    """What is known of the skills' worth, as measured."""

    success: jax.Array
    """float32 ``[S]``: how often a try succeeds."""
    steps: jax.Array
    """float32 ``[S]``: steps of a try, for each unit of ``n``."""
    upkeep: jax.Array
    """int32 ``[V]``: the skill that recovers each vital; `NO_SKILL` where none does."""


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
    low: float = 3.0
    """A vital below this is recovered first; 0: never."""
    enough: float = 8.0
    """A vital is recovered until it is this high."""


class Choice(NamedTuple):
    """The next task of one environment; each a scalar."""

    skill: jax.Array
    """int32: whose expert acts."""
    n: jax.Array
    """int32: how often it is to be done."""
    until: jax.Array
    """int32: the vital that the task is to recover; `NO_VITAL` for a task that ends when its skill is done."""
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
    """bool: every task's skill is good enough."""


def choose(
    catalogue: Catalogue, weights: Weights, settings: PlannerSettings, readings: Readings, failures: jax.Array
) -> Choice:
    """The next task of one environment.

    Args:
        readings: of where it is.
        failures: int32 ``[S]``: how often a task of each skill has failed since it last succeeded in this episode.
    """
    ways = ways_from(catalogue, weights, settings, readings, failures)
    price = prices(catalogue, ways, readings, failures)
    goal = jnp.argmin(price).astype(jnp.int32)
    vital, is_urgent = _most_urgent(weights, settings, ways, readings, failures)
    keeps_alive = is_urgent | ~(price[goal] < _NEVER)
    target = jnp.where(keeps_alive, _upkeep_or_best(weights, vital), goal)
    is_last = ways.num_tasks[target] == 1
    return Choice(
        skill=ways.skill[target],
        n=jnp.where(keeps_alive, ways.n[target], _with_stockpile(catalogue, settings, ways, price, readings, target)),
        until=jnp.where(keeps_alive & is_last & (weights.upkeep[vital] >= 0), vital, NO_VITAL).astype(jnp.int32),
        goal=jnp.where(keeps_alive, NO_SKILL, goal).astype(jnp.int32),
    )


def ways_from(
    catalogue: Catalogue, weights: Weights, settings: PlannerSettings, readings: Readings, failures: jax.Array
) -> Way:
    """The way to each skill. Where something has to be fetched first, what is beside the player will have been left."""
    costs = task_costs(weights, settings, failures)
    is_good = weights.success >= settings.min_success
    away = jnp.where(catalogue.is_near, 0.0, readings.levels)

    def both(goal):
        here = _way_to(goal, catalogue, costs, is_good, readings.levels)
        stays = (here.num_tasks == 1) | catalogue.crafts[here.skill]
        return jax.tree.map(
            lambda one, other: jnp.where(stays, one, other), here, _way_to(goal, catalogue, costs, is_good, away)
        )

    ways = jax.vmap(both)(jnp.arange(len(catalogue.plans)))
    return ways._replace(cost=ways.cost + _search_cost(catalogue, costs, settings, readings, ways))


def task_costs(weights: Weights, settings: PlannerSettings, failures: jax.Array) -> jax.Array:
    """float32 ``[S]``: expected steps until a task of each skill is done once."""
    return weights.steps / jnp.maximum(weights.success, _LEAST_SUCCESS) * settings.failure ** failures.astype(jnp.float32)


def prices(catalogue: Catalogue, ways: Way, readings: Readings, failures: jax.Array) -> jax.Array:
    """float32 ``[S]``: what a way costs for each unit of what it unlocks; infinite where it unlocks nothing, or cannot be gone.

    What is crafted or placed on the spot costs nothing, unless that has failed just now.
    """
    worth = jnp.where(catalogue.goals & ~readings.goals, catalogue.values, 0.0).sum(axis=1)
    is_open = (worth > 0) & catalogue.has_plan & ways.is_usable
    on_the_spot = catalogue.crafts & (ways.num_tasks == 1) & (failures == 0)
    cost = jnp.where(on_the_spot, 0.0, ways.cost)
    return jnp.where(is_open, cost / jnp.where(is_open, worth, 1.0), _NEVER)


def _way_to(goal, catalogue: Catalogue, costs, is_good, levels) -> Way:
    """Backwards through the tasks before one skill's own, with what is demanded at their front; those that bring nothing that
    is lacking are left out."""
    num_before = catalogue.plans.shape[1]

    def back(place, carried):
        demand, way = carried
        skill = catalogue.plans[goal, num_before - 1 - place]
        gains_once = catalogue.gains_per[skill] + catalogue.gains_fixed[skill]
        lacking = (gains_once > 0) & (demand > levels) & (skill >= 0)
        is_task = lacking.any()
        n = jnp.max(jnp.where(lacking, times_for(catalogue, skill, demand), 1), initial=1)
        gained = catalogue.gains_per[skill] * n + catalogue.gains_fixed[skill]
        left = jnp.where(gained >= demand, 0.0, demand) + catalogue.consumes_per[skill] * n + catalogue.consumes_fixed[skill]
        before = jnp.maximum(left, catalogue.needs_per[skill] * n + catalogue.needs_fixed[skill])
        longer = Way(skill, n, way.cost + costs[skill] * n, way.num_tasks + 1, way.is_usable & is_good[skill])
        return jax.tree.map(lambda new, old: jnp.where(is_task, new, old), (before, longer), carried)

    start = Way(goal.astype(jnp.int32), jnp.int32(1), costs[goal], jnp.int32(1), is_good[goal])
    demand = catalogue.needs_per[goal] + catalogue.needs_fixed[goal]
    return jax.lax.fori_loop(0, num_before, back, (demand, start))[1]


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


def _with_stockpile(catalogue: Catalogue, settings: PlannerSettings, ways: Way, price, readings: Readings, goal) -> jax.Array:
    """How often the first task is done: for its goal, and for what the other open goals will use up of the same stock."""
    once = catalogue.consumes_per + catalogue.consumes_fixed
    wanted = jnp.where((price < _NEVER)[:, None], once, 0.0).sum(axis=0)
    wanted = jnp.minimum(jnp.maximum(wanted, 0.0), settings.stockpile)
    skill = ways.skill[goal]
    brings = catalogue.is_stock & (catalogue.gains_per[skill] > 0)
    times = jnp.max(jnp.where(brings, times_for(catalogue, skill, wanted), 1), initial=1)
    return jnp.maximum(ways.n[goal], times).astype(jnp.int32)


def _most_urgent(weights: Weights, settings: PlannerSettings, ways: Way, readings: Readings, failures):
    """The lowest vital that some skill recovers, and whether it is low; the first one where no skill recovers any."""
    skill = weights.upkeep
    can = (skill >= 0) & ways.is_usable[skill] & (failures[skill] < _MOST_FAILURES)
    if not len(skill):
        return jnp.int32(0), jnp.bool_(False)
    level = jnp.where(can, readings.vitals, _NEVER)
    vital = jnp.argmin(level).astype(jnp.int32)
    return vital, level[vital] < settings.low


def _upkeep_or_best(weights: Weights, vital) -> jax.Array:
    best = jnp.argmax(weights.success).astype(jnp.int32)
    if not len(weights.upkeep):
        return best
    return jnp.where(weights.upkeep[vital] >= 0, weights.upkeep[vital], best)


def explain(
    names: Names,
    catalogue: Catalogue,
    weights: Weights,
    settings: PlannerSettings,
    readings: Readings,
    failures: np.ndarray,
    vital_names: tuple[str, ...] = (),
) -> str:
    """The choice for one environment in a line: what is done, for what, at which price, and the next best goals."""
    catalogue, weights, readings, failures = jax.device_put((catalogue, weights, readings, failures))
    choice = jax.device_get(choose(catalogue, weights, settings, readings, failures))
    ways = ways_from(catalogue, weights, settings, readings, failures)
    price = np.asarray(prices(catalogue, ways, readings, failures))
    task = f"{names.skills[choice.skill]} x{choice.n}"
    if choice.goal == NO_SKILL:
        vital = vital_names[choice.until] if choice.until != NO_VITAL else ""
        return f"{task} to stay alive: " + (f"until {vital} is {settings.enough:g}" if vital else "nothing else is open")
    ranked = [place for place in np.argsort(price, kind="stable") if np.isfinite(price[place])]
    others = ", ".join(f"{names.skills[place]} {price[place]:.0f}" for place in ranked[1:4]) or "none"
    goal = names.skills[choice.goal]
    return f"{task} for {goal}: {int(ways.num_tasks[choice.goal])} tasks, price {price[choice.goal]:.0f}; next best: {others}"
