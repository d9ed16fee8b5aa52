"""Learning with only the columns that were seen.

Of an observation's thousands of one-hot columns, a rollout shows a part: in Craftax's overworld about 1,500 of
8,217. The first layer's rows for the others are only multiplied by zeros: they add nothing to an output, and their
gradient is exactly 0. So an expert learns by `ppo.make_learning` itself in a narrower network, whose first layer has
the rows that were seen, and is then written back into the whole one. For the rows that were not seen, Adam makes its
steps without a gradient (`optimiser.coast`). Outputs, gradients, their norm and every parameter are those of the plain
update, except for the order of the sums.

The number of columns is bounded by one of a few sizes, each a separate program; a rollout that shows more than the
largest uses the plain update.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.observations import Layout, Observation
from flowrl.training.learning import optimiser
from flowrl.training.learning.networks import ExpertNetwork, Params
from flowrl.training.learning.ppo import Batch, Hyperparameters, Learner, Transition, make_batch, make_learning
from flowrl.training.one_hot import first_layer, rare_columns
from flowrl.training.one_hot.rare_columns import SplitNetwork, SplitObservation, split

SHARES = (3 / 16, 1 / 4, 3 / 8, 3 / 4)
"""The bounds, as shares of the layout's columns."""

MULTIPLE_OF = 64

DENSE_SHARE = 3 / 8
"""The share of a bound's columns that is multiplied."""

MOST_RARE = 4.0
"""If a sample shows more rare columns than this on average, a larger bound is cheaper."""


def bounds(layout: Layout) -> list[int]:
    """The numbers of columns for which there is a program, the smallest first; none for a layout without columns."""
    sizes = {-(-int(layout.num_columns * share) // MULTIPLE_OF) * MULTIPLE_OF for share in SHARES}
    return sorted(size for size in sizes if 0 < size < layout.num_columns)


class Columns(NamedTuple):
    """The columns of a rollout by how often they are shown."""

    order: jax.Array
    """int32 ``[num_columns]``: column numbers; the most frequent first, then those that every sample shows, then the
    unseen ones."""
    count: jax.Array
    """int32 ``[num_columns]``: the samples that show each column of ``order``."""
    num_samples: jax.Array
    """int32 scalar."""


def find(rollout: tuple[Transition, ...], layout: Layout) -> Columns:
    """The columns that a rollout shows."""
    count, num_samples = jnp.zeros(layout.num_columns, jnp.int32), 0
    for step in rollout:
        count = count.at[step.observation.columns.astype(jnp.int32)].add(1, mode="drop")
        num_samples += step.observation.columns.shape[0]
    # A column that is always 1 is cheap in its own way: see `rare_columns`.
    rank = jnp.where(count == num_samples, 0.5, count)
    order = jnp.argsort(-rank, stable=True).astype(jnp.int32)
    return Columns(order, count[order], jnp.int32(num_samples))


def demands(columns: Columns, layout: Layout) -> tuple[jax.Array, jax.Array]:
    """The figures that decide on a bound: how many columns are shown, and for each bound how many rare ones a sample shows.

    Returns:
        int32 scalar and float ``[number of bounds]``.
    """
    occasional = jnp.where(columns.count == columns.num_samples, 0, columns.count)
    rare = [jnp.sum(occasional[num_dense(bound) :]) for bound in bounds(layout)]
    return jnp.sum(columns.count > 0), jnp.stack(rare) / columns.num_samples


def smallest_bound(num_shown: int, num_rare: np.ndarray, layout: Layout) -> int | None:
    """The bound with the cheapest update; None if the whole network is to learn."""
    allowed = [(bound, rare) for bound, rare in zip(bounds(layout), num_rare, strict=True) if bound >= num_shown]
    cheap = [bound for bound, rare in allowed if rare <= MOST_RARE]
    return min(cheap, default=max((bound for bound, _ in allowed), default=None))


def num_dense(bound: int) -> int:
    """How many of a bound's columns are multiplied; the cost of the others depends on the samples that show them.

    A GPU multiplies them all: adding rows one by one is much slower there than multiplying.
    """
    return max(1, int(bound * DENSE_SHARE)) if jax.default_backend() == "cpu" else bound


class NarrowBatch(NamedTuple):
    """A batch to learn from, with only the columns that were seen."""

    batch: Batch
    """A batch with split observations."""
    kept: jax.Array
    """int32 ``[bound]``: the columns, the most frequent first; the layout's number of columns stands for no column."""
    always: jax.Array
    """bool ``[R]``: which of the columns that are not multiplied are 1 in every sample."""


def make_narrow_update(network: ExpertNetwork, hyper: Hyperparameters, num_experts: int, bound: int):
    """As `ppo.make_update`, with one more argument in front of ``last_values``: the columns that the rollout shows.

    There must be at most ``bound`` of these.
    """
    learn_from = make_narrow_learning(network, hyper, num_experts, bound)

    def narrow_update(learner: Learner, rollout: Transition, columns: Columns, last_values, key, lr):
        return learn_from(learner, narrow_batch(rollout, columns, last_values, key, network.layout, hyper, bound), lr)

    return narrow_update


def narrow_batch(
    rollout: Transition, columns: Columns, last_values, key, layout: Layout, hyper: Hyperparameters, bound: int
) -> NarrowBatch:
    """As `ppo.make_batch`, for `make_narrow_learning`."""
    dense = num_dense(bound)
    shown = columns.count[:bound] > 0
    kept = jnp.where(shown, columns.order[:bound], layout.num_columns)
    always = shown[dense:] & (columns.count[dense:bound] == columns.num_samples)
    place = _places(kept, always, dense, layout)
    # Step by step, because the intermediate arrays are larger than the result.
    observation = jax.lax.map(lambda step: _split(step, place, dense, bound), rollout.observation)
    return NarrowBatch(make_batch(rollout._replace(observation=observation), last_values, key, hyper), kept, always)


def make_narrow_learning(network: ExpertNetwork, hyper: Hyperparameters, num_experts: int, bound: int):
    """As `ppo.make_learning`; takes and returns whole experts."""
    layout, dense = network.layout, num_dense(bound)

    def learn_from(learner: Learner, narrow: NarrowBatch, lr):
        kept = narrow.kept
        unseen = jnp.ones(layout.size, bool).at[kept].set(False, mode="drop").at[layout.num_columns :].set(False)

        def around(learn, expert: Learner):
            learned, statistics = learn(
                _each_network(rare_columns.joined, _narrowed(expert, kept, layout), dense, bound - dense)
            )
            learned = _each_network(rare_columns.parted, learned, dense)
            steps = optimiser.num_steps(learned.optimiser_state) - optimiser.num_steps(expert.optimiser_state)
            coasted = optimiser.coast(*expert, steps, lr, lambda path: unseen if _is_first_kernel(path) else None)
            return _widened(Learner(*coasted), learned, kept, layout), statistics

        split_network = SplitNetwork(network, dense, narrow.always)
        return make_learning(split_network, hyper, num_experts, around)(learner, narrow.batch, lr)

    return learn_from


def _places(kept: jax.Array, always: jax.Array, dense: int, layout: Layout) -> jax.Array:
    """The narrow number of each column, int32 ``[num_columns + 1]``; ``len(kept)`` for a column that is left out."""
    numbers = jnp.arange(len(kept), dtype=jnp.int32)
    numbers = numbers.at[dense:].set(jnp.where(always, len(kept), numbers[dense:]))
    places = jnp.full(layout.num_columns + 1, len(kept), jnp.int32)
    return places.at[jnp.where(kept < layout.num_columns, kept, layout.num_columns + 1)].set(numbers, mode="drop")


def _split(observation: Observation, place: jax.Array, dense: int, bound: int) -> SplitObservation:
    columns = place[observation.columns.astype(jnp.int32)]
    multiplied = Observation(jnp.minimum(columns, dense).astype(jnp.uint16), observation.scalars)
    rare = jnp.where(columns >= dense, columns - dense, bound).astype(jnp.uint16)
    return SplitObservation(multiplied, *split(rare, bound - dense))


def _narrowed(expert: Learner, kept: jax.Array, layout: Layout) -> Learner:
    """An expert's learner with the kept rows of its first kernels, and those of the scalars."""

    def narrow(path, leaf):
        if not _is_first_kernel(path):
            return leaf
        rows = leaf.at[kept].get(mode="fill", fill_value=0.0)
        # A fill number lies outside of the columns, but not outside of the kernel: there the scalars' rows follow.
        rows = jnp.where((kept < layout.num_columns)[:, None], rows, 0.0)
        return jnp.concatenate([rows, leaf[layout.num_columns :]])

    return jax.tree_util.tree_map_with_path(narrow, expert)


def _widened(whole: Learner, narrow: Learner, kept: jax.Array, layout: Layout) -> Learner:
    """Writes what was learned back into the expert's whole learner, whose other rows stay."""
    places = jnp.where(kept < layout.num_columns, kept, layout.size)  # outside the kernel: dropped

    def widen(path, old, new):
        if not _is_first_kernel(path):
            return new
        rows, scalars = new[: len(kept)], new[len(kept) :]
        return old.at[layout.num_columns :].set(scalars).at[places].set(rows, mode="drop")

    return jax.tree_util.tree_map_with_path(widen, whole, narrow)


def _each_network(change: Callable[..., Params], expert: Learner, *others) -> Learner:
    """An expert's learner, with its parameters and each of its moments changed."""

    def is_network(tree) -> bool:
        return isinstance(tree, dict)

    return jax.tree.map(lambda part: change(part, *others) if is_network(part) else part, expert, is_leaf=is_network)


def _is_first_kernel(path: tuple[Any, ...]) -> bool:
    names = [getattr(part, "key", None) for part in path]
    return tuple(names[-3:]) == (*first_layer.PATH, "kernel")
