"""What every way of stepping a batch does, bit for bit the same."""

from __future__ import annotations

import functools
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from flowrl.errors import BadInput
from flowrl.host import SequentialVecEnv
from flowrl.host.faults import Misuse
from flowrl.host.spaces import flat, leaves
from tests.host.games import Count, Masked, Pushed, Rich
from tests.host.ways import ADAPTED, same, transitions

CARTPOLE = functools.partial(gymnasium.make, "CartPole-v1")
GAMES = {"CartPole": CARTPOLE, "rich": Rich, "pushed": Pushed, "count": Count, "masked": Masked}


@functools.cache
def expected(game: str) -> list[np.ndarray]:
    with SequentialVecEnv([GAMES[game]] * 5) as env:
        return transitions(env)


def test_a_batch_does_what_a_plain_loop_over_its_environments_does():
    envs = [Rich() for _ in range(3)]
    parts = leaves(envs[0].observation_space)
    first = [env.reset(seed=5 + number)[0] for number, env in enumerate(envs)]
    rows = [np.stack(column) for column in zip(*(flat(parts, value) for value in first))]
    envs[0].action_space.seed(1)
    for _ in range(60):
        actions = [envs[0].action_space.sample() for _ in envs]
        taken = [env.step(action) for env, action in zip(envs, actions)]
        over = [terminated or truncated for _, _, terminated, truncated, _ in taken]
        now = [env.reset()[0] if ended else step[0] for env, ended, step in zip(envs, over, taken)]
        rows += [np.stack(column) for column in zip(*(flat(parts, value) for value in now))]
        rows += [np.array([step[place] for step in taken]) for place in (1, 2, 3)]
        final = [flat(parts, step[0]) for step, ended in zip(taken, over) if ended]
        rows += [
            np.array([values[place] for values in final], leaf.dtype).reshape(-1, *leaf.shape)
            for place, leaf in enumerate(parts)
        ]
        rows.append(np.stack([env.action_masks() for env in envs]))
    with SequentialVecEnv([Rich] * 3) as env:
        assert same(transitions(env)[:-3], rows)


@pytest.mark.parametrize("game", GAMES)
def test_every_way_gives_the_same_transitions(game, make):
    env = make([GAMES[game]] * 5)
    found = transitions(env)
    assert same(found, expected(game)) and len(found[-1]) > 5  # several episodes ended
    assert same(transitions(env)[:-3], expected(game)[:-3]) or game == "count" or game == "masked"  # which count episodes


@pytest.mark.parametrize(
    ("way", "game"),
    # Masks that come from a method are not called for by Gymnasium's batches, so the rich game is not among them.
    [("there and back", game) for game in GAMES] + [("Gymnasium's own", game) for game in GAMES if game != "rich"],
)
def test_gymnasiums_interface_changes_nothing(way, game):
    with ADAPTED[way]([GAMES[game]] * 5) as env:
        found = transitions(env)
    wanted = expected(game)
    assert len(found) == len(wanted) and all(np.array_equal(a, b) for a, b in zip(found, wanted))


def test_fork_gives_the_same_transitions_where_jax_is_not_imported():
    program = """
import sys
from flowrl.host import ParallelEnv, SequentialVecEnv
from tests.host.games import Rich
from tests.host.ways import same, transitions
with SequentialVecEnv([Rich] * 5) as one, ParallelEnv([lambda: Rich()] * 5, "fork", num_workers=2) as other:
    found = transitions(other)
    assert same(transitions(one), found) and len(found[-1]) > 5 and "jax" not in sys.modules
print("the same")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr


def test_a_hand_made_episode(make):
    env = make([functools.partial(Count, 3), functools.partial(Count, 2, cut=True), functools.partial(Count, 100)])
    assert env.reset(seed=0).tolist() == [[0, 0], [0, 0], [0, 0]]
    one, two, three, four = (env.step([0, 0, 0]) for _ in range(4))
    assert one.observations.tolist() == [[0, 1], [0, 1], [0, 1]] and not (one.terminated | one.truncated).any()
    # Environment 1 is cut in step 2: the row has moved on, final_obs has not.
    assert two.observations.tolist() == [[0, 2], [1, 0], [0, 2]] and two.final_obs[1].tolist() == [0, 2]
    assert two.truncated.tolist() == [False, True, False] and not two.terminated.any()
    assert two.rewards.tolist() == [2, 2, 2]  # of the step that ended it
    # Environment 0 ends in step 3.
    assert three.observations.tolist() == [[1, 0], [1, 1], [0, 3]] and three.final_obs[0].tolist() == [0, 3]
    assert three.terminated.tolist() == [True, False, False] and three.rewards.tolist() == [3, 1, 3]
    assert four.observations.tolist() == [[1, 1], [2, 0], [0, 4]] and four.final_obs[1].tolist() == [1, 2]
    stats = env.get_episode_stats()
    assert stats.returns.tolist() == [3, 6, 3] and stats.lengths.tolist() == [2, 3, 2]
    assert stats.environments.tolist() == [1, 0, 1] and stats.num_completed == 3
    assert env.get_episode_stats().num_completed == 0


def test_each_environment_has_its_own_seed_as_a_python_int(make):
    env = make([Count] * 4, with_infos=True)
    env.reset(seed=np.int64(7), options={"level": 2})
    assert [info["seeds"] for info in env.reset_infos] == [[("int", 7 + number)] for number in range(4)]
    assert all(info["options"] == {"level": 2} for info in env.reset_infos)
    env.reset(seed=2**40)
    assert [info["seeds"][-1] for info in env.reset_infos] == [("int", 2**40 + number) for number in range(4)]
    env.reset()
    assert [info["seeds"][-1] for info in env.reset_infos] == [("NoneType", None)] * 4


def test_infos_of_an_end_tell_of_both_episodes(make):
    env = make([functools.partial(Count, 2)] * 3, with_infos=True)
    env.reset(seed=0)
    assert [info["at"] for info in env.step([0] * 3).infos] == [1, 1, 1]
    ended = env.step([0] * 3).infos
    assert [info["final_info"]["at"] for info in ended] == [2, 2, 2] and all(len(info["seeds"]) == 2 for info in ended)


def test_masks_belong_to_the_observations(make):
    env = make([functools.partial(Masked, 2)] * 3)
    env.reset(seed=0)
    assert env.get_action_masks().tolist() == [[False, True, True]] * 3
    env.step([1] * 3)
    assert env.get_action_masks().tolist() == [[True, False, True]] * 3
    env.step([0] * 3)  # the next episode has begun
    assert env.get_action_masks().tolist() == [[False, True, True]] * 3


def test_without_masks_everything_is_allowed(make):
    env = make([Count] * 3)
    env.reset(seed=0)
    assert env.get_action_masks().tolist() == [[True] * 3] * 3
    env = make([Pushed] * 2)
    env.reset(seed=0)
    assert env.get_action_masks() is None  # forces cannot be forbidden


def test_results_are_the_callers_to_keep(make):
    env = make([Count] * 3)
    first, one = env.reset(seed=0), env.step([0] * 3)
    env.step([0] * 3)
    assert first.tolist() == [[0, 0]] * 3 and one.observations.tolist() == [[0, 1]] * 3 and one.rewards.tolist() == [1] * 3


def test_without_copies_the_next_step_overwrites_results(make):
    env = make([Count] * 3, copy=False)
    first = env.reset(seed=0)
    assert env.step([0] * 3).observations is not None and first.tolist() == [[0, 1]] * 3


def test_a_step_can_be_waited_for_later(make):
    env = make([Count] * 3)
    env.reset(seed=0)
    env.step_async([0] * 3)
    with pytest.raises(Misuse, match="wait_for_results"):
        env.step_async([0] * 3)
    assert env.wait_for_results().observations.tolist() == [[0, 1]] * 3
    with pytest.raises(Misuse, match="step_async"):
        env.wait_for_results()
    env.step_async([0] * 3)
    assert env.reset(seed=0)[:, 1].tolist() == [0] * 3  # drops the step
    assert env.step([0] * 3).observations[:, 1].tolist() == [1] * 3


def test_a_step_needs_a_reset(make):
    with pytest.raises(Misuse, match="reset"):
        make([Count] * 3).step([0] * 3)


@pytest.mark.parametrize(
    ("actions", "found"),
    [([0, 1], "shape \\(2,\\)"), ([0.5, 1, 1], "float64"), ([[0], [1], [1]], "shape \\(3, 1\\)"), (["a", "b", "c"], "<U1"),
     ([[0], [1, 2], [1]], "NoneType|list")],
)  # fmt: skip
def test_wrong_actions_are_refused(actions, found, make):
    env = make([Count] * 3)
    env.reset(seed=0)
    with pytest.raises(BadInput, match=f"actions: int64 of shape \\(3,\\) was expected, found .*{found}"):
        env.step(actions)
    env.step([0, 1, 2])


def test_closing_twice_is_safe_and_final(make):
    with make([Count] * 3) as env:
        env.reset(seed=0)
        env.close()
    env.close()
    for use in (env.reset, lambda: env.step([0] * 3), env.get_action_masks):
        with pytest.raises(Misuse, match="closed"):
            use()


def test_one_environment_is_a_batch_too(make):
    env = make([Count])
    assert env.reset(seed=0).shape == (1, 2) and env.step([0]).rewards.tolist() == [1]


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True])
def test_a_wrong_seed_is_refused(seed, make):
    with pytest.raises(BadInput, match="seed must be a whole number"):
        make([Count]).reset(seed=seed)
