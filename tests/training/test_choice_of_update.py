"""Which program learns from a rollout: the narrowest that holds the columns shown, and the plain one if none does."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs.observations import Layout, Observation
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Hyperparameters, Transition
from flowrl.training.one_hot import active_columns
from flowrl.training.playing.learning import Learning, Updater
from tests.training.columns import random_observation
from tests.training.probes import Probe, programs_of

LAYOUT = Layout(num_columns=520, num_fields=7, num_scalars=1)
BOUNDS = [128, 192, 256, 448]
STEPS, ENVS = 8, 64
HYPER = Hyperparameters(update_epochs=1, num_minibatches=2)


class Patterned(Probe):
    """A game with many columns, of which an agent sees few; what more is shown comes from the test."""

    layout = LAYOUT
    identity = "patterned"

    def observe(self, state):
        field = jnp.arange(LAYOUT.num_fields)
        return Observation((8 * field + (state.pouch.steps + 3 * field) % 8).astype(jnp.uint16), self.observation(state))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Programs are compiled once for all tests here."""
    return tmp_path_factory.mktemp("cache")


class Watched(NamedTuple):
    """A run's learning, the names of the updates that were called, and how many had been when a program was compiled."""

    learning: Learning
    own: Learning
    called: list
    told: list


@pytest.fixture
def watched(monkeypatch, cache) -> Watched:
    monkeypatch.setenv("FLOWRL_CACHE_DIR", str(cache))
    called, told = [], []
    network = ExpertNetwork(LAYOUT, 2, layer_size=4)
    made = programs_of(Patterned(), network, ENVS, 1, HYPER, before_compiling=lambda: told.append(list(called)))

    def watching(program):
        def call(*arguments):
            called.append(program.name)
            return program(*arguments)

        return call

    own = made.learning
    narrow = {bound: watching(program) for bound, program in own.narrow_updates.items()}
    learning = dataclasses.replace(own, plain_update=watching(own.plain_update), narrow_updates=narrow)
    return Watched(learning, own, called, told)


def rollout(seed, most):
    rng = np.random.default_rng(seed)

    def numbers(*values):
        return [jnp.asarray(value, jnp.float32) for value in values]

    def step():
        shown = jax.tree.map(jnp.asarray, random_observation(rng, (ENVS,), LAYOUT, most))
        log_prob, value, reward = numbers(-0.7 + 0.1 * rng.normal(size=ENVS), rng.normal(size=ENVS), rng.normal(size=ENVS))
        action, expert = jnp.asarray(rng.integers(0, 2, ENVS), jnp.int32), jnp.zeros(ENVS, jnp.int32)
        return Transition(shown, action, log_prob, value, expert, reward, jnp.asarray(rng.random(ENVS) < 0.7), jnp.zeros(ENVS))

    return tuple(step() for _ in range(STEPS))


def test_a_rollout_that_shows_more_is_learned_from_by_a_larger_program_and_one_that_shows_too_much_by_the_plain_one(watched):
    assert active_columns.bounds(LAYOUT) == BOUNDS
    updater, own = Updater(watched.learning), watched.own
    learner = own.fresh_learner([own.fresh_expert(jax.random.key(0))])
    last_values = jnp.linspace(-1, 1, ENVS)
    for number, most in enumerate([60, 180, 60, 520, 60]):
        steps, key = rollout(number, most), jax.random.key(number)
        shown = np.unique(np.concatenate([step.observation.columns.ravel() for step in steps]))
        assert most - 5 <= len(np.setdiff1d(shown, [LAYOUT.num_columns])) <= most
        expected = own.plain_update(jax.tree.map(jnp.copy, learner), own.plain_batch(steps, last_values, key), 0.01)
        learner, statistics = updater.update(learner, steps, last_values, key, 0.01)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), (learner, statistics), expected)
    # A bound that was too small once is not used again, and no bound is once the largest was too small.
    assert watched.called == ["update 128", "update 192", "update 192", "update", "update"]


def test_compiling_a_program_during_a_training_is_announced(watched):
    updater, own, told = Updater(watched.learning), watched.own, watched.told
    learner, last_values = own.fresh_learner([own.fresh_expert(jax.random.key(0))]), jnp.zeros(ENVS)
    for number, most in enumerate([60, 60, 180]):
        learner, _ = updater.update(learner, rollout(number, most), last_values, jax.random.key(number), 0.01)
    assert ["update 128"] in told and told[-1] == ["update 128", "update 128", "update 192"]
    assert told.count(["update 128"]) == told.count(["update 128"] * 2 + ["update 192"]) == 1
