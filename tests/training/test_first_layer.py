"""The first layer by rows of the kernel, against the plain product of one-hot observations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.training.learning import experts
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.one_hot import first_layer
from tests.training.columns import LAYOUT, random_observation

NUM_ROWS, NUM_EXPERTS = 24, 3
NETWORK = ExpertNetwork(LAYOUT, num_actions=4, layer_size=5)


@pytest.fixture(scope="module")
def params():
    init = jax.jit(NETWORK.init)
    fresh = experts.stack([init(jax.random.key(k)) for k in range(NUM_EXPERTS)])
    return jax.tree.map(lambda leaf: leaf + 0.1, fresh)  # biases that are not 0


def plain_sums(kernel, observation, expert):
    one_hot = np.asarray(LAYOUT.expand(observation))[:, : LAYOUT.num_columns]
    kernel = np.asarray(kernel)
    return np.stack([row @ kernel[k, : LAYOUT.num_columns] for row, k in zip(one_hot, expert)])


def test_expanding_sets_the_named_columns_and_keeps_the_scalars():
    observation = random_observation(np.random.default_rng(0), (NUM_ROWS,))
    expected = np.zeros((NUM_ROWS, LAYOUT.size), np.float32)
    for row, columns in enumerate(observation.columns):
        for column in columns[columns < LAYOUT.num_columns]:
            expected[row, column] = 1
    expected[:, LAYOUT.num_columns :] = observation.scalars
    np.testing.assert_array_equal(LAYOUT.expand(observation), expected)


@pytest.mark.parametrize("typical", ["median", "nothing", "first row", "of no use"])
def test_sums_of_rows_are_the_plain_product_for_any_typical_observation(params, typical):
    rng = np.random.default_rng(1)
    observation = random_observation(rng, (NUM_ROWS,))
    kernel = first_layer.kernel_of(params["actor"])
    expert = rng.integers(0, NUM_EXPERTS, NUM_ROWS).astype(np.int32)
    chosen = {
        "median": first_layer.typical_columns(observation.columns),
        "nothing": jnp.full(LAYOUT.num_fields, LAYOUT.num_columns, jnp.uint16),
        "first row": jnp.asarray(observation.columns[0]),
        "of no use": jnp.arange(LAYOUT.num_fields, dtype=jnp.uint16),
    }[typical]
    everyone = np.ones(NUM_ROWS, bool)
    found = jax.jit(first_layer.column_sums, static_argnums=5)(kernel, observation.columns, chosen, expert, everyone, LAYOUT)
    np.testing.assert_allclose(found, plain_sums(kernel, observation, expert), rtol=1e-5, atol=1e-5)


def test_rows_that_are_not_wanted_do_not_disturb_the_others(params):
    rng = np.random.default_rng(2)
    observation = random_observation(rng, (NUM_ROWS,))
    kernel = first_layer.kernel_of(params["critic"])
    expert = rng.integers(0, NUM_EXPERTS, NUM_ROWS).astype(np.int32)
    wanted = np.arange(NUM_ROWS) % 5 == 0
    found = first_layer.column_sums(kernel, observation.columns, observation.columns[1], expert, wanted, LAYOUT)
    np.testing.assert_allclose(found[wanted], plain_sums(kernel, observation, expert)[wanted], rtol=1e-5, atol=1e-5)


def test_the_whole_network_after_the_sums_is_the_network(params):
    rng = np.random.default_rng(3)
    observation = random_observation(rng, (NUM_ROWS,))
    expert = np.full(NUM_ROWS, 2, np.int32)
    own, rest = experts.select(params, 2), experts.select(first_layer.without_columns(params, LAYOUT), 2)
    sums = {
        part: plain_sums(np.asarray(first_layer.kernel_of(params[part])), observation, expert) for part in ("actor", "critic")
    }
    first = {part: first_layer.complete(rest[part], sums[part], observation.scalars) for part in sums}
    logits, value = NETWORK.logits_after_first(own, first["actor"]), NETWORK.value_after_first(own, first["critic"])
    np.testing.assert_allclose(logits, NETWORK.logits(own, observation), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value, NETWORK.value(own, observation), rtol=1e-4, atol=1e-5)


def test_a_typical_column_is_the_one_that_most_rows_have():
    columns = np.uint16([[3, 9, 1], [3, 2, 1], [4, 9, 40], [3, 9, 40], [3, 9, 40]])
    assert first_layer.typical_columns(jnp.asarray(columns)).tolist() == [3, 9, 40]
