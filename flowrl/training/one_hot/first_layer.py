"""The first layer without its zeros: a one-hot row times a matrix is a row of the matrix.

While acting, every environment may belong to another expert, and each expert's first layer has thousands of rows. An
observation uses a few hundred of them, mostly the same ones at every step (grass, no item, lit). So the sum over a
*typical* observation is computed once per expert, and each environment adds the differences: a few dozen rows. The cost
depends on the differing fields and not on the number of experts, and the result is that of the plain product
(`ExpertNetwork.logits` and ``value``, its reference in the tests) except for the order of the sums. Any typical
observation gives the same result; a good one gives it faster.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from flowrl.envs.observations import Layout
from flowrl.training.learning.networks import Params

PATH = ("torso", "Dense_0")
"""The path of an actor's or a critic's first layer in its parameters."""

AT_ONCE = 4
"""Differing fields that one pass adds: fewer passes over the sums."""


def kernel_of(part: Params) -> jax.Array:
    """The first layer's kernel ``[..., O, H]`` of an actor or a critic."""
    return part[PATH[0]][PATH[1]]["kernel"]


def bias_of(part: Params) -> jax.Array:
    """The first layer's bias ``[..., H]`` of an actor or a critic."""
    return part[PATH[0]][PATH[1]]["bias"]


def with_kernel(part: Params, kernel: jax.Array) -> Params:
    """An actor's or a critic's parameters with another first kernel."""
    return put_in(part, kernel, bias_of(part))


def without(part: Params) -> Params:
    """An actor's or a critic's parameters without the first layer's."""
    return {**part, PATH[0]: {name: layer for name, layer in part[PATH[0]].items() if name != PATH[1]}}


def put_in(part: Params, kernel: jax.Array, bias: jax.Array) -> Params:
    """Puts back what `without` has left out."""
    return {**part, PATH[0]: {**part[PATH[0]], PATH[1]: {"kernel": kernel, "bias": bias}}}


def without_columns(params: Params, layout: Layout) -> Params:
    """Stacked parameters whose first kernels keep the rows of the scalars only; what `complete` needs."""
    return {name: with_kernel(part, kernel_of(part)[:, layout.num_columns :]) for name, part in params.items()}


def complete(part: Params, sums: jax.Array, scalars: jax.Array, product: Callable = jnp.matmul) -> jax.Array:
    """The first layer's outputs of one expert: the columns' sums ``[N, H]``, the scalars' product and the bias."""
    return sums + product(scalars, kernel_of(part)) + bias_of(part)


def typical_columns(columns: jax.Array) -> jax.Array:
    """For each field the most common column of ``columns [N, F]``, if most rows share one; uint16 ``[F]``."""
    return jnp.sort(columns, axis=0)[columns.shape[0] // 2]


def column_sums(
    kernel: jax.Array, columns: jax.Array, typical: jax.Array, expert: jax.Array, wanted: jax.Array, layout: Layout
) -> jax.Array:
    """The sum of the kernel's rows that each observation's columns name.

    Args:
        kernel: float ``[K, O, H]``, of ``K`` experts.
        columns: uint16 ``[B, F]``; ``layout.num_columns`` where a field shows nothing.
        typical: uint16 ``[F]``.
        expert: int32 ``[B]``, the expert whose kernel each row uses.
        wanted: bool ``[B]``; other rows get an arbitrary sum, and cost nothing.

    Returns:
        float ``[B, H]``.
    """
    differs = (columns != typical) & wanted[:, None]
    count = differs.sum(axis=1)
    field = listed(differs)
    in_use = jnp.arange(field.shape[1]) < count[:, None]
    own = jnp.pad(columns, ((0, 0), (0, 1)))[jnp.arange(len(columns))[:, None], field]
    usual = jnp.pad(typical, (0, 1))[field]
    added, dropped = (jnp.where(in_use, part, layout.num_columns).astype(jnp.int32) for part in (own, usual))
    rows_of = _row_reader(kernel, layout.num_columns)

    def add(number, sums):
        new, old = (jax.lax.dynamic_slice_in_dim(part, number * AT_ONCE, AT_ONCE, axis=1) for part in (added, dropped))
        for place in range(AT_ONCE):
            sums = sums + rows_of(expert, new[:, place]) - rows_of(expert, old[:, place])
        return sums

    everyone = jnp.arange(kernel.shape[0])
    base = rows_of(everyone[:, None], typical[None].astype(jnp.int32)).sum(axis=1)
    return jax.lax.fori_loop(0, -(-jnp.max(count) // AT_ONCE), add, base[expert])


def listed(chosen: jax.Array) -> jax.Array:
    """The chosen numbers of each row of bool ``[B, F]``, in order and from the left: int32 ``[B, F + padding]``."""
    num_rows, num_fields = chosen.shape
    width = max(1, -(-num_fields // AT_ONCE)) * AT_ONCE
    place = jnp.where(chosen, jnp.cumsum(chosen, axis=1) - 1, width)
    blank = jnp.full((num_rows, width), num_fields, jnp.int32)
    return blank.at[jnp.arange(num_rows)[:, None], place].set(jnp.arange(num_fields, dtype=jnp.int32), mode="drop")


def _row_reader(kernel: jax.Array, num_columns: int):
    """A function of experts and columns (the same shape) that gives the kernel's rows; 0 for no column."""
    num_experts, size, width = kernel.shape
    rows = kernel.reshape(num_experts * size, width)

    def read(expert, column):
        found = rows.at[expert * size + jnp.minimum(column, size - 1)].get(mode="promise_in_bounds")
        return jnp.where((column < num_columns)[..., None], found, 0.0)

    return read
