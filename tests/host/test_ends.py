"""However a program ends, its workers end, and no shared memory is left. Real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flowrl.host import ParallelEnv
from tests.host.games import Count

GIVE_UP_S = 60
SHARED = Path("/dev/shm")

STEPPING = """
import sys
from flowrl.host import ParallelEnv
from tests.host.games import Broken
hangs, method = sys.argv[1] == "hangs", sys.argv[2]
env = ParallelEnv([lambda: Broken("hangs" if hangs else "")] * 4, method, num_workers=2)
env.reset(seed=0)
print(*env.worker_pids, flush=True)
while True:
    env.step([0] * 4)
"""


@pytest.fixture
def shared_before():
    return set(os.listdir(SHARED)) if SHARED.exists() else set()


def start(program: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def pids_of(process: subprocess.Popen) -> list[int]:
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2, process.communicate()[1]
    return pids


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def expect_all_gone(pids: list[int], shared_before: set[str], within_s: float = GIVE_UP_S) -> None:
    deadline = time.monotonic() + within_s
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, f"of {pids} some are still running"
        time.sleep(0.02)
    assert not new_names(shared_before)


def new_names(before: set[str]) -> set[str]:
    """What has come into shared memory, but for what tests beside this one may have put there under other names."""
    now = set(os.listdir(SHARED)) if SHARED.exists() else set()
    return {name for name in now - before if "flowrl" in name or name.startswith("psm_")}


@pytest.mark.parametrize(
    ("how", "method"), [("steps", "spawn"), ("hangs", "spawn"), ("steps", "forkserver"), ("hangs", "fork")]
)
def test_workers_of_a_killed_program_end(how, method, shared_before):
    process = start(STEPPING, how, method)
    pids = pids_of(process)
    assert all(is_running(pid) for pid in pids)
    process.kill()
    process.wait()
    expect_all_gone(pids, shared_before)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_ctrl_c_ends_everything_quietly(method, shared_before):
    process = start(STEPPING, "steps", method)
    pids = pids_of(process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the program and its workers
    errors = process.communicate(timeout=GIVE_UP_S)[1]
    expect_all_gone(pids, shared_before)
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1 and "KeyboardInterrupt" in errors  # that of the program, none of a worker


def test_ctrl_c_while_a_worker_hangs(shared_before):
    process = start(STEPPING, "hangs", "spawn")
    pids = pids_of(process)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=GIVE_UP_S)
    expect_all_gone(pids, shared_before)


def test_a_program_that_forgets_to_close_ends(shared_before):
    process = start("from flowrl.host import ParallelEnv\nfrom tests.host.games import Count\n"
                    "env = ParallelEnv([Count] * 2, num_workers=2)\nprint(*env.worker_pids)")  # fmt: skip
    output, errors = process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 0 and not errors.replace(warning_of(errors), "")
    expect_all_gone([int(word) for word in output.split()], shared_before)


@pytest.mark.parametrize("end", ["env.close()", "del env", "pass", "raise SystemExit(0)"])
def test_environments_are_closed_however_the_batch_ends(end, tmp_path):
    path = tmp_path / "closed"
    process = start(
        "import functools\nfrom flowrl.host import ParallelEnv\nfrom tests.host.games import Leaves\n"
        f"env = ParallelEnv([functools.partial(Leaves, {str(path)!r})] * 2, num_workers=1)\n{end}"
    )
    process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 0 and path.read_text() == "closed\n" * 2


def warning_of(errors: str) -> str:
    """The line that a machine with one core gets."""
    return "".join(line for line in errors.splitlines(keepends=True) if "more workers than cores" in line)


def test_closing_and_forgetting_free_everything(shared_before):
    descriptors, children = len(os.listdir("/proc/self/fd")), {*psutil.Process().children()}  # of other tests
    with ParallelEnv([Count] * 2, num_workers=2) as env:
        pids = env.worker_pids
        env.reset(seed=0)
    forgotten = ParallelEnv([Count] * 2, "forkserver", num_workers=2)
    pids += forgotten.worker_pids
    del env, forgotten
    expect_all_gone(pids, shared_before)
    assert len(os.listdir("/proc/self/fd")) == descriptors and {*psutil.Process().children()} <= children


def test_the_shared_memory_has_no_name(shared_before):
    with ParallelEnv([Count] * 2, num_workers=2) as env:
        env.reset(seed=0)
        assert not new_names(shared_before)
        maps = [Path(f"/proc/{pid}/maps").read_text() for pid in (os.getpid(), *env.worker_pids)]
        assert all("memfd:flowrl-host" in text for text in maps)  # all have it


def test_workers_import_no_jax_even_if_the_program_does(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        # Without a guard around it, a script that multiprocessing imports again would start itself for ever.
        "import jax\n"
        "from flowrl.host import ParallelEnv\n"
        "from tests.host.games import Modules\n"
        "for method in ('spawn', 'forkserver'):\n"
        "    with ParallelEnv([Modules, lambda: Modules()], method, num_workers=2, with_infos=True) as env:\n"
        "        env.reset(seed=0)\n"
        "        print([info['imported'] for info in env.reset_infos])\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "[[], []]\n[[], []]\n", done.stderr


def test_a_worker_finds_the_modules_of_the_program(tmp_path):
    (tmp_path / "my_game.py").write_text("from tests.host.games import Count\nclass Mine(Count):\n    pass\n")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from my_game import Mine\nfrom flowrl.host import ParallelEnv\n"
        "with ParallelEnv([Mine] * 2, num_workers=1) as env:\n    print(env.reset(seed=0).tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "[[0.0, 0.0], [0.0, 0.0]]\n", done.stderr


def test_the_check_of_an_installation_passes():
    command = [sys.executable, "-m", "flowrl.host.test_parallel_env"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout.endswith("✅ ALL TESTS PASSED!\n🎉 All tests completed successfully!\n") and "❌" not in done.stdout
