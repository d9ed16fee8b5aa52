"""Rows added by name, against the plain product; and a split network, against the whole one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowrl.envs.observations import Observation
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.one_hot import first_layer
from flowrl.training.one_hot.rare_columns import SplitNetwork, SplitObservation, add_rows, joined, parted, split
from tests.training.columns import LAYOUT, random_observation

ROWS, WIDTH = 6, 3


def as_matrix(always, num_always, columns, count):
    of_all = np.bincount(always[:num_always], minlength=ROWS)
    return np.stack([of_all + np.bincount(row[:n], minlength=ROWS) for row, n in zip(columns, count)]).astype(np.float32)


@jax.jit
def named(sums, kernel, *names):
    return add_rows(sums, kernel, *names), jax.grad(lambda both: jnp.sum(jnp.sin(add_rows(*both, *names))))((sums, kernel))


@jax.jit
def multiplied(sums, kernel, matrix):
    return sums + matrix @ kernel, jax.grad(lambda both: jnp.sum(jnp.sin(both[0] + matrix @ both[1])))((sums, kernel))


@given(seed=st.integers(0, 2**16), most=st.integers(0, 5), num_always=st.integers(0, ROWS))
@settings(max_examples=60, deadline=None)
def test_rows_added_by_name_are_the_product_with_the_matrix(seed, most, num_always):
    rng = np.random.default_rng(seed)
    sums, kernel = rng.normal(size=(4, WIDTH)).astype(np.float32), rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    always = rng.permutation(ROWS).astype(np.int32)
    columns, count = rng.integers(0, ROWS, (4, 5)), rng.integers(0, most + 1, 4).astype(np.int32)
    found = named(sums, kernel, always, np.int32(num_always), columns.astype(np.uint16), count)
    expected = multiplied(sums, kernel, as_matrix(always, num_always, columns, count))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5), found, expected)


def test_rare_columns_move_to_the_left():
    rare = jnp.asarray([[9, 3, 9, 0, 5], [9, 9, 9, 9, 9], [1, 2, 3, 4, 0]], jnp.uint16)
    columns, count = split(rare, 6)
    assert count.tolist() == [2 + 1, 0, 5]
    assert [row[:n].tolist() for row, n in zip(columns, count)] == [[3, 0, 5], [], [1, 2, 3, 4, 0]]


@pytest.mark.parametrize("num_dense", [1, 4, 9])
def test_a_split_network_is_the_whole_one(num_dense):
    """Ten columns: the last is always shown, the others from ``num_dense`` on are rare."""
    layout = LAYOUT._replace(num_columns=10)
    network, rng = ExpertNetwork(layout, num_actions=4, layer_size=5), np.random.default_rng(num_dense)
    params = network.init(jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf + 0.3 * rng.normal(size=leaf.shape), jnp.float32), params)
    columns = np.argsort(rng.random((6, 9)), axis=1)[:, :5]
    scalars = jnp.asarray(rng.normal(size=(6, 3)), jnp.float32)
    whole = Observation(jnp.asarray(np.pad(columns, ((0, 0), (0, 1)), constant_values=9), jnp.uint16), scalars)
    dense = Observation(jnp.asarray(np.minimum(columns, num_dense), jnp.uint16), scalars)
    rare = jnp.asarray(np.where(columns >= num_dense, columns - num_dense, 99), jnp.uint16)
    shown = SplitObservation(dense, *split(rare, 10 - num_dense))
    always = jnp.zeros(10 - num_dense, bool).at[-1].set(True)
    parts = SplitNetwork(network, num_dense, always)

    def outputs(params):
        """The split network's, from the parameters of the whole one."""
        return parts.logits_and_value(joined(params, num_dense, 10 - num_dense), shown)

    def total(logits, value):
        return jnp.sum(jnp.sin(logits)) + jnp.sum(jnp.cos(value))

    expected = network.logits(params, whole), network.value(params, whole)
    assert_close(outputs(params), expected)
    assert_close(network.logits_and_value(params, whole), expected)
    found = jax.grad(lambda params: total(*outputs(params)))(params)
    expected = jax.grad(lambda params: total(network.logits(params, whole), network.value(params, whole)))(params)
    assert_close(found, expected, rtol=1e-4)
    assert np.abs(first_layer.kernel_of(found["actor"])).min() > 0


def assert_close(found, expected, rtol=1e-5, atol=1e-5):
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=rtol, atol=atol), found, expected)


def test_a_network_without_rare_columns_is_the_plain_one():
    network, rng = ExpertNetwork(LAYOUT, num_actions=4, layer_size=5), np.random.default_rng(0)
    params = network.init(jax.random.key(0))
    whole = jax.tree.map(jnp.asarray, random_observation(rng, (6,)))
    nothing = split(jnp.full((6, LAYOUT.num_fields), 99, jnp.uint16), 0)
    parts = SplitNetwork(network, LAYOUT.num_columns, jnp.zeros(0, bool))
    found = parts.logits_and_value(joined(params, LAYOUT.num_columns, 0), SplitObservation(whole, *nothing))
    assert_close(found, (network.logits(params, whole), network.value(params, whole)), atol=1e-6)


@pytest.mark.parametrize("num_dense", [0, 4, LAYOUT.num_columns])
def test_joined_layers_come_apart_bit_for_bit(num_dense):
    params = ExpertNetwork(LAYOUT, num_actions=4, layer_size=5).init(jax.random.key(0))
    first = joined(params, num_dense, LAYOUT.num_columns - num_dense)["first"]
    assert [len(first["dense"]), len(first["others"])] == [num_dense + LAYOUT.num_scalars, LAYOUT.num_columns - num_dense]
    again = parted(joined(params, num_dense, LAYOUT.num_columns - num_dense), num_dense)
    jax.tree.map(np.testing.assert_array_equal, again, params)
