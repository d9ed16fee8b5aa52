"""What a planner reads off the features of a state, as the game declares it: levels, vitals, what is in view, why it is over.

Declarations are expressions of the game's own (`flowrl.skills.facts`), so reading them is tracing them. All functions are
for one environment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flowrl.envs.adapter import GameAdapter
from flowrl.envs.features import Features
from flowrl.skills.sights import Sight

OTHER = "other"
"""The reason for a game that is over where no declared one holds."""


class Readings(NamedTuple):
    """What a planner knows of where an environment is."""

    levels: jax.Array
    """float32 ``[R]``: of each resource asked for, how much is held; 1 or 0 of what is held or not."""
    vitals: jax.Array
    """float32 ``[V]``: of each declared vital."""
    goals: jax.Array
    """bool ``[A]``: which achievements are unlocked."""
    seen: jax.Array
    """bool ``[K]``: of each kind of thing asked for, whether one is in view."""
    is_busy: jax.Array
    """bool: the player does not act at the moment."""


def goal_names(adapter: GameAdapter) -> tuple[str, ...]:
    """The achievements of a game, in the order of `Readings.goals`; none where it declares no goals."""
    return adapter.facts.members(adapter.facts.goals)


def make_reader(adapter: GameAdapter, resources: Sequence[str], sights: Sequence[Sight] = ()) -> Callable[[Features], Readings]:
    """The function that reads the state of one environment.

    Args:
        resources: those whose levels are wanted.
        sights: the kinds of things that may be in view.

    Raises:
        BadInput: the game has no such resource.
    """
    facts = adapter.facts
    goals = [f"{facts.goals}:{member}" for member in goal_names(adapter)]
    read_levels = make_level_reader(adapter, resources)

    def read(features: Features) -> Readings:
        return Readings(
            levels=read_levels(features),
            vitals=_row([value_of(vital.level, features, adapter) for vital in facts.vitals], jnp.float32),
            goals=_row([_level(features, goal, adapter) for goal in goals], bool),
            seen=_row([_is_seen(features, sight, adapter) for sight in sights], bool),
            is_busy=jnp.asarray(value_of(facts.busy or "False", features, adapter)).astype(bool),
        )

    return read


def make_level_reader(adapter: GameAdapter, resources: Sequence[str]) -> Callable[[Features], jax.Array]:
    """The function that reads of each resource how much is held, float32 ``[R]``; see `Readings.levels`.

    Raises:
        BadInput: the game has no such resource.
    """
    for resource in resources:
        adapter.facts.kind(resource)
    return lambda features: _row([_level(features, resource, adapter) for resource in resources], jnp.float32)


def _level(features: Features, resource: str, adapter: GameAdapter) -> jax.Array:
    if family := adapter.facts.family_of(resource):
        return value_of(family.written(family.held, resource), features, adapter)
    return jnp.sum(getattr(features.inventory, resource))


def ending_names(adapter: GameAdapter) -> tuple[str, ...]:
    """The reasons for which a game can be over, in the order of `make_ending`'s numbers."""
    return (*(ending.name for ending in adapter.facts.endings), OTHER)


def make_ending(adapter: GameAdapter) -> Callable[[Features], jax.Array]:
    """The function that says why the game is over, from the last state's features: int32, a number of `ending_names`."""
    endings = adapter.facts.endings

    def ending(features: Features) -> jax.Array:
        holds = [value_of(each.holds, features, adapter) for each in endings]
        return jnp.argmax(_row([*holds, True], bool)).astype(jnp.int32)

    return ending


def make_own_reward(adapter: GameAdapter) -> Callable[[Any], jax.Array]:
    """The game's own reward for a step, float32, from what the step offers (`features.task_inputs`); 0 if it declares none."""
    code = adapter.facts.own_reward or "0.0"
    return lambda inputs: jnp.asarray(value_of(code, inputs, adapter)).astype(jnp.float32)


def value_of(code: str, known: Any, adapter: GameAdapter):
    """The value of an expression that the game declares over features of one state, or over what a step offers."""
    return eval(code, {"__builtins__": {}, **adapter.scope}, known._asdict())


def _is_seen(features: Features, sight: Sight, adapter: GameAdapter) -> jax.Array:
    constant, member = sight
    declared = next(each for each in adapter.facts.sights if each.constant == constant)
    offsets = getattr(features, declared.feature)[adapter.scope[constant][member].value]
    return jnp.all(jnp.abs(offsets) < declared.not_in_view)


def _row(values: Sequence, dtype) -> jax.Array:
    return jnp.stack([jnp.asarray(value).astype(dtype).reshape(()) for value in values]) if values else jnp.zeros(0, dtype)
