"""Actors and a learner: real processes that act, wait, die and are replaced."""

from __future__ import annotations

import itertools
import os
import signal
import time

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest

from flowrl.errors import BadInput
from flowrl.host import SequentialVecEnv
from flowrl.host.environments import MakeEnvironment
from flowrl.host.faults import EnvironmentFault, WorkerLost
from flowrl.host.learning import ppo
from flowrl.host.learning.actions import actions_of
from flowrl.host.learning.actors import algorithms
from flowrl.host.learning.actors.algorithms import ActedSteps
from flowrl.host.learning.actors.learner import ActorLearner
from flowrl.host.learning.actors.settings import ActorLearnerSettings
from flowrl.host.learning.distributions import likelihoods
from flowrl.host.learning.networks import network_for
from flowrl.host.learning.observations import Layout
from flowrl.host.learning.policies import Policies
from flowrl.host.learning.ppo import Hyperparameters, Rollout
from flowrl.host.learning.steps import Stepper
from tests.host import games
from tests.host.test_ends import is_running
from tests.kept_programs import kept_programs  # noqa: F401

GAMES = "tests.host.games:"
SMALL = {"num_envs_per_worker": 2, "num_steps": 8, "layer_size": 8, "num_episodes": 10**6}


def learner(game: str, say=print, **settings) -> ActorLearner:
    chosen = ActorLearnerSettings(**{"env": GAMES + game, **SMALL, **settings})
    env = MakeEnvironment(chosen.env)()
    return ActorLearner(chosen, env.observation_space, env.action_space, say)


def wait_until(holds, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def parameters(**settings) -> list[np.ndarray]:
    with learner("GuessChoice", num_workers=2, synchronous=True, trajectories_per_update=4, **settings) as trained:
        made = [trained.train_on_trajectories() for _ in range(3)]
        assert [update.flow.largest_lag for update in made] == [0, 0, 0]
        assert (trained.state.updates, trained.state.frames) == (3, 3 * 4 * 2 * 8)
        return jax.tree.leaves(jax.device_get(trained.state.learner))


def test_synchronous_there_is_no_lag_and_the_same_seed_gives_the_same_training():
    first, second, other = parameters(seed=3), parameters(seed=3), parameters(seed=4)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("game", "algorithm", "updates", "random", "good", "extra"),
    [
        ("GuessChoice", "impala", 60, 0.5, 0.95, {"num_minibatches": 4}),
        ("GuessChoice", "appo", 30, 0.5, 0.95, {}),
        ("GuessNumber", "appo", 80, -2.0, 0.6, {}),
    ],
)
def test_it_learns_from_what_actors_collect(game, algorithm, updates, random, good, extra):
    sizes = {"num_envs_per_worker": 4, "num_steps": 32, "layer_size": 64, "learning_rate": 0.003, **extra}
    with learner(game, num_workers=1, synchronous=True, algorithm=algorithm, **sizes) as trained:
        rewards = [float(trained.train_on_trajectories().episodes.returns.mean()) for _ in range(updates)]
        assert rewards[0] < (random + good) / 2, f"it began with {rewards[0]}: there is nothing to learn"
        with SequentialVecEnv([MakeEnvironment(GAMES + game)]) as alone:
            assert trained.evaluate(alone, 50).mean > good, rewards


def test_actors_for_vectors_load_no_jax_and_go_on_while_the_learner_learns():
    with learner("NoJax", num_workers=1) as trained:  # its environment would fail
        made = [trained.train_on_trajectories() for _ in range(4)]
    assert trained.actors_lost == 0 and made[-1].n_envs == 2 and made[-1].frames == 16
    assert sum(update.flow.lag_sum for update in made) > 0  # with two slots, the second was filled before the first update


def test_a_convolution_acts_in_the_actors_too():
    with learner("GuessImage", num_workers=1, num_steps=4) as trained:
        before = trained.state.learner.params["net"]["ResidualStage_0"]["Conv_0"]["kernel"]
        made = [trained.train_on_trajectories() for _ in range(2)]
        (pid,) = trained.pids
        variables = psutil.Process(pid).environ()
    assert not np.array_equal(before, trained.state.learner.params["net"]["ResidualStage_0"]["Conv_0"]["kernel"])
    assert all(np.isfinite(list(update.statistics.values())).all() for update in made)
    assert (variables["PJRT_NPROC"], variables["OMP_NUM_THREADS"]) == ("1", "1")


def test_an_actor_without_a_free_slot_waits_and_nothing_is_dropped():
    with learner("Count", num_workers=1, trajectories_per_update=1) as trained:
        trained.train_on_trajectories()  # starts it
        exchange = trained._pool.exchange
        wait_until(lambda: exchange.progress[0] == 8 * 3)  # the one that was given again, and the other slot
        time.sleep(0.1)
        assert exchange.progress[0] == 8 * 3
        seen = []
        join = trained._joined
        trained._joined = lambda slots: seen.append(join(slots)) or seen[-1]
        for _ in range(5):
            trained.train_on_trajectories()
    for earlier, later in itertools.pairwise(seen):
        np.testing.assert_array_equal(earlier.last_observation.vector, later.observation.vector[0])


def test_trajectories_are_what_a_batch_in_one_process_gives():
    """The same steps, with the values of the observations that really followed where an episode was cut."""
    with learner("Cut", num_workers=2, synchronous=True, seed=5) as trained:
        found = []
        join = trained._joined
        trained._joined = lambda slots: found.append(join(slots)) or found[-1]
        params = trained.state.learner.params
        policy = trained._policies.of(params)
        made = trained.train_on_trajectories()
        values = trained._state_values
    for actor in range(2):
        with SequentialVecEnv([games.Cut] * 2) as env:
            stepper = Stepper(env, Layout(env.single_observation_space), actions_of(env.single_action_space))
            stepper.reset(5 + 2 * actor)
            steps = stepper.blank(8)
            stepper.fill(steps, policy, np.random.default_rng([5, 0, actor]))
        columns = slice(2 * actor, 2 * actor + 2)
        for name in ("decision", "outputs", "reward", "continues", "masks"):
            np.testing.assert_array_equal(getattr(found[0], name)[:, columns], getattr(steps, name))
        np.testing.assert_array_equal(found[0].observation.vector[:, columns], steps.observation.vector)
        np.testing.assert_array_equal(found[0].last_observation.vector[columns], steps.last_observation.vector)
        assert steps.cut[4].all() and steps.cut.sum() == 2
        last = steps.final_observation
        expected = values.of(params, type(last)(*(part[4] for part in last)))
        np.testing.assert_allclose(found[0].truncation_value[4, columns], expected, rtol=1e-5)
        assert (found[0].truncation_value[:4, columns] == 0).all()
    assert made.episodes.returns.tolist() == [15.0] * 4 and made.episodes.environments.tolist() == [0, 1, 2, 3]


def test_without_lag_appo_is_ppo():
    env = gymnasium.make("CartPole-v1")
    layout, actions = Layout(env.observation_space), actions_of(env.action_space)
    network, judge = network_for(layout, actions, 8), likelihoods(actions)
    hyper = Hyperparameters(0.9, 0.8, 0.2, 0.01, 0.5, 0.5, update_epochs=1, num_minibatches=1)
    params = ppo.init(network, hyper, jax.random.key(1)).params
    with SequentialVecEnv([lambda: gymnasium.make("CartPole-v1")] * 3) as batch:
        stepper = Stepper(batch, layout, actions)
        stepper.reset(0)
        steps = stepper.blank(40)
        stepper.fill(steps, Policies(network).of(params), np.random.default_rng(0))
    common = {name: getattr(steps, name) for name in Rollout._fields if name != "truncation_value"}
    nothing = np.zeros((40, 3), np.float32)
    expected = ppo.make_samples(network, judge, params, Rollout(**common, truncation_value=nothing), hyper)
    acted = ActedSteps(**common, truncation_value=nothing, outputs=steps.outputs, log_std=np.zeros((40, 3, 0), np.float32))
    for found, other in zip(algorithms.make_samples(network, judge, params, acted, hyper), expected):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), found, other)
    # A policy that was surer of what it did: every ratio is below 1, and every correction smaller.
    surer = acted._replace(outputs=np.where(np.arange(2) == steps.decision, 3.0, -3.0).astype(np.float32))
    found = algorithms.make_samples(network, judge, params, surer, hyper)
    assert (found.log_prob > -0.01).all()
    assert float(jnp.abs(found.target - found.value).mean()) < float(jnp.abs(expected.target - expected.value).mean())


def test_a_killed_actor_is_named_and_replaced_and_the_run_goes_on():
    said = []
    with learner("Count", said.append, num_workers=2, trajectories_per_update=1) as trained:
        trained.train_on_trajectories()
        wait_until(lambda: (trained._pool.exchange.progress > 0).all())
        first, killed = trained.pids
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not is_running(killed))
        wait_until(lambda: trained.train_on_trajectories() and said)  # others may have filled what the next updates need
        assert said == [
            f"actor 1 (process {killed}) was killed by SIGKILL; the system may have been out of memory; its unfinished steps "
            "are lost, and a new one replaces it"
        ]
        assert trained.actors_lost == 1 and trained.pids[0] == first and trained.pids[1] != killed
        progress = trained._pool.exchange.progress
        before = int(progress[1])
        wait_until(lambda: trained.train_on_trajectories() and progress[1] > before)
        pids = trained.pids
    assert not any(is_running(pid) for pid in pids)


def test_an_actor_that_hangs_is_replaced_and_given_up_if_that_does_not_help():
    said = []
    with learner("HangsLater", said.append, num_workers=1, num_steps=32, timeout_s=0.3) as trained:
        with pytest.raises(
            WorkerLost, match=r"within 0.3 s, 3 times in a row without a trajectory between; .*raise --timeout_s"
        ):
            trained.train_on_trajectories()
        pids = trained.pids
    assert len(said) == 2 and not any(is_running(pid) for pid in pids)


def test_what_an_environment_raises_in_an_actor_comes_with_its_number():
    with learner("Fragile", num_workers=1, num_steps=64) as trained:
        with pytest.raises(EnvironmentFault, match="in actor 0, environment 0 raised ValueError in step: the wheel is gone"):
            trained.train_on_trajectories()
        pids = trained.pids
    assert not any(is_running(pid) for pid in pids)


def test_an_interrupted_update_changes_nothing_and_the_next_one_begins_with_new_actors():
    with learner("Count", num_workers=1) as trained:
        trained.train_on_trajectories()
        before, pids, learn = trained.state, trained.pids, trained._learn

        def interrupted(batch):
            raise KeyboardInterrupt

        trained._learn = interrupted
        with pytest.raises(KeyboardInterrupt):
            trained.train_on_trajectories()
        assert trained.state is before
        trained._learn = learn
        assert [trained.train_on_trajectories().frames for _ in range(3)] == [16] * 3
        assert trained.pids != pids and not is_running(pids[0]) and trained.state.updates == 4


def test_an_actor_within_a_trajectory_ends_soon():
    with learner("Slow", num_workers=1, num_steps=10**6) as trained:
        pool = trained._started()
        wait_until(lambda: pool.exchange.progress[0] > 2)
        (pid,) = trained.pids
    assert not is_running(pid)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"num_workers": 2, "trajectories_per_update": 3, "synchronous": True}, "is no multiple of --num_workers 2"),
        ({"num_workers": 1, "num_minibatches": 7}, "--num_minibatches 7 does not divide the 256 frames"),
        ({"num_envs_per_worker": 0}, "--num_envs_per_worker must be at least 1"),
        ({"num_workers": 0}, "--num_workers must be at least 1"),
        ({"duration": 0.0}, "--duration must be more than 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(flags, says):
    with pytest.raises(BadInput, match=says):
        ActorLearnerSettings(**flags)


@pytest.mark.parametrize(("workers", "trajectories"), [(1, 1), (1, 4), (2, 2), (4, 4), (3, 7)])
def test_without_one_of_several_actors_the_others_can_fill_an_update(workers, trajectories):
    settings = ActorLearnerSettings(num_workers=workers, trajectories_per_update=trajectories)
    assert max(1, workers - 1) * settings.slots_per_actor >= trajectories
    assert settings.slots_per_actor >= 2  # one to fill while another is full
