"""What goes wrong: each arrives as one clear error that names the environment, and nothing waits for ever."""

from __future__ import annotations

import functools
import os
import signal
import threading

import numpy as np
import pytest

from flowrl.errors import BadInput
from flowrl.host import ParallelEnv, SequentialVecEnv, ThreadVecEnv, make_vec
from flowrl.host.faults import EnvironmentFault, Misuse, WorkerLost
from tests.host.games import Broken, Count, Gated
from tests.host.ways import WAYS

QUIET_S = 4.0
"""More than a healthy worker needs for an answer on a busy machine."""


def with_broken(how: str, place: int = 2, num_envs: int = 4) -> list:
    """Environments of which one is broken."""
    return [functools.partial(Broken, how if number == place else "") for number in range(num_envs)]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", "environment 2 raised ValueError in step: the wheel is gone"),
        (
            "four",
            "environment 2 .* step: \\(observation, reward, .*\\) was expected, found a tuple of 4 .*correct the environment",
        ),
        (
            "shape",
            "environment 2 .* step: observation: float32 of shape \\(2,\\) was expected, found float32 of shape \\(1, 2\\)",
        ),
        ("scalar", "environment 2 .* found float64 of shape \\(\\)"),
        ("text", "environment 2 .* found <U4 of shape \\(\\)"),
        ("reward", "environment 2 .* the reward must be a number, found NoneType"),
        ("flag", "environment 2 .* terminated and truncated must be true or false, found None"),
        ("mask", "environment 2 .* its action mask: 3 entries were expected, found 7"),
    ],
)
def test_a_wrong_step_names_the_environment(how, message, make):
    env = make(with_broken(how))
    env.reset(seed=0)
    with pytest.raises(EnvironmentFault, match=message) as caught:
        env.step([0] * 4)
    assert caught.value.environment == 2
    with pytest.raises(Misuse, match="reset"):
        env.step([0] * 4)
    assert env.reset(seed=0).shape == (4, 2)  # the batch goes on


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("reset raises", "environment 2 raised ValueError in reset: no map"),
        ("reset without info", "environment 2 .* reset: \\(observation, info\\) was expected, found ndarray"),
        ("reset shape", "environment 2 .* reset: observation: float32 of shape \\(2,\\) was expected, found .*\\(1,\\)"),
    ],
)
def test_a_wrong_reset_names_the_environment(how, message, make):
    with pytest.raises(EnvironmentFault, match=message):
        make(with_broken(how)).reset(seed=0)


def test_an_exception_comes_with_its_traceback(make):
    env = make(with_broken("raises"))
    env.reset(seed=0)
    with pytest.raises(EnvironmentFault) as caught:
        env.step([0] * 4)
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("Traceback") and any("games.py" in line and "in step" in line for line in lines)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("make", EnvironmentFault, "environment 2 raised RuntimeError in its function: no such level"),
        ("space", BadInput, "environment 2 has the observation space Box.*\\(3,\\).*environment 0 has Box.*\\(2,\\)"),
        ("action space", BadInput, "environment 2 has the action space Discrete\\(4\\), environment 0 has Discrete\\(3\\)"),
    ],
)
def test_environments_that_cannot_be_one_batch(how, error, message, make):
    with pytest.raises(error, match=message):
        make(with_broken(how))


def test_a_space_without_a_fixed_shape_is_refused(make):
    with pytest.raises(BadInput, match="observation space is Tuple; flowrl steps Box, .* wrap"):
        make(with_broken("tuple space", place=0, num_envs=1))


def test_functions_have_to_be_functions_that_make_environments(make):
    with pytest.raises(BadInput, match="env_fns is empty"):
        make([])
    with pytest.raises(BadInput, match="env_fns must be a list of functions, found int"):
        make(3)
    with pytest.raises(BadInput, match="env_fns\\[1\\] must be a function .* found Count; write lambda"):
        make([Count, Count()])
    with pytest.raises(EnvironmentFault, match="the function of environment 1 returned int, which has no reset"):
        make([Count, int])


def test_an_error_of_close_arrives_once(make):
    env = make(with_broken("close"))
    with pytest.raises(EnvironmentFault, match="environment 2 raised ValueError in close: the door is stuck"):
        env.close()
    env.close()


def test_what_cannot_be_sent_is_named():
    lock = threading.Lock()
    with pytest.raises(BadInput, match="environment 1 cannot be sent to a worker process .*lock.*; make what it uses inside"):
        ParallelEnv([Count, lambda: Count(lock)], num_workers=1)
    with ParallelEnv(with_broken("says a lock"), num_workers=2, with_infos=True) as env:
        env.reset(seed=0)
        with pytest.raises(EnvironmentFault, match="environment 2 returns an info 'lock' that cannot be sent"):
            env.step([0] * 4)
        env.reset(seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_method": "thread"}, "unknown start_method 'thread': valid are spawn, forkserver, fork"),
        ({"num_workers": 0}, "num_workers must be 'auto' or a whole number that is at least 1, found 0"),
        ({"timeout_s": 0}, "timeout_s must be a number of seconds above 0, found 0"),
        ({"start_timeout_s": float("nan")}, "start_timeout_s must be"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(BadInput, match=message):
        ParallelEnv([Count], **options)


def test_an_unknown_method_is_refused():
    with pytest.raises(BadInput, match="unknown method 'thread'.*did you mean threads"):
        make_vec([Count], "thread")


def test_fork_after_jax_is_refused_with_the_reason():
    import jax  # noqa: F401

    with pytest.raises(BadInput, match="fork' cannot be used after JAX was imported: .*locks.*use 'spawn'"):
        ParallelEnv([Count], "fork")


def test_more_workers_than_cores_are_a_warning(caplog, monkeypatch):
    monkeypatch.setattr("flowrl.host.processes.usable_cores", lambda: [0])
    ParallelEnv([Count] * 2, num_workers=2).close()
    assert "2 workers will share 1 core" in caplog.text
    caplog.clear()
    with ParallelEnv([Count] * 2) as env:
        assert env.num_workers == 1 and not caplog.text


# Workers that die or hang.


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_killed_worker_is_named(method):
    env = ParallelEnv([Count] * 5, method, num_workers=2)
    env.reset(seed=0)
    first, second = env.worker_pids
    os.kill(second, signal.SIGKILL)
    with pytest.raises(
        WorkerLost, match=f"worker 1 \\(environments 3 to 4, process {second}\\) was killed by SIGKILL.*respawn"
    ):
        env.step([0] * 5)
    with pytest.raises(Misuse, match="closed"):
        env.reset(seed=0)
    assert all(process.exit_code() is not None for process in (worker.process for worker in env._workers))


def test_a_worker_that_exits_is_named():
    env = ParallelEnv(with_broken("exits"), num_workers=2)
    env.reset(seed=0)
    with pytest.raises(WorkerLost, match="worker 1 \\(environments 2 to 3, process \\d+\\) ended with exit code 3"):
        env.step([0] * 4)


def test_a_stopped_worker_is_noticed():
    env = ParallelEnv([Count] * 2, num_workers=2, timeout_s=QUIET_S)
    env.reset(seed=0)
    os.kill(env.worker_pids[0], signal.SIGSTOP)
    with pytest.raises(WorkerLost, match=f"worker 0 \\(environment 0, process \\d+\\) did not answer within {QUIET_S:g} s"):
        env.step([0] * 2)


def test_a_hanging_thread_is_noticed():
    with ThreadVecEnv(with_broken("hangs"), num_workers=4, timeout_s=QUIET_S) as env:
        env.reset(seed=0)
        with pytest.raises(WorkerLost, match=f"environment 2 did not answer within {QUIET_S:g} s"):
            env.step([0] * 4)
    with pytest.raises(Misuse, match="closed"):
        env.reset(seed=0)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_killed_worker_is_replaced_and_what_was_lost_is_counted(method):
    with ParallelEnv([Count] * 4, method, num_workers=2, respawn=True, with_infos=True) as env:
        env.reset(seed=10)
        env.step([0] * 4)
        env.step([0] * 4)
        os.kill(env.worker_pids[1], signal.SIGKILL)
        result = env.step([0] * 4)
        # The others' episodes end as ever; these are cut, after the last observation that was handed out.
        assert result.terminated.tolist() == [True, True, False, False]
        assert result.truncated.tolist() == [False, False, True, True] and result.rewards.tolist() == [3, 3, 0, 0]
        assert result.final_obs.tolist() == [[0, 3], [0, 3], [0, 2], [0, 2]]
        assert result.observations.tolist() == [[1, 0], [1, 0], [0, 0], [0, 0]]  # a new process begins to count
        assert [info.get("respawned", False) for info in result.infos] == [False, False, True, True]
        assert [info["seeds"] for info in result.infos[2:]] == [[("int", 16)], [("int", 17)]]  # not the same episodes again
        assert env.lost == (1, 2, 4)
        assert env.get_episode_stats().environments.tolist() == [0, 1]
        assert env.step([0] * 4).rewards.tolist() == [1] * 4


def test_steps_of_an_episode_that_had_ended_are_not_lost():
    with ParallelEnv([Count] * 2, num_workers=1, respawn=True) as env:
        env.reset(seed=0)
        for _ in range(3):
            ended = env.step([0] * 2)
        assert ended.terminated.all()
        os.kill(env.worker_pids[0], signal.SIGKILL)
        result = env.step([0] * 2)
        assert result.truncated.all() and result.final_obs.tolist() == [[1, 0]] * 2
        assert env.lost == (1, 2, 0)  # two episodes that had just begun
        assert env.get_episode_stats().lengths.tolist() == [3, 3]


def test_a_hanging_worker_is_replaced(tmp_path):
    gate = str(tmp_path / "hung")

    class HangsOnce(Count):
        def step(self, action):
            if not os.path.exists(gate):
                with open(gate, "w"):
                    threading.Event().wait()
            return super().step(action)

    with ParallelEnv([Count, HangsOnce], num_workers=2, respawn=True, timeout_s=QUIET_S) as env:
        env.reset(seed=0)
        assert env.step([0] * 2).truncated.tolist() == [False, True] and env.lost.workers == 1
        assert env.step([0] * 2).rewards.tolist() == [2, 1]


def test_a_worker_killed_between_episodes_is_replaced_by_reset():
    with ParallelEnv([Count] * 2, num_workers=2, respawn=True) as env:
        env.reset(seed=0)
        for pid in env.worker_pids:
            os.kill(pid, signal.SIGKILL)
        assert env.reset(seed=0).tolist() == [[0, 0]] * 2 and env.lost == (2, 0, 0)


def test_a_worker_that_dies_again_and_again_is_given_up():
    env = ParallelEnv(with_broken("exits"), num_workers=2, respawn=True)
    env.reset(seed=0)
    for _ in range(2):
        env.step([0] * 4)
    with pytest.raises(WorkerLost, match="worker 1 .* exit code 3, 3 times in a row.*; step one environment alone"):
        env.step([0] * 4)
    with pytest.raises(Misuse, match="closed"):
        env.reset()


def test_a_worker_that_cannot_be_replaced_is_reported(tmp_path):
    made = tmp_path / "made"

    def once():
        if made.exists():
            raise RuntimeError("only one licence")
        made.touch()
        return Count()

    env = ParallelEnv([once], respawn=True)
    env.reset(seed=0)
    os.kill(env.worker_pids[0], signal.SIGKILL)
    with pytest.raises(WorkerLost, match="SIGKILL.*its replacement failed too .*only one licence(?s:.*)make a new one"):
        env.step([0])


@pytest.mark.parametrize("way", ["threads", "spawn"])
def test_an_interrupted_step_can_be_followed_by_a_reset(way, tmp_path):
    gate = tmp_path / "gate"
    with WAYS[way]([Count, functools.partial(Gated, str(gate))]) as env:
        env.reset(seed=0)
        env.step_async([0, 0])
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            env.wait_for_results()
        gate.touch()
        with pytest.raises(Misuse, match="reset"):
            env.step([0, 0])
        assert env.reset(seed=0)[:, 1].tolist() == [0, 0]
        assert env.step([0, 0]).rewards.tolist() == [1, 1]


def test_an_environment_that_hangs_as_it_is_made_is_noticed():
    with pytest.raises(WorkerLost, match="environment 1.* did not answer within .* while it started; .*raise start_timeout_s"):
        ParallelEnv([Count, _never], num_workers=2, start_timeout_s=QUIET_S)


def _never():
    threading.Event().wait()


def test_the_sequential_batch_keeps_the_environments_own_error_as_its_cause():
    env = SequentialVecEnv(with_broken("raises"))
    env.reset(seed=0)
    with pytest.raises(EnvironmentFault) as caught:
        env.step(np.zeros(4, int))
    assert isinstance(caught.value.__cause__, ValueError)
