"""Learning with the columns that were seen, and no others.

Of an observation's thousands of one-hot columns, a rollout shows a part: in Craftax's overworld about 1,500 of
8,217. The rows of the first layer that belong to the others meet nothing but zeros: they add nothing to an output,
and their gradient is exactly 0. So an update is done by `ppo.make_update` itself on a narrower network, whose first
layer has the rows that were seen, and is then put back into the whole one. The rows that were not seen do what Adam
does without a gradient (`optimiser.coast`). Outputs, gradients, their norm and every parameter are those of the
plain update but for the order of the sums.

The number of columns is bounded by one of few sizes, each a program of its own; a rollout that shows more than the
largest is learned from by the plain update.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from flowrl.envs.observations import Layout
from flowrl.training import first_layer, optimiser
from flowrl.training.networks import ExpertNetwork
from flowrl.training.ppo import Hyperparameters, Learner, Transition, make_update

SHARES = (1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4)
"""The bounds, as shares of the layout's columns."""

MULTIPLE_OF = 64


def bounds(layout: Layout) -> list[int]:
    """The numbers of columns for which there is a program, the smallest first; none for a layout without columns."""
    sizes = {-(-int(layout.num_columns * share) // MULTIPLE_OF) * MULTIPLE_OF for share in SHARES}
    return sorted(size for size in sizes if 0 < size < layout.num_columns)


def find(rollout: tuple[Transition, ...], layout: Layout) -> tuple[jax.Array, jax.Array]:
    """Which columns a rollout shows, bool ``[num_columns]``, and how many these are."""
    seen = jnp.zeros(layout.num_columns, bool)
    for step in rollout:
        seen = seen.at[step.observation.columns.astype(jnp.int32)].set(True, mode="drop")
    return seen, seen.sum()


def make_narrow_update(network: ExpertNetwork, hyper: Hyperparameters, num_experts: int, bound: int):
    """As `ppo.make_update`, with one more argument in front of ``last_values``: which columns the rollout shows.

    These must be ``bound`` at most.
    """
    layout = network.layout
    narrow_layout = layout._replace(num_columns=bound)
    update = make_update(network.with_layout(narrow_layout), hyper, num_experts)

    def narrow_update(learner: Learner, rollout: tuple[Transition, ...], active, last_values, key, lr):
        kept = jnp.nonzero(active, size=bound, fill_value=layout.num_columns)[0]
        place = jnp.where(active, jnp.cumsum(active) - 1, bound).astype(jnp.uint16)
        place = jnp.append(place, jnp.uint16(bound))
        narrow_rollout = tuple(_renumbered(step, place) for step in rollout)
        narrow, statistics = update(_narrowed(learner, kept, layout), narrow_rollout, last_values, key, lr)
        steps = optimiser.num_steps(narrow.optimiser_state) - optimiser.num_steps(learner.optimiser_state)
        coasted = optimiser.coast(learner, steps, lr, _is_first_kernel)
        return _widened(coasted, narrow, kept, layout), statistics

    return narrow_update


def _renumbered(step: Transition, place: jax.Array) -> Transition:
    columns = place[step.observation.columns.astype(jnp.int32)]
    return step._replace(observation=step.observation._replace(columns=columns))


def _narrowed(learner: Learner, kept: jax.Array, layout: Layout) -> Learner:
    """The learner with the kept rows of its first kernels, and those of the scalars."""

    def narrow(path, leaf):
        if not _is_first_kernel(path):
            return leaf
        rows = leaf.at[:, kept].get(mode="fill", fill_value=0.0)
        # A fill number lies outside of the columns, but not outside of the kernel: there the scalars' rows follow.
        rows = jnp.where((kept < layout.num_columns)[:, None], rows, 0.0)
        return jnp.concatenate([rows, leaf[:, layout.num_columns :]], axis=1)

    return jax.tree_util.tree_map_with_path(narrow, learner)


def _widened(whole: Learner, narrow: Learner, kept: jax.Array, layout: Layout) -> Learner:
    """What was learned, put back into the whole learner, whose other rows stay."""
    places = jnp.where(kept < layout.num_columns, kept, layout.size)  # out of the kernel: dropped

    def widen(path, old, new):
        if not _is_first_kernel(path):
            return new
        rows, scalars = new[:, : len(kept)], new[:, len(kept) :]
        return old.at[:, layout.num_columns :].set(scalars).at[:, places].set(rows, mode="drop")

    return jax.tree_util.tree_map_with_path(widen, whole, narrow)


def _is_first_kernel(path: tuple[Any, ...]) -> bool:
    names = [getattr(part, "key", None) for part in path]
    return tuple(names[-3:]) == (*first_layer.PATH, "kernel")
