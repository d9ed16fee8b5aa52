"""While a run trains, the programs of runs with more experts are compiled, and nothing waits for them in the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import pytest

from flowrl.envs import tasks
from flowrl.training.compiled import stored_programs
from flowrl.training.host import process
from flowrl.training.host.fair_lock import FairLock
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing.environments import begin
from flowrl.training.playing.learning import Updater
from flowrl.training.playing.rollout import collect, values
from flowrl.training.run import compile_ahead
from tests.parallel.fakes.experiments import PATIENCE_S
from tests.training.probes import done_after, programs_of, stage_of
from tests.training.test_preload import wait_for_preload
from tests.training.test_programs import NETWORK, NUM_ENVS, NumberedSteps


class KnownGame(NumberedSteps):
    identity = "numbered steps"


HYPER = Hyperparameters(update_epochs=1, num_minibatches=2)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A cache folder with the programs of a run with one expert."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWRL_CACHE_DIR", str(folder))
        updated(1)
    return folder


@pytest.fixture
def cache(compiled, tmp_path, monkeypatch):
    """A copy of that folder, and programs are compiled ahead."""
    shutil.copytree(compiled, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("FLOWRL_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv(process.COMPILE_AHEAD)
    return tmp_path / "programs"


def updated(num_experts):
    """Programs that have made one update with this many experts."""
    programs = programs_of(KnownGame(), NETWORK, NUM_ENVS, num_experts, HYPER)
    plan = tasks.plan_arrays(list(range(num_experts)), [1] * num_experts, 3)
    stage, learning = stage_of(programs, [done_after(2)] * num_experts, plan), programs.learning
    wait_for_preload()
    learner = learning.fresh_learner([learning.fresh_expert(jax.random.key(k)) for k in range(num_experts)])
    playing, rollout, _ = collect(stage, learner.params, begin(stage, jax.random.key(0), NUM_ENVS), jax.random.key(1), 2)
    Updater(learning).update(learner, rollout, values(stage, learner.params, playing), jax.random.key(2), 0.01)
    return programs


def stored(cache):
    return {path.name for path in cache.iterdir() if not path.name.startswith(".")}


def wait_for_background():
    for thread in threading.enumerate():
        if thread.name == process.BACKGROUND:
            thread.join(PATIENCE_S)


OF_GAME, OF_EXPERTS = {"generate", "step", "renew", "batch"}, {"act", "values", "update"}


def test_a_later_run_with_more_experts_finds_its_programs(cache, loads):
    programs = updated(1)
    programs.store.remember()
    loads.clear()
    before = stored(cache)
    said = []
    compile_ahead.begin(programs, FairLock(), lambda: True, said.append)
    wait_for_background()
    ahead = stored(cache)
    assert len(ahead) > len(before)
    num_new = len(ahead) - len(before)
    assert [line.split(", beside")[0].split(" in ")[0] for line in said] == [
        f"programs for later runs with 2 or 4 experts are compiled ({num_new}"
    ]
    compile_ahead.begin(programs, FairLock(), lambda: True, said.append)
    wait_for_background()
    assert len(said) == 1 and stored(cache) == ahead  # nothing to do, nothing to say
    assert loads == []
    programs = updated(2)
    assert {name for name, beforehand in loads if beforehand} >= OF_GAME  # what any run calls
    assert {name for name, beforehand in loads if not beforehand} >= OF_EXPERTS  # no run with two experts has called these
    programs.store.remember()
    loads.clear()
    updated(2)
    assert OF_GAME | OF_EXPERTS <= {name for name, beforehand in loads if beforehand} == {name for name, _ in loads}
    updated(3)  # padded to 4
    assert stored(cache) == ahead
    turn = FairLock()
    assert compile_ahead.compile_for(programs, 4, turn, lambda: False).num_left == 0
    assert compile_ahead.compile_for(programs, 5, turn, lambda: False).num_left > 0


def test_nothing_is_compiled_ahead_after_a_request_to_stop_without_memory_or_if_switched_off(cache, monkeypatch):
    programs, said = updated(1), []
    before = stored(cache)
    compile_ahead.begin(programs, FairLock(), lambda: False, said.append)
    wait_for_background()
    monkeypatch.setattr(compile_ahead, "free_memory", lambda: compile_ahead.LEAST_MEMORY - 1)
    compile_ahead.begin(programs, FairLock(), lambda: True, said.append)
    wait_for_background()
    assert [line.startswith(compile_ahead.COMPILED) and line.partition("; ")[2] for line in said] == [
        "this run was asked to end", "less than 3 GiB of memory were free"
    ]  # fmt: skip
    assert all("experts: 0 compiled, " in line and " left for those runs" in line for line in said)
    monkeypatch.undo()
    monkeypatch.setenv("FLOWRL_CACHE_DIR", str(cache.parent))
    monkeypatch.setenv(process.COMPILE_AHEAD, "0")
    compile_ahead.begin(programs, FairLock(), lambda: True, print)
    wait_for_background()
    assert stored(cache) == before


def test_a_failure_is_one_line_and_no_more(cache, monkeypatch):
    def broken(*_):
        raise RuntimeError("no memory\nfor this")

    programs, said = updated(1), []
    monkeypatch.setattr(compile_ahead, "programs_for", broken)
    compile_ahead.begin(programs, FairLock(), lambda: True, said.append)
    wait_for_background()
    assert said == ["programs for later runs were not compiled: no memory for this"]


WITH_A_THREAD = """
import threading
from flowrl.training.host import process
threading.Thread(target=threading.Event().wait, name=process.BACKGROUND).start()
print("said")
process.leave(7)
"""


def test_a_process_ends_at_once_even_with_background_work():
    command = [sys.executable, "-c", WITH_A_THREAD]  # not a daemon: an orderly end would wait for it
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment)
    assert (ended.returncode, ended.stdout) == (7, "said\n")


def test_results_do_not_depend_on_where_programs_come_from(cache, loads):
    key = jax.random.key(3)
    loaded = updated(1)
    plain = programs_of(NumberedSteps(), NETWORK, NUM_ENVS, 1, HYPER)
    assert "generate" in {name for name, _ in loads}
    found, expected = (programs.world.fresh(key, 20).observation.scalars for programs in (loaded, plain))
    assert jnp.array_equal(found, expected)


def test_an_update_is_compiled_in_turn_with_training_and_small_programs_alongside(cache, monkeypatch):
    """Neither waits forever: a thread that comes back at once lets the other one in first."""
    programs, turn = updated(1), FairLock()
    held, while_held, done = threading.Event(), [], []
    store_ahead = stored_programs.StoredProgram.store_ahead

    def watched(program, *shapes):
        while_held.append((program.name.split()[0], held.is_set()))
        done.append(store_ahead(program, *shapes))
        return done[-1]

    monkeypatch.setattr(stored_programs.StoredProgram, "store_ahead", watched)
    compiling = threading.Thread(target=compile_ahead.compile_for, args=(programs, 2, turn), daemon=True)
    deadline = time.monotonic() + PATIENCE_S
    with turn:
        held.set()
        compiling.start()
        while len(done) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        held.clear()
    while compiling.is_alive() and time.monotonic() < deadline:
        with turn:
            held.set()
            time.sleep(0.001)
            held.clear()
    assert done == [True] * 4
    assert while_held == [("fresh", True), ("act", True), ("values", True), ("update", False)]
