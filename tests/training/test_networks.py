from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.observations import Layout, dense
from flowrl.training.learning.networks import ExpertNetwork

NETWORK = ExpertNetwork(Layout(num_columns=0, num_fields=0, num_scalars=6), num_actions=3, layer_size=5)
init = jax.jit(NETWORK.init)


def plain_forward(params, observation):
    hidden = observation
    for layer in ("Dense_0", "Dense_1"):
        hidden = np.tanh(hidden @ params["torso"][layer]["kernel"] + params["torso"][layer]["bias"])
    return hidden @ params["head"]["kernel"] + params["head"]["bias"]


def test_actor_and_critic_are_plain_tanh_networks():
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.1), init(jax.random.key(0)))
    observation = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    np.testing.assert_allclose(
        NETWORK.logits(params, dense(observation)), plain_forward(params["actor"], observation), rtol=1e-5
    )
    np.testing.assert_allclose(
        NETWORK.value(params, dense(observation)), plain_forward(params["critic"], observation)[:, 0], rtol=1e-5
    )


def test_fresh_experts_act_nearly_uniformly_and_differ_by_key():
    observation = dense(jax.random.normal(jax.random.key(1), (50, 6)))
    params = init(jax.random.key(0))
    probabilities = jax.nn.softmax(NETWORK.logits(params, observation))
    assert abs(probabilities - 1 / 3).max() < 0.02
    other = init(jax.random.key(2))
    assert not jnp.allclose(NETWORK.value(params, observation), NETWORK.value(other, observation))


def test_the_value_does_not_depend_on_the_actor():
    params = init(jax.random.key(0))
    gradient = jax.grad(lambda params: NETWORK.value(params, dense(jnp.ones((1, 6))))[0])(params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient["actor"]))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient["critic"]))
