"""What a skill's code may use: the features of one game state, and of one step, as the game declares them.

`Features` are read from a single state; `task_inputs` gives ``task_is_done`` and ``task_reward`` a step from one state
to the next, under the names of their parameters. All are NamedTuples of fixed shape, so that the large compiled
programs (the game, the features, the networks) do not depend on any skill's code.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from flowrl.skills.facts import COUNT, Feature, OverStep, Penalty

Declared = tuple[Feature | Penalty, ...]


class Features:
    """The features of one game state: a NamedTuple with a field for each declared `Feature` (see `features_type`).

    A field is an array, or a pytree of them, with a leading ``[B]`` if batched. Numbers are int32 or float32.
    """

    __slots__ = ()
    declared: Declared = ()

    def __reduce__(self):
        return _restored, (self.declared, tuple(self))


@cache
def features_type(declared: Declared) -> type[Features]:
    """The NamedTuple for a game that declares these features; the same type each time."""
    fields = namedtuple("Features", [feature.name for feature in declared if isinstance(feature, Feature)])
    return type("Features", (Features, fields), {"__slots__": (), "declared": declared})


def _restored(declared: Declared, values: Sequence[Any]) -> Features:
    return features_type(declared)(*values)


def task_inputs(before: Features, after: Features, n: jax.Array | int) -> Any:
    """The inputs of a skill's code for the step from ``before`` to ``after``, for one environment.

    Returns:
        a NamedTuple with a field for each parameter that a skill's functions may have: the facts' ``feature_names``.
    """
    offered: dict[str, Any] = {}
    for feature in after.declared:
        if isinstance(feature, Penalty):
            offered[feature.name] = _penalty(feature, before, after)
            continue
        earlier, later = getattr(before, feature.name), getattr(after, feature.name)
        offered[feature.name] = later
        if feature.over_step is OverStep.BEFORE:
            offered[feature.step_name] = earlier
        elif feature.over_step is OverStep.CHANGE:
            offered[feature.step_name] = jax.tree.map(_change, earlier, later)
    offered[COUNT] = jnp.asarray(n, jnp.int32)
    return _inputs_type(tuple(offered))(**offered)


@cache
def _inputs_type(names: tuple[str, ...]) -> type[tuple]:
    return namedtuple("TaskInputs", names)


def _change(before: jax.Array, after: jax.Array) -> jax.Array:
    return after & ~before if jnp.asarray(after).dtype == bool else after - before


def _penalty(penalty: Penalty, before: Features, after: Features) -> jax.Array:
    change = getattr(after, penalty.feature)[penalty.entry] - getattr(before, penalty.feature)[penalty.entry]
    return penalty.weight * jnp.minimum(change, 0).astype(jnp.float32)
