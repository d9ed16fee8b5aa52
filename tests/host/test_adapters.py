"""Gymnasium's and envpool's batches, and ours for programs that use Gymnasium's."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from flowrl.errors import BadInput
from flowrl.host import ParallelEnv, SequentialVecEnv, from_envpool, from_gymnasium, to_gymnasium
from tests.host.games import Count, Masked, Rich
from tests.host.ways import same, transitions


def test_a_program_for_gymnasium_sees_what_its_own_batch_shows():
    env_fns = [functools.partial(Masked, 3)] * 4
    ours = to_gymnasium(ParallelEnv(env_fns, num_workers=2, with_infos=True))
    theirs = SyncVectorEnv(env_fns, autoreset_mode=AutoresetMode.SAME_STEP)
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    for one, other in zip(ours.reset(seed=3), theirs.reset(seed=3)):
        assert_equal(one, other)
    for _ in range(7):
        *mine, my_infos = ours.step(np.zeros(4, int))
        *others, their_infos = theirs.step(np.zeros(4, int))
        for one, other in zip(mine, others):
            assert_equal(one, other)
        for key in ("action_mask", "final_obs", "_final_obs", "final_info", "_final_info"):
            assert (key in my_infos) == (key in their_infos)
            if key in their_infos:
                assert_equal(my_infos[key], their_infos[key])
    ours.close()
    theirs.close()


def assert_equal(one, other):
    if isinstance(other, dict):
        assert one.keys() >= other.keys() - {"_action_mask"}
        for key in other.keys() - {"_action_mask"}:
            assert_equal(one[key], other[key])
    elif isinstance(other, np.ndarray) and other.dtype == object:
        for mine, theirs in zip(one, other):
            assert_equal(mine, theirs)
    else:
        assert np.array_equal(one, other), (one, other)


def test_gymnasiums_wrappers_fit_around_ours():
    env = gymnasium.wrappers.vector.NormalizeReward(to_gymnasium(SequentialVecEnv([Count] * 2)))
    env.reset(seed=0)
    assert env.step(np.zeros(2, int))[0].tolist() == [[0, 1]] * 2
    env.close()


def test_ended_episodes_are_among_the_infos():
    env = to_gymnasium(SequentialVecEnv([Count, functools.partial(Count, 2)]))
    env.reset(seed=0)
    env.step([0, 0])
    *_, infos = env.step([0, 0])
    assert infos["_episode"].tolist() == [False, True] and infos["episode"]["r"][1] == 3 and infos["episode"]["l"][1] == 2
    assert infos["final_obs"][0] is None and infos["final_obs"][1].tolist() == [0, 2]
    env.close()


def test_final_observations_of_dictionaries_are_dictionaries():
    env = to_gymnasium(SequentialVecEnv([Rich] * 3))
    env.reset(seed=0)
    while True:
        *_, infos = env.step(np.zeros((3, 2), int))
        if "final_obs" in infos:
            break
    ended = infos["final_obs"][np.flatnonzero(infos["_final_obs"])[0]]
    assert env.single_observation_space.contains(ended | {"inner": ended["inner"] | {"kind": int(ended["inner"]["kind"])}})


def test_a_batch_that_resets_a_step_later_is_refused():
    with pytest.raises(BadInput, match="reset in the same step, found autoreset mode NextStep; make them with .*SAME_STEP"):
        from_gymnasium(SyncVectorEnv([Count] * 2))


class Pool:
    """As envpool's batches: a step after an end begins the next episode, and ``reset`` takes some environments."""

    def __init__(self, env_fns, seed=0, batch_size=0):
        self.config = {"num_envs": len(env_fns), "batch_size": batch_size}
        self._envs = [env_fn() for env_fn in env_fns]
        self._seeds = [seed + number for number in range(len(env_fns))]
        self.observation_space, self.action_space = self._envs[0].observation_space, self._envs[0].action_space
        self.closed = False

    def reset(self, env_id=None):
        numbers = range(len(self._envs)) if env_id is None else env_id
        seeds, self._seeds = self._seeds, [None] * len(self._envs)
        return np.stack([self._envs[number].reset(seed=seeds[number])[0] for number in numbers]), {}

    def step(self, actions):
        assert actions.dtype == self.action_space.dtype
        observations, *rest, _ = zip(*(env.step(action) for env, action in zip(self._envs, actions)))
        return np.stack(observations), *(np.array(values) for values in rest), {}

    def close(self):
        self.closed = True


def test_envpools_batches_begin_episodes_in_the_same_step():
    pool = Pool([Count] * 4, seed=5)
    with from_envpool(pool) as env, SequentialVecEnv([Count] * 4) as expected:
        env_reset = env.reset
        env.reset = lambda seed: env_reset()  # the pool has its seed already
        assert same(transitions(env), transitions(expected))
    assert pool.closed


def test_envpool_takes_its_seed_when_it_is_made():
    with pytest.raises(BadInput, match="envpool.make\\(..., seed=...\\); call reset\\(\\) without one"):
        from_envpool(Pool([Count])).reset(seed=1)


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (SimpleNamespace(), "takes what envpool.make\\(.*\\) returns, found SimpleNamespace without config"),
        (Pool([Count] * 4, batch_size=2), "batch_size must be num_envs, 4, found 2"),
    ],
)
def test_other_pools_are_refused(pool, message):
    with pytest.raises(BadInput, match=message):
        from_envpool(pool)
