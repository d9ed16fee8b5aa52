"""A first layer that treats each one-hot column by how often it is 1.

A matrix product costs as much for a column that is 1 in every thousandth sample as for one that is 1 in half of
them. Of the columns that a rollout shows, about half are 1 in less than a hundredth of its samples. So the kernel's
rows come in three kinds here: *dense* ones, in a plain product; *rare* ones, each added to the outputs of just those
samples that show it; and those of columns that are 1 *always*, added to all. The outputs and the gradients are those
of `ExpertNetwork.logits` and ``value`` (the reference in the tests) except for the order of the sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.observations import Observation
from flowrl.training.learning.networks import ExpertNetwork, Params
from flowrl.training.one_hot import first_layer

NETWORKS = "actor", "critic"

FIRST = "first"
"""The name of the first layer that actor and critic share here."""


class SplitObservation(NamedTuple):
    """An observation with the rare columns stored separately."""

    dense: Observation
    """Fields ``[N, ...]``; no field shows a rare column, or one that is always 1."""
    rare: jax.Array
    """uint16 ``[N, F]``: the numbers of the rare columns that are 1, from the left."""
    num_rare: jax.Array
    """int32 ``[N]``: how many there are."""


class SplitNetwork:
    """An `ExpertNetwork` for split observations. The first layers of its actor and its critic are one: see `joined`."""

    def __init__(self, network: ExpertNetwork, num_dense: int, always: jax.Array):
        """
        Args:
            network: the network to compute.
            num_dense: the number of rows that are multiplied.
            always: bool ``[R]``, for each other row whether its column is 1 in every sample.
        """
        self._network = network
        self._layout = network.layout._replace(num_columns=num_dense)
        self._always = jnp.argsort(~always, stable=True), jnp.sum(always, dtype=jnp.int32)

    def logits_and_value(self, params: Params, observation: SplitObservation) -> tuple[jax.Array, jax.Array]:
        """Logits ``[N, num_actions]`` and values ``[N]`` of ``N`` observations; parameters are `joined`."""
        layer = params[FIRST]
        first = self._network.product(self._layout.expand(observation.dense), layer["dense"]) + layer["bias"]
        if len(layer["others"]):
            first = add_rows(first, layer["others"], *self._always, observation.rare, observation.num_rare)
        for_actor, for_critic = jnp.split(first, 2, axis=1)
        return self._network.logits_after_first(params, for_actor), self._network.value_after_first(params, for_critic)


def joined(params: Params, num_dense: int, num_others: int) -> Params:
    """An expert's parameters with the first layers of actor and critic joined into one of twice the width.

    Two layers are one product, and each rare column is added once for both. Its kernel is in two parts, so that nothing
    has to be sliced or concatenated at each step: ``dense`` (the dense rows, and those of the scalars) and ``others``.

    Args:
        params: their first kernels have ``num_dense`` dense rows, then ``num_others`` others, then those of the scalars.
    """
    parts = [params[name] for name in NETWORKS]
    kernel = jnp.concatenate([first_layer.kernel_of(part) for part in parts], axis=1)
    dense, others, scalars = jnp.split(kernel, [num_dense, num_dense + num_others])
    bias = jnp.concatenate([first_layer.bias_of(part) for part in parts])
    first = {"dense": jnp.concatenate([dense, scalars]), "others": others, "bias": bias}
    return {FIRST: first, **{name: first_layer.without(params[name]) for name in NETWORKS}}


def parted(params: Params, num_dense: int) -> Params:
    """Undoes `joined`."""
    dense, scalars = jnp.split(params[FIRST]["dense"], [num_dense])
    kernel = jnp.concatenate([dense, params[FIRST]["others"], scalars])
    layers = zip(NETWORKS, jnp.split(kernel, 2, axis=1), jnp.split(params[FIRST]["bias"], 2), strict=True)
    return {name: first_layer.put_in(params[name], kernel, bias) for name, kernel, bias in layers}


def split(rare: jax.Array, num_rare_columns: int) -> tuple[jax.Array, jax.Array]:
    """The columns of ``rare [N, F]`` that are below ``num_rare_columns``, from the left, and how many each row has."""
    shown = rare < num_rare_columns
    fields = first_layer.listed(shown)
    columns = jnp.pad(rare, ((0, 0), (0, 1)))[jnp.arange(len(rare))[:, None], fields]
    return columns, shown.sum(axis=1, dtype=jnp.int32)


@jax.custom_vjp
def add_rows(
    sums: jax.Array, kernel: jax.Array, always: jax.Array, num_always: jax.Array, columns: jax.Array, count: jax.Array
) -> jax.Array:
    """Adds the kernel rows that each sample names to its sums, and those that all samples name; the cost is per name.

    Args:
        sums: ``[N, H]``.
        kernel: ``[R, H]``.
        always: int32 ``[R]``; the first ``num_always`` are rows that every sample names.
        columns: integers ``[N, E]``; the first ``count`` of each sample are rows of the kernel.
        count: int32 ``[N]``.
    """
    of_all = jax.lax.fori_loop(0, num_always, lambda e, total: total + kernel[always[e]], jnp.zeros_like(kernel[0]))
    return _for_each(count, lambda n, e, sums: sums.at[n].add(kernel[columns[n, e]]), sums + of_all)


def _forward(sums, kernel, *named):
    return add_rows(sums, kernel, *named), (kernel, *named)


def _backward(residuals, gradient):
    kernel, always, num_always, columns, count = residuals
    of_all = jnp.sum(gradient, axis=0)
    total = jax.lax.fori_loop(0, num_always, lambda e, total: total.at[always[e]].add(of_all), jnp.zeros_like(kernel))
    total = _for_each(count, lambda n, e, total: total.at[columns[n, e]].add(gradient[n]), total)
    return gradient, total, *(np.zeros(part.shape, jax.dtypes.float0) for part in residuals[1:])


add_rows.defvjp(_forward, _backward)


def _for_each(count: jax.Array, change: Callable, value: jax.Array) -> jax.Array:
    """Calls ``change(sample, entry, value)`` for the first ``count [N]`` entries of each sample."""

    def one_sample(sample, value):
        return jax.lax.fori_loop(0, count[sample], lambda entry, value: change(sample, entry, value), value)

    return jax.lax.fori_loop(0, len(count), one_sample, value)
