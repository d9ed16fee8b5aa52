"""Every test has its own tmux server, on a private socket, under the default name: commands run as printed."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("flowrl", deadline=None)  # no test depends on the machine's speed
hypothesis.settings.load_profile("flowrl")

SLOW_FILES = """test_begun_before test_faults test_games test_corpus test_front_door test_loop test_reward_trial test_start
test_compile_ahead
    test_benchmarks test_active_columns test_probe_environments test_simulation test_integration test_curriculum_in_the_game
    test_monitoring test_scheduler test_curricula test_run test_plain_agents test_command test_explore test_no_progress
    test_observed test_agent test_train_ppo test_actor_learner test_fuel_break_training test_breaks""".split()


def pytest_collection_modifyitems(items):
    """Files that take long begin first: a few processes share the files, and end together if the last ones are short.

    Of files that compile or record the same, one comes much later, and finds that in a cache. What waits for processes of
    its own most of the time is played beside what computes.
    """
    order = {name: place for place, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def pytest_collection_finish(session):
    """Half a million objects have come with thousands of tests: from now on, no garbage collection goes through them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def heeded_signals():
    """Processes that a test starts handle these signals, even if a shell or nohup made pytest ignore them."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="session")
def compiled_when_needed():
    """No test waits for programs that another might need."""
    os.environ["FLOWRL_COMPILE_AHEAD"] = "0"


@contextmanager
def same_environment(environ: os._Environ[str] = os.environ) -> Iterator[None]:
    before = dict(environ)
    yield
    for name in environ.keys() - before.keys():
        del environ[name]
    environ.update({name: value for name, value in before.items() if environ.get(name) != value})


@pytest.fixture(autouse=True, scope="module")
def environment_of_a_file():
    """A trainer that a test calls prepares this process for JAX: no later file inherits its cache folder."""
    with same_environment():
        yield


@pytest.fixture(autouse=True)
def environment_of_a_test(environment_of_a_file):
    """The same for the tests of one file; what its shared fixtures set stays."""
    with same_environment():
        yield


@pytest.fixture(autouse=True)
def private_tmux(monkeypatch):
    """``TMUX_TMPDIR`` of this test; what a test leaves in its server is ended with it."""
    folder = Path(tempfile.mkdtemp(prefix="flowrl-tmux-"))  # not tmp_path: a socket's path has at most 107 bytes
    monkeypatch.setenv("TMUX_TMPDIR", str(folder))
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.delenv("TMUX_PANE", raising=False)
    yield folder
    if any(folder.rglob("default")):
        environment = {"TMUX_TMPDIR": str(folder), "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin"}
        subprocess.run(["tmux", "kill-server"], env=environment, capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)
