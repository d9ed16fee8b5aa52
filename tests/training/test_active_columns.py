"""Learning from the columns that were seen, against the plain update of the whole network."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs.observations import Layout
from flowrl.training.learning import experts, optimiser
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Hyperparameters, Learner, Transition, make_update, stack_time
from flowrl.training.one_hot import active_columns, first_layer
from tests.training.columns import LAYOUT, random_observation

STEPS, ENVS, NUM_EXPERTS = 5, 8, 3
NETWORK = ExpertNetwork(LAYOUT, num_actions=4, layer_size=5)
HYPER = Hyperparameters(max_grad_norm=0.3, update_epochs=2, num_minibatches=5, block_size=8)
LR = 0.01


@functools.cache
def fresh_learner():
    init = jax.jit(NETWORK.init)
    stacked = experts.stack([init(jax.random.key(k)) for k in range(NUM_EXPERTS)])
    return Learner(stacked, optimiser.init(optimiser.make(HYPER.max_grad_norm), stacked))


ALWAYS, SELDOM = 23, 24


def shown_at(rng, most):
    """Columns below ``most``: one of them is always shown, one of them seldom."""
    found = random_observation(rng, (ENVS,), most=min(most, ALWAYS))
    if most > SELDOM:
        found.columns[:, 0] = ALWAYS
        found.columns[rng.random(ENVS) < 0.2, 1] = SELDOM
    return jax.tree.map(jnp.asarray, found)


def rollout(seed, most):
    """Steps that show columns below ``most`` only; expert 2 acts now and then, so that not every step is its own."""
    rng = np.random.default_rng(seed)
    return tuple(
        Transition(
            observation=shown_at(rng, most),
            action=jnp.asarray(rng.integers(0, 4, ENVS), jnp.int32),
            log_prob=jnp.asarray(-1.4 + 0.4 * rng.normal(size=ENVS), jnp.float32),
            value=jnp.asarray(rng.normal(size=ENVS), jnp.float32),
            expert=jnp.asarray(rng.choice(NUM_EXPERTS, ENVS, p=[0.55, 0.4, 0.05]), jnp.int32),
            reward=jnp.asarray(rng.normal(size=ENVS), jnp.float32),
            continues=jnp.asarray(rng.random(ENVS) < 0.7),
            truncation_value=jnp.zeros(ENVS),
        )
        for _ in range(STEPS)
    )


plain_update = jax.jit(make_update(NETWORK, HYPER, experts.padded_count(NUM_EXPERTS)))


@functools.cache
def narrow_update(bound):
    return jax.jit(active_columns.make_narrow_update(NETWORK, HYPER, experts.padded_count(NUM_EXPERTS), bound))


def narrow(learner, steps, bound, last_values, key):
    columns = active_columns.find(steps, LAYOUT)
    assert np.count_nonzero(columns.count) <= bound
    return narrow_update(bound)(learner, stack_time(steps), columns, last_values, key, LR)


# 25 columns are seen first, then 15 of them: ten rows with moments of their own go on without a gradient.
@pytest.mark.parametrize("bound", [25, 31])
def test_a_narrow_update_is_the_plain_update(bound):
    plain = found = fresh_learner()
    for number, most in enumerate([25, 15, 25]):
        steps, key = rollout(number, most), jax.random.key(number)
        last_values = jnp.linspace(-1, 1, ENVS)
        plain, expected_statistics = plain_update(plain, stack_time(steps), last_values, key, LR)
        found, statistics = narrow(found, steps, bound, last_values, key)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-6), found, plain)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), statistics, expected_statistics)
    moved = first_layer.kernel_of(found.params["actor"]) - first_layer.kernel_of(fresh_learner().params["actor"])
    assert np.abs(moved[:2, :25]).min() > 0  # the test is about rows that move
    np.testing.assert_array_equal(moved[:, 25 : LAYOUT.num_columns], 0)


def test_a_gpu_multiplies_all_columns_of_a_bound_and_learns_the_same(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert active_columns.num_dense(25) == 25
    own = jax.jit(active_columns.make_narrow_update(NETWORK, HYPER, experts.padded_count(NUM_EXPERTS), 25))
    steps, rest = rollout(0, 25), (jnp.linspace(-1, 1, ENVS), jax.random.key(0), LR)
    found = own(fresh_learner(), stack_time(steps), active_columns.find(steps, LAYOUT), *rest)
    expected = plain_update(fresh_learner(), stack_time(steps), *rest)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), found, expected)


def test_an_expert_without_samples_stays_bit_for_bit():
    trained, _ = plain_update(fresh_learner(), stack_time(rollout(0, 25)), jnp.zeros(ENVS), jax.random.key(0), LR)
    steps = tuple(step._replace(expert=jnp.zeros(ENVS, jnp.int32)) for step in rollout(1, 15))
    after, _ = narrow(trained, steps, 25, jnp.zeros(ENVS), jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, experts.select(after, 1), experts.select(trained, 1))
    assert not np.array_equal(*(first_layer.kernel_of(learner.params["critic"])[0] for learner in (after, trained)))


def test_the_columns_found_are_those_that_any_step_shows():
    steps = rollout(4, 25)
    shown = np.concatenate([np.asarray(step.observation.columns).ravel() for step in steps])
    columns = active_columns.find(steps, LAYOUT)
    expected = np.bincount(shown, minlength=LAYOUT.num_columns + 1)[: LAYOUT.num_columns]
    np.testing.assert_array_equal(columns.count, expected[columns.order])
    assert sorted(np.asarray(columns.order).tolist()) == list(range(LAYOUT.num_columns))
    assert columns.num_samples == STEPS * ENVS
    occasional = np.where(columns.count == STEPS * ENVS, 0, columns.count)
    assert (np.diff(occasional[: np.count_nonzero(occasional)]) <= 0).all() and occasional[0] > 0


def test_a_bound_is_chosen_by_the_cost_of_its_update():
    layout = Layout(8217, 311, 51)  # bounds: 1600, 2112, 3136, 6208
    few = np.zeros(4)
    assert active_columns.smallest_bound(1600, few, layout) == 1600
    assert active_columns.smallest_bound(1601, few, layout) == 2112
    assert active_columns.smallest_bound(1000, np.asarray([9.0, 5.0, 3.0, 2.0]), layout) == 3136
    assert active_columns.smallest_bound(1000, few + 50, layout) == 6208
    assert active_columns.smallest_bound(6209, few, layout) is None


def test_the_demands_on_a_bound(monkeypatch):
    layout, num_samples = Layout(100, 7, 3), 10
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert active_columns.bounds(layout) == [64] and active_columns.num_dense(64) == 24
    count = np.zeros(100, np.int32)
    count[:30], count[30] = 2, num_samples  # what every sample shows is never rare
    columns = active_columns.Columns(jnp.arange(100), jnp.asarray(count), jnp.int32(num_samples))
    num_shown, rare = active_columns.demands(columns, layout)
    assert num_shown == 31
    np.testing.assert_allclose(rare, [6 * 2 / num_samples])


def test_coasting_is_adam_with_a_gradient_of_zero():
    step = optimiser.make(HYPER.max_grad_norm)
    learner = Learner(*plain_update(fresh_learner(), stack_time(rollout(0, 25)), jnp.zeros(ENVS), jax.random.key(0), LR)[0])
    nothing = jax.tree.map(jnp.zeros_like, learner.params)
    counts = jnp.asarray([1, 0, 1, 1])

    def one_expert(owner, own):
        return Learner(*optimiser.step(step, *own, experts.select(nothing, owner), LR)), ()

    @jax.jit
    def once(learner):
        return experts.one_by_one(one_expert, learner, counts > 0)[0]

    expected = learner
    for _ in range(11):
        expected = once(expected)
    found = coasted(learner, 11 * counts, every_row)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-8), found.params, expected.params)
    adam, expected_adam = found.optimiser_state[1], expected.optimiser_state[1]
    for moments, others in ((adam.mu, expected_adam.mu), (adam.nu, expected_adam.nu)):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-12), moments, others)
    for none in (lambda number: None, lambda number: jnp.zeros(number, bool)):
        jax.tree.map(np.testing.assert_array_equal, coasted(learner, 11 * counts, none), learner)


def every_row(number):
    return jnp.ones(number, bool)


def coasted(learner, steps, rows):
    """Coasts all experts of a learner; ``rows`` returns which of a parameter's rows coast."""
    return coast_chosen(learner, steps, [rows(leaf.shape[1]) for leaf in jax.tree.leaves(learner.params)])


@jax.jit
def coast_chosen(learner, steps, chosen):
    """``chosen``: for each parameter, which of its rows; or None."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(learner.params)]
    rows = dict(zip(paths, chosen, strict=True))

    def one_expert(owner, own):
        return Learner(*optimiser.coast(*own, steps[owner], LR, rows.get)), ()

    return experts.one_by_one(one_expert, learner, steps > 0)[0]


def test_rows_coast_alone_and_those_that_were_never_moved_stay():
    learner = Learner(*plain_update(fresh_learner(), stack_time(rollout(0, 25)), jnp.zeros(ENVS), jax.random.key(0), LR)[0])
    some, whole = (coasted(learner, jnp.full(4, 11), rows) for rows in (lambda number: jnp.arange(number) % 2 == 1, every_row))
    for before, after, expected in zip(*(jax.tree.leaves(part.params) for part in (learner, some, whole))):
        np.testing.assert_array_equal(after[:, ::2], before[:, ::2])
        np.testing.assert_array_equal(after[:, 1::2], expected[:, 1::2])
    fresh = fresh_learner()
    jax.tree.map(np.testing.assert_array_equal, coasted(fresh, jnp.full(4, 11), every_row), fresh)


def test_bounds_grow_and_stay_below_the_whole():
    assert active_columns.bounds(Layout(8217, 311, 51)) == [1600, 2112, 3136, 6208]
    assert active_columns.bounds(Layout(0, 0, 5)) == []
    small = active_columns.bounds(Layout(100, 5, 5))
    assert small == [64]
