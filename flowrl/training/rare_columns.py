"""A first layer that treats each one-hot column by how often it is 1.

A matrix product costs as much for a column that is 1 in every thousandth sample as for one that is 1 in half of
them. Of the columns that a rollout shows, about half are 1 in less than a hundredth of its samples. So the kernel's
rows come in three kinds here: *dense* ones, in a plain product; *rare* ones, each added to the outputs of just those
samples that show it; and those of columns that are 1 *always*, added to all. The outputs and the gradients are those
of `ExpertNetwork.logits` and ``value`` (the reference in the tests) but for the order of the sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.observations import Layout, Observation
from flowrl.training import first_layer
from flowrl.training.networks import ExpertNetwork, Params


class SplitObservation(NamedTuple):
    """What agents see, with the rare columns apart."""

    dense: Observation
    """Fields ``[N, ...]``; a rare column, or one that is always 1, is shown by no field."""
    rare: jax.Array
    """uint16 ``[N, F]``: the numbers of the rare columns that are 1, from the left."""
    num_rare: jax.Array
    """int32 ``[N]``: how many these are."""


class SplitNetwork:
    """An `ExpertNetwork` for split observations; kernels have dense rows, then the others, then those of the scalars."""

    def __init__(self, network: ExpertNetwork, num_dense: int, always: jax.Array):
        """
        Args:
            network: the network that it computes.
            num_dense: the rows that are multiplied.
            always: bool ``[R]``, for each other row whether its column is 1 in every sample.
        """
        self._network = network
        self._layout = network.layout._replace(num_columns=num_dense)
        self._always = always

    def logits(self, params: Params, observation: SplitObservation) -> jax.Array:
        """``[N, num_actions]``."""
        return self._network.logits_after_first(params, self._first(params["actor"], observation))

    def value(self, params: Params, observation: SplitObservation) -> jax.Array:
        """``[N]``."""
        return self._network.value_after_first(params, self._first(params["critic"], observation))

    def _first(self, part: Params, observation: SplitObservation) -> jax.Array:
        kernel, num_dense = first_layer.kernel_of(part), self._layout.num_columns
        dense, others, scalars = jnp.split(kernel, [num_dense, num_dense + len(self._always)])
        product = self._network.product(self._layout.expand(observation.dense), jnp.concatenate([dense, scalars]))
        everywhere = self._always.astype(kernel.dtype) @ others + first_layer.bias_of(part)
        if not len(self._always):
            return product + everywhere
        return add_rows(product + everywhere, others, observation.rare, observation.num_rare)


def split(rare: jax.Array, num_rare_columns: int) -> tuple[jax.Array, jax.Array]:
    """The columns of ``rare [N, F]`` that are below ``num_rare_columns``, from the left, and how many each row has."""
    shown = rare < num_rare_columns
    fields = first_layer.listed(shown)
    columns = jnp.pad(rare, ((0, 0), (0, 1)))[jnp.arange(len(rare))[:, None], fields]
    return columns, shown.sum(axis=1, dtype=jnp.int32)


@jax.custom_vjp
def add_rows(sums: jax.Array, kernel: jax.Array, columns: jax.Array, count: jax.Array) -> jax.Array:
    """Adds to each sample's sums the rows of a kernel that it names, and is paid by the name.

    Args:
        sums: ``[N, H]``.
        kernel: ``[R, H]``.
        columns: integers ``[N, E]``; the first ``count`` of each sample are rows of the kernel.
        count: int32 ``[N]``.
    """
    return _for_each(count, lambda n, e, sums: sums.at[n].add(kernel[columns[n, e]]), sums)


def _forward(sums, kernel, columns, count):
    return add_rows(sums, kernel, columns, count), (kernel, columns, count)


def _backward(residuals, gradient):
    kernel, columns, count = residuals
    blank = jnp.zeros_like(kernel)
    of_kernel = _for_each(count, lambda n, e, total: total.at[columns[n, e]].add(gradient[n]), blank)
    return gradient, of_kernel, *(np.zeros(part.shape, jax.dtypes.float0) for part in (columns, count))


add_rows.defvjp(_forward, _backward)


def _for_each(count: jax.Array, change: Callable, value: jax.Array) -> jax.Array:
    """Calls ``change(sample, entry, value)`` for the first ``count [N]`` entries of each sample."""

    def one_sample(sample, value):
        return jax.lax.fori_loop(0, count[sample], lambda entry, value: change(sample, entry, value), value)

    return jax.lax.fori_loop(0, len(count), one_sample, value)
