"""Checkpoints written in the background: one at a time, from a copy, and no failure is lost."""

from __future__ import annotations

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl import pickles
from flowrl.errors import FlowrlError
from flowrl.parallel.processes import retry_until
from flowrl.training.learning import optimiser
from flowrl.training.learning.ppo import Learner
from flowrl.training.run import checkpoints, measuring, parts, saving
from flowrl.training.run.saving import MOST_COST_S, Saver, copy_of
from flowrl.training.run.state import RunState
from tests.parallel.fakes.experiments import PATIENCE_S
from tests.training.test_loop import Alive, Cancelled, Gold, specification, train


class SlowDisk:
    """Writes when the test lets it; records the frames of the writes started and finished."""

    def __init__(self, *failures: Exception | None):
        self.failures = list(failures)
        self.begun: list[int] = []
        self.written: list[int] = []
        self.go_on = threading.Event()
        self.most_at_once = self._at_once = 0

    def write(self, state: RunState) -> str:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        self.begun.append(state.frames)
        assert self.go_on.wait(PATIENCE_S)
        self._at_once -= 1
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        self.written.append(state.frames)
        return f"checkpoint_{state.frames}.pkl"


def state(frames):
    params = {"weights": jnp.arange(6.0)}
    learner = Learner(params, optimiser.init(optimiser.make(1.0), params))
    return RunState(learner, frames, frames, np.zeros(1, np.int64), jax.random.key(0))


def in_a_thread(call):
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def test_a_checkpoint_is_begun_without_waiting_for_it_and_the_next_one_waits():
    disk = SlowDisk()
    saver = Saver(disk.write)
    saver.begin(state(1))  # comes back, though nothing can be written yet
    second = in_a_thread(lambda: saver.begin(state(2)))
    assert retry_until(lambda: disk.begun == [1], PATIENCE_S)
    assert second.is_alive() and disk.written == []
    disk.go_on.set()
    second.join(PATIENCE_S)
    saver.close()
    assert disk.written == [1, 2] and disk.most_at_once == 1


def test_a_foreground_save_follows_the_write_under_way_and_is_on_disk_when_it_returns():
    disk = SlowDisk()
    saver = Saver(disk.write)
    saver.begin(state(1))
    disk.go_on.set()
    assert saver.save(state(2)) == "checkpoint_2.pkl"
    assert disk.written == [1, 2] and disk.most_at_once == 1


def test_closing_waits_for_the_write_under_way():
    disk = SlowDisk()
    saver = Saver(disk.write)
    saver.begin(state(1))
    closing = in_a_thread(saver.close)
    assert retry_until(lambda: disk.begun == [1], PATIENCE_S) and closing.is_alive()
    disk.go_on.set()
    closing.join(PATIENCE_S)
    assert disk.written == [1]


@pytest.mark.parametrize("how", ["look", "begin"])
def test_a_failure_in_the_background_is_raised_once_by_the_next_call(how):
    disk = SlowDisk(OSError(28, "No space left on device"))
    disk.go_on.set()
    saver = Saver(disk.write)
    calls = {"look": saver.look, "begin": lambda: saver.begin(state(2))}
    saver.begin(state(1))
    assert retry_until(lambda: disk.failures == [], PATIENCE_S)

    def noticed():
        with pytest.raises(OSError, match="No space left"):
            calls[how]()
        return True

    if how == "look":  # never waits: the thread may still be on its way out
        assert retry_until(lambda: saver._under_way.done(), PATIENCE_S)
    assert noticed() and disk.written == []
    calls[how]()
    saver.close()
    assert disk.written == ([2] if how == "begin" else [])


def test_a_newer_checkpoint_makes_good_for_one_that_found_no_room_but_not_for_a_diverged_one():
    disk = SlowDisk(OSError(28, "No space left on device"), None, FlowrlError("diverged"))
    disk.go_on.set()
    saver = Saver(disk.write)
    saver.begin(state(1))
    assert saver.save(state(2)) == "checkpoint_2.pkl"
    saver.begin(state(3))
    with pytest.raises(FlowrlError, match="diverged"):
        saver.save(state(4))
    assert disk.written == [2]


def test_a_dear_checkpoint_is_due_less_often_so_that_its_share_of_the_time_stays_the_same():
    now = [100.0]
    saver = Saver(lambda state: str(sum(range(1_000_000))), lambda: now[0])
    saver.save(state(1))
    assert saver.cost_s > 0  # its cost is known

    def due_after(seconds):
        now[0] = 100.0 + seconds
        return saver.is_due(60.0)

    saver.cost_s = MOST_COST_S / 2
    assert not due_after(59) and due_after(61)
    saver.cost_s = 5 * MOST_COST_S
    assert not due_after(299) and due_after(301)


def test_a_copy_keeps_its_numbers_and_leaves_the_memory_to_the_next_update():
    add = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    old = state(1)._replace(learner=add(state(1).learner))
    before = jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), old.learner)
    copy = copy_of(old).learner
    new = add(old.learner)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old.learner.params))  # with a view of it, it could not be used up
    assert jax.tree.map(lambda leaf: leaf.tolist(), copy) == before
    assert new.params["weights"].tolist() != before.params["weights"]


class Gate:
    """A lifetime's heartbeats and a writer that wait for each other: nothing is written before update ``until`` is done."""

    def __init__(self, until: int):
        self.open = threading.Event()
        self.until = until
        self.waited: list[bool] = []
        self.save = checkpoints.save

    def beat(self, phases):
        if phases.count("training") >= self.until:
            self.open.set()

    def write(self, *arguments):
        self.waited.append(self.open.wait(PATIENCE_S))
        return self.save(*arguments)


def gated(lifetime_class, gate, *args):
    class Watched(lifetime_class):
        def beat(self, phase, usual_s=0.0):
            super().beat(phase, usual_s)
            gate.beat(self.phases)

    return Watched(*args)


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(until=3)
    monkeypatch.setattr(parts, "make_adapter", lambda env_name: Gold())
    monkeypatch.setattr(measuring, "TEST_EPISODES", 16)
    monkeypatch.setattr(checkpoints, "save", gate.write)
    return gate


def every_update(monkeypatch):
    monkeypatch.setattr(saving, "CHECKPOINT_S", 0.0)


def test_training_goes_on_while_a_checkpoint_is_written_and_the_file_holds_what_was_learned_when_it_was_begun(
    tmp_path, monkeypatch, gate
):
    begun, begin = {}, Saver.begin

    def once(self, state):
        if not begun:
            begun[state.frames] = jax.tree.map(lambda leaf: np.array(leaf[0]), state.learner)
            begin(self, state)

    every_update(monkeypatch)
    monkeypatch.setattr(Saver, "begin", once)
    run = specification(tmp_path, success_rate=1.0, total_timesteps=5 * 128)
    result = train(run, gated(Alive, gate))
    assert gate.waited == [True, True]  # the first checkpoint was written after the third update; the last one is the second
    assert [path.name for path in run.paths.checkpoints()] == ["checkpoint_128.pkl", "checkpoint_640.pkl"]
    record = pickles.load(run.paths.checkpoints()[0])
    jax.tree.map(np.testing.assert_array_equal, record["experts"]["0"]["params"], begun[128].params)
    assert record["metadata"]["frames"] == 128 and result.checkpoint.endswith("checkpoint_640.pkl")


def test_ctrl_c_while_a_checkpoint_is_written_leaves_that_one_and_the_newest(tmp_path, monkeypatch, gate):
    gate.until = 2  # opened with the last heartbeat before Ctrl-C
    begin, begun = Saver.begin, []

    def once(self, *arguments):
        if not begun:
            begun.append(arguments)
            begin(self, *arguments)

    every_update(monkeypatch)
    monkeypatch.setattr(Saver, "begin", once)
    run = specification(tmp_path, success_rate=1.0, total_timesteps=5 * 128)
    with pytest.raises(KeyboardInterrupt):
        train(run, gated(Cancelled, gate, 2))
    assert [path.name for path in run.paths.checkpoints()] == ["checkpoint_128.pkl", "checkpoint_384.pkl"]


def test_a_checkpoint_that_fails_in_the_background_ends_the_run_with_its_reason(tmp_path, monkeypatch):
    def fail(*arguments):
        raise FlowrlError("training Find_Gold diverged: a parameter is not a number; try a smaller --lr")

    every_update(monkeypatch)
    monkeypatch.setattr(parts, "make_adapter", lambda env_name: Gold())
    monkeypatch.setattr(checkpoints, "save", fail)
    run = specification(tmp_path, success_rate=1.0, total_timesteps=100 * 128)
    lifetime = Alive()
    with pytest.raises(FlowrlError, match="diverged: a parameter is not a number"):
        train(run, lifetime)
    assert lifetime.phases.count("training") < 100
