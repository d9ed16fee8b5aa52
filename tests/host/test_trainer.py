"""`PPOTrainer`: it learns, the same each time, on every kind of environment."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from flowrl.host import ParallelEnv, SequentialVecEnv, ThreadVecEnv
from flowrl.host.environments import MakeEnvironment
from flowrl.host.learning.settings import PPOSettings
from flowrl.host.learning.trainer import PPOTrainer
from tests.host.games import Guess
from tests.kept_programs import kept_programs  # noqa: F401

QUICK = {"num_steps": 32, "n_envs": 4, "update_epochs": 4, "num_minibatches": 4, "learning_rate": 0.003, "num_episodes": 10**6}


def trained(env, settings: PPOSettings, updates: int) -> tuple[PPOTrainer, list[float]]:
    trainer = PPOTrainer(env, settings)
    return trainer, [float(trainer.train_episode_vectorized().episodes.returns.mean()) for _ in range(updates)]


@pytest.mark.parametrize(
    ("kind", "updates", "random", "good"),
    [("choice", 25, 0.5, 0.95), ("choices", 25, 0.5, 0.95), ("number", 80, -2.0, 0.6), ("image", 7, 0.5, 0.95)],
)
def test_it_learns_every_kind_of_observation_and_action(kind, updates, random, good):
    extra = {"learning_rate": 5e-4} if kind == "image" else {}
    settings = PPOSettings(**QUICK | extra)
    with SequentialVecEnv([lambda: Guess(kind)] * 4) as env, SequentialVecEnv([lambda: Guess(kind)]) as alone:
        trainer, rewards = trained(env, settings, updates)
        assert rewards[0] < (random + good) / 2, f"it began with {rewards[0]}: there is nothing to learn"
        found = trainer.evaluate(alone, 50)
    assert len(found.returns) == 50 and found.mean > good, rewards


def test_with_masks_it_never_does_what_is_forbidden():
    with SequentialVecEnv([lambda: Guess("masked")] * 4) as env, SequentialVecEnv([lambda: Guess("masked")]) as alone:
        trainer, rewards = trained(env, PPOSettings(**QUICK), 2)
        assert rewards == [1.0, 1.0] and trainer.evaluate(alone, 20).mean == 1.0


SMALL = PPOSettings(n_envs=4, num_steps=64, update_epochs=2, num_minibatches=4, num_episodes=100, seed=3)
CARTPOLES = [MakeEnvironment("CartPole-v1")] * 4


def parameters(env, settings: PPOSettings = SMALL) -> list[np.ndarray]:
    with env:
        trainer, _ = trained(env, settings, 3)
        assert (trainer.state.updates, trainer.state.frames) == (3, 3 * 4 * 64)
        return jax.tree.leaves(jax.device_get(trainer.state.learner))


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_training_is_the_same_bit_for_bit_however_its_environments_are_stepped():
    first = parameters(SequentialVecEnv(CARTPOLES))
    assert same(first, parameters(SequentialVecEnv(CARTPOLES)))
    assert same(first, parameters(ThreadVecEnv(CARTPOLES, num_workers=2)))
    assert same(first, parameters(ParallelEnv(CARTPOLES, num_workers=2)))
    other_seed = PPOSettings(**{**SMALL.__dict__, "seed": 4})
    assert not same(first, parameters(SequentialVecEnv(CARTPOLES), other_seed))


def test_it_says_what_was_done():
    with SequentialVecEnv(CARTPOLES) as env:
        trainer = PPOTrainer(env, SMALL)
        made = trainer.train_episode_vectorized()
    assert (made.n_envs, made.frames) == (4, 256)
    assert made.n_completed_episodes == len(made.episodes.returns) == trainer.state.episodes > 0
    assert made.statistics["learning_rate"] == SMALL.learning_rate
    assert 0 < made.statistics["entropy"] <= np.log(2) + 1e-6
    # The rate falls with the episodes of the training.
    assert SMALL.step_size(trainer.state.episodes) == pytest.approx(SMALL.learning_rate * (1 - made.n_completed_episodes / 100))


def test_an_interrupted_rollout_changes_nothing_and_the_next_one_begins_new_episodes():
    with SequentialVecEnv(CARTPOLES) as env:
        trainer = PPOTrainer(env, SMALL)
        trainer.train_episode_vectorized()
        before, step = trainer.state, env.step

        def interrupted(actions):
            raise KeyboardInterrupt

        env.step = interrupted
        with pytest.raises(KeyboardInterrupt):
            trainer.train_episode_vectorized()
        assert trainer.state is before
        env.step, seeds = step, []
        reset = env.reset
        env.reset = lambda seed=None: seeds.append(seed) or reset(seed=seed)
        trainer.train_episode_vectorized()
    assert seeds == [SMALL.seed + 4] and trainer.state.updates == 2
