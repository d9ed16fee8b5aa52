"""PPO over experts, against plain loops: a dictionary of parameters an expert, and one expert after the other."""

from __future__ import annotations

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.flatten_util import ravel_pytree

from flowrl.envs.observations import Layout, dense
from flowrl.training.learning import experts, learning_blocks, optimiser, ppo
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Hyperparameters, Learner, Samples, Transition

STEPS, ENVS, ROWS = 5, 8, 40
OBSERVATION, ACTIONS = 3, 4
NETWORK = ExpertNetwork(Layout(0, 0, OBSERVATION), ACTIONS, layer_size=5)
HYPER = Hyperparameters(
    gamma=0.9, gae_lambda=0.8, max_grad_norm=0.3, update_epochs=2, num_minibatches=2, block_size=8, ent_coef=0.05
)
LR = 0.01


@functools.cache
def fresh_experts():
    init = jax.jit(NETWORK.init)
    return [init(jax.random.key(100 + k)) for k in range(NUM_EXPERTS)]


def fresh_learner():
    stacked = experts.stack(fresh_experts())
    return Learner(stacked, optimiser.init(optimiser.make(HYPER.max_grad_norm), stacked))


def random_rollout(expert, seed=0):
    """A rollout [T, B] as numpy: the given owners, some tasks completed, some truncated, any old policy."""
    rng = np.random.default_rng(seed)
    continues = rng.random((STEPS, ENVS)) < 0.7
    truncated = ~continues & (rng.random((STEPS, ENVS)) < 0.5)
    return Transition(
        observation=dense(rng.normal(size=(STEPS, ENVS, OBSERVATION))),
        action=rng.integers(0, ACTIONS, (STEPS, ENVS)).astype(np.int32),
        log_prob=(-1.4 + 0.4 * rng.normal(size=(STEPS, ENVS))).astype(np.float32),
        value=rng.normal(size=(STEPS, ENVS)).astype(np.float32),
        expert=np.broadcast_to(expert, (STEPS, ENVS)).astype(np.int32),
        reward=rng.normal(size=(STEPS, ENVS)).astype(np.float32),
        continues=continues,
        truncation_value=np.where(truncated, rng.normal(size=(STEPS, ENVS)), 0).astype(np.float32),
    )


NUM_EXPERTS, PADDED = 3, 4
update = jax.jit(ppo.make_update(NETWORK, HYPER, PADDED))


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


# The reference: plain loops.


def plain_advantages(rollout, last_values):
    advantages = np.zeros((STEPS, ENVS))
    for env in range(ENVS):
        following = 0.0
        for step in reversed(range(STEPS)):
            if rollout.continues[step, env]:
                next_value = last_values[env] if step == STEPS - 1 else rollout.value[step + 1, env]
                carried = HYPER.gamma * HYPER.gae_lambda * following
            else:
                next_value, carried = rollout.truncation_value[step, env], 0.0
            following = rollout.reward[step, env] + HYPER.gamma * next_value - rollout.value[step, env] + carried
            advantages[step, env] = following
    return advantages


def plain_loss(params, observation, action, old_log_prob, old_value, advantage, target):
    """The loss of one expert on one sample, and its parts."""
    logits = NETWORK.logits(params, dense(observation[None]))[0]
    all_log_probs = logits - jnp.log(jnp.sum(jnp.exp(logits)))
    ratio = jnp.exp(all_log_probs[action] - old_log_prob)
    bounded = jnp.minimum(jnp.maximum(ratio, 1 - HYPER.clip_eps), 1 + HYPER.clip_eps)
    policy = jnp.maximum(-ratio * advantage, -bounded * advantage)
    value = NETWORK.value(params, dense(observation[None]))[0]
    near = jnp.minimum(jnp.maximum(value, old_value - HYPER.clip_eps), old_value + HYPER.clip_eps)
    critic = jnp.maximum((value - target) ** 2, (near - target) ** 2) / 2
    entropy = -jnp.sum(jnp.exp(all_log_probs) * all_log_probs)
    loss = policy + HYPER.vf_coef * critic - HYPER.ent_coef * entropy
    return loss, jnp.stack([policy, critic, entropy])


@jax.jit
def plain_gradient(params, *sample):
    gradient, parts = jax.grad(plain_loss, has_aux=True)(params, *sample)
    return ravel_pytree(gradient)[0], parts


class PlainExpert:
    """One expert as a flat array, with its own Adam."""

    def __init__(self, params):
        flat, self._unravel = ravel_pytree(params)
        self.flat = np.asarray(flat, np.float64)
        self.steps, self.mean, self.square = 0, 0.0, 0.0

    @property
    def params(self):
        return self._unravel(jnp.asarray(self.flat, jnp.float32))

    def learn(self, samples):
        """A step on the mean loss over some samples; returns the means of the loss's parts."""
        params = self.params
        gradients, parts = zip(*[plain_gradient(params, *sample) for sample in samples])
        gradient = np.mean(gradients, axis=0, dtype=np.float64)
        gradient *= min(1.0, HYPER.max_grad_norm / np.linalg.norm(gradient))
        self.steps += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        mean, square = self.mean / (1 - 0.9**self.steps), self.square / (1 - 0.999**self.steps)
        self.flat = self.flat - LR * mean / (np.sqrt(square) + 1e-5)
        return np.mean(parts, axis=0)


def plain_update(all_params, rollout, last_values, key):
    """The update, an expert and a sample at a time; returns the experts and the means of the losses' parts."""
    learning = [PlainExpert(params) for params in all_params]
    advantages = plain_advantages(rollout, last_values).reshape(-1)
    flat = jax.tree.map(lambda leaf: leaf.reshape(ROWS, *leaf.shape[2:]), rollout)
    target = (advantages + flat.value).astype(np.float32)
    seen = np.full((HYPER.update_epochs, HYPER.num_minibatches, len(learning), 3), np.nan)
    for epoch, shuffle_key in enumerate(jax.random.split(key, HYPER.update_epochs)):
        order = np.asarray(jax.random.permutation(shuffle_key, ROWS)).reshape(HYPER.num_minibatches, -1)
        for number, rows in enumerate(order):
            for k, expert in enumerate(learning):
                own = rows[flat.expert[rows] == k]
                if len(own) == 0:
                    continue
                normal = (advantages[own] - advantages[own].mean()) / (advantages[own].std() + 1e-8)
                seen[epoch, number, k] = expert.learn(
                    [
                        (
                            flat.observation.scalars[row],
                            flat.action[row],
                            flat.log_prob[row],
                            flat.value[row],
                            advantage,
                            target[row],
                        )
                        for row, advantage in zip(own, normal.astype(np.float32))
                    ]
                )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an expert that never acted
        return [expert.params for expert in learning], np.nan_to_num(np.nanmean(seen, axis=(0, 1)))


CELLS = np.arange(STEPS * ENVS).reshape(STEPS, ENVS)
OWNERS = {
    "one expert": np.zeros((STEPS, ENVS), int),
    "balanced": CELLS % NUM_EXPERTS,
    "skewed": np.where(CELLS < ROWS - 5, 2, 0),
    "one sample": CELLS // (ROWS - 1),
}


@pytest.mark.parametrize("owners", OWNERS)
def test_an_update_agrees_with_plain_loops(owners):
    expert = OWNERS[owners]
    rollout = random_rollout(expert)
    last_values = np.random.default_rng(9).normal(size=ENVS).astype(np.float32)
    key = jax.random.key(3)
    learner, statistics = update(fresh_learner(), rollout, last_values, key, LR)
    expected, parts = plain_update(fresh_experts(), rollout, last_values, key)

    for k, (found, wanted) in enumerate(zip(experts.unstack(learner.params, NUM_EXPERTS), expected, strict=True)):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-5), found, wanted)
        moved = jax.tree.map(lambda new, old: np.abs(new - old).max(), found, fresh_experts()[k])
        assert (max(jax.tree.leaves(moved)) > LR / 2) == (expert == k).any()
        found_parts = [statistics.policy_loss[k], statistics.value_loss[k], statistics.entropy[k]]
        np.testing.assert_allclose(found_parts, parts[k], rtol=2e-3, atol=2e-5)


def test_an_expert_without_samples_stays_bit_identical_through_updates():
    all_act = random_rollout(OWNERS["balanced"])
    only_first = random_rollout(OWNERS["one expert"], seed=1)
    before, _ = update(fresh_learner(), all_act, jnp.zeros(ENVS), jax.random.key(0), LR)
    after, statistics = update(before, only_first, jnp.zeros(ENVS), jax.random.key(1), LR)
    for idle in (1, 2):
        assert bits(experts.select(after, idle)) == bits(experts.select(before, idle))
        assert [float(part[idle]) for part in statistics] == [0.0] * 5
    assert bits(experts.select(after, 0)) != bits(experts.select(before, 0))


def test_an_experts_learning_does_not_depend_on_the_others_samples():
    expert = OWNERS["balanced"]
    rollout = random_rollout(expert)._replace(continues=np.zeros((STEPS, ENVS), bool))
    changed = random_rollout(expert, seed=7)

    def only_others(mine, theirs):
        mask = (expert != 0).reshape(STEPS, ENVS, *[1] * (mine.ndim - 2))
        return np.where(mask, theirs, mine)

    other = jax.tree.map(only_others, rollout, changed)._replace(continues=rollout.continues)
    first, _ = update(fresh_learner(), rollout, jnp.zeros(ENVS), jax.random.key(0), LR)
    second, _ = update(fresh_learner(), other, jnp.zeros(ENVS), jax.random.key(0), LR)
    assert bits(experts.select(first, 0)) == bits(experts.select(second, 0))
    assert bits(experts.select(first, 1)) != bits(experts.select(second, 1))


def random_samples(expert):
    rng = np.random.default_rng(5)
    return Samples(
        observation=dense(rng.normal(size=(ROWS, OBSERVATION))),
        action=jnp.asarray(rng.integers(0, ACTIONS, ROWS), jnp.int32),
        log_prob=jnp.asarray(-1.4 + 0.3 * rng.normal(size=ROWS), jnp.float32),
        value=jnp.asarray(rng.normal(size=ROWS), jnp.float32),
        expert=jnp.asarray(expert, jnp.int32),
        advantage=jnp.asarray(rng.normal(size=ROWS), jnp.float32),
        target=jnp.asarray(rng.normal(size=ROWS), jnp.float32),
    )


@jax.jit
def both_gradients(stacked, samples, rows):
    """Gradients of a minibatch by blocks (through `ppo.learn`), and by computing everything and masking."""
    return by_blocks(stacked, samples, rows), by_mask(stacked, jax.tree.map(lambda leaf: leaf[rows], samples))


def by_blocks(stacked, samples, rows):
    # With the gradient itself as direction and a step size of 1, what the parameters lose is the gradient.
    as_it_is = optax.identity()
    learner = Learner(stacked, optimiser.init(as_it_is, stacked))
    minibatch = ppo.by_expert(samples, rows[None], PADDED)

    def loss(params, samples, weights):
        return ppo.expert_loss(params, NETWORK, samples, weights, HYPER)

    after, _ = ppo.learn(loss, as_it_is, learner, samples, minibatch, 1.0, HYPER.block_size)
    return jax.tree.map(jnp.subtract, stacked, after.params)


def by_mask(stacked, drawn):
    def expert_loss(params, k):
        mine = drawn.expert == k
        share = mine / jnp.maximum(mine.sum(), 1)
        centred = drawn.advantage - jnp.sum(share * drawn.advantage)
        advantage = centred / (jnp.sqrt(jnp.sum(share * centred**2)) + 1e-8)
        sample_loss = jax.vmap(lambda *sample: plain_loss(params, *sample)[0])
        return share @ sample_loss(
            drawn.observation.scalars, drawn.action, drawn.log_prob, drawn.value, advantage, drawn.target
        )

    return jax.grad(lambda stacked: jax.vmap(expert_loss)(stacked, jnp.arange(PADDED)).sum())(stacked)


def check_gradients(expert, rows):
    stacked = experts.stack(fresh_experts())
    blocks, mask = both_gradients(stacked, random_samples(expert), jnp.asarray(rows, jnp.int32))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-6), blocks, mask)
    return blocks


@pytest.mark.parametrize("owners", OWNERS)
def test_gradients_by_blocks_are_those_of_computing_everything_and_masking(owners):
    gradients = check_gradients(OWNERS[owners].reshape(-1), np.random.default_rng(0).permutation(ROWS)[:24])
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradients))


@settings(max_examples=40, deadline=None)
@given(arrays(np.int32, ROWS, elements=st.integers(0, NUM_EXPERTS - 1)), st.permutations(range(ROWS)))
def test_gradients_agree_for_any_owners(expert, order):
    check_gradients(expert, order[:24])


def test_minibatches_hold_every_row_once():
    samples = random_samples(np.arange(ROWS) % 3)
    rows = ppo.shuffled_minibatches(jax.random.key(0), samples, HYPER)
    epochs = rows.reshape(HYPER.update_epochs, ROWS).tolist()
    assert rows.shape == (4, ROWS // 2)
    assert [sorted(epoch) for epoch in epochs] == [list(range(ROWS))] * 2
    assert epochs[0] != epochs[1] and list(range(ROWS)) not in epochs
    minibatches = ppo.by_expert(samples, rows, PADDED)
    for before, after, counts in zip(rows, minibatches.rows, minibatches.counts):
        assert sorted(before.tolist()) == sorted(after.tolist())
        np.testing.assert_array_equal(samples.expert[after], np.repeat(np.arange(PADDED), counts))


def test_an_update_chooses_blocks_of_its_own_sizes_and_learns_the_same(monkeypatch):
    monkeypatch.setattr(learning_blocks, "LARGEST_BLOCK", 8)
    assert learning_blocks.block_sizes(ROWS // HYPER.num_minibatches, PADDED) == [8, 6, 4, 3, 2, 1]
    rollout = random_rollout(np.random.default_rng(3).integers(0, NUM_EXPERTS, (STEPS, ENVS)))
    rest = rollout, jnp.zeros(ENVS), jax.random.key(0), LR
    own = jax.jit(ppo.make_update(NETWORK, HYPER._replace(block_size=None), PADDED))(fresh_learner(), *rest)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), own, update(fresh_learner(), *rest))


def test_advantages_are_normalised_among_each_experts_own():
    advantage = jnp.float32([1, 3, 100, 100, 7, 5, 300, 500])
    expert = jnp.int32([0, 0, 1, 1, 0, 0, 1, 1])
    result = np.asarray(ppo.normalise_per_expert(advantage, expert, 4))
    for k in (0, 1):
        own = result[np.asarray(expert) == k]
        np.testing.assert_allclose([own.mean(), own.std()], [0, 1], atol=1e-6)
    np.testing.assert_allclose(result[:2], np.array([-3, -1]) / np.sqrt(5), rtol=1e-5)
