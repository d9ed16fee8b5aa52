"""Code in a child can only compute. The code here has not been through the static checks."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from flowrl.gate import kernel_filters, sandbox
from flowrl.gate.kernel_filters import NotOffered, landlock_version
from flowrl.gate.sandbox import Child, Limits, Response, enclose

QUICK = Limits(cpu_s=5, wall_s=120.0, memory_mb=256)


def has_seccomp() -> bool:
    """Whether this kernel lets a child install seccomp filters."""
    child = Child(lambda: None, lambda question: None, QUICK)
    protection = child.protection()
    child.end()
    return protection.seccomp


needs_landlock = pytest.mark.skipif(not landlock_version(), reason="this kernel has no Landlock; its note is tested instead")
needs_seccomp = pytest.mark.skipif(not has_seccomp(), reason="this kernel has no seccomp; its note is tested instead")


def response(action, limits=QUICK) -> Response:
    child = Child(lambda: None, lambda question: action(), limits)
    assert child.protection() is not None
    return child.ask("go")


def assert_refused(result: Response) -> None:
    assert result.kind == "failed" and result.answer.startswith("PermissionError"), result


def test_code_that_only_computes_is_answered():
    child = Child(lambda: None, lambda question: {"twice": 2 * question}, QUICK)
    child.protection()
    assert child.ask(21).answer == {"twice": 42}


def test_computing_may_use_threads():
    def add_in_a_thread():
        found = []
        thread = threading.Thread(target=lambda: found.append(sum(range(10))))
        thread.start()
        thread.join()
        return found

    assert response(add_in_a_thread).answer == [45]


@needs_landlock
def test_only_files_of_the_python_library_can_be_read(tmp_path):
    secret = tmp_path / "key"
    secret.write_text("sk-secret")
    assert_refused(response(secret.read_text))
    assert_refused(response(lambda: open("/proc/self/environ").read()))
    assert_refused(response(lambda: os.listdir(tmp_path)))
    assert response(lambda: open(os.__file__).read(1)).kind == "answered"


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("x"),
        lambda path: (path.parent / "new").touch(),
        lambda path: path.unlink(),
        lambda path: path.rename(path.parent / "other"),
        lambda path: path.chmod(0o777),
        lambda path: os.truncate(path, 0),
        lambda path: os.utime(path),
        lambda path: (path.parent / "folder").mkdir(),
        lambda path: (path.parent / "link").symlink_to(path),
        lambda path: os.link(path, path.parent / "twin"),
    ],
    ids="write create delete rename chmod truncate touch mkdir symlink link".split(),
)
@needs_seccomp
def test_no_file_is_changed(tmp_path, change):
    path = tmp_path / "file"
    path.write_text("as it was")
    before = path.stat()
    assert_refused(response(lambda: change(path)))
    assert path.read_text() == "as it was" and path.stat().st_mode == before.st_mode
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@needs_landlock
def test_landlock_alone_keeps_files_from_being_written_and_programs_from_being_run(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_filters, "close_calls", _not_offered)
    assert_refused(response((tmp_path / "new").touch))
    assert_refused(response(lambda: os.execv("/bin/true", ["true"])))


@needs_seccomp
def test_seccomp_alone_keeps_files_from_being_written_and_programs_from_being_run(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_filters, "close_files", _not_offered)
    assert_refused(response((tmp_path / "new").touch))
    assert_refused(response(lambda: os.execv("/bin/true", ["true"])))


@needs_seccomp
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW], ids=["tcp", "udp", "raw"])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX], ids=["ipv4", "ipv6", "unix"])
def test_no_socket_is_opened(family, kind):
    assert_refused(response(lambda: socket.socket(family, kind).close()))


@needs_seccomp
def test_nothing_gets_out_by_udp_and_nothing_connects_by_tcp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.create_server(("127.0.0.1", 0)) as tcp:
        udp.bind(("127.0.0.1", 0))
        udp_address, tcp_address = udp.getsockname(), tcp.getsockname()

        def send():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
                own.sendto(b"secret", udp_address)

        assert_refused(response(send))
        assert_refused(response(lambda: socket.create_connection(tcp_address, timeout=2)))
        udp.setblocking(False)
        with pytest.raises(BlockingIOError):
            udp.recv(10)


@needs_seccomp
def test_an_open_socket_of_the_parent_is_not_inherited():
    left, right = socket.socketpair()
    os.set_inheritable(right.fileno(), True)
    result = response(lambda: os.write(right.fileno(), b"x"))
    assert result.kind == "failed" and "Bad file descriptor" in result.answer
    left.close(), right.close()


@needs_seccomp
@pytest.mark.parametrize(
    "action",
    [
        lambda: os.execv("/bin/true", ["true"]),
        lambda: subprocess.run(["/bin/true"], check=True),
        os.fork,
        lambda: os.posix_spawn("/bin/true", ["true"], {}),
        lambda: os.kill(os.getppid(), signal.SIGTERM),
        os.setsid,
        lambda: os.setuid(12345),
    ],
    ids="execv subprocess fork spawn kill setsid setuid".split(),
)
def test_no_program_no_process_and_no_signal(action):
    assert_refused(response(action))


@needs_seccomp
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("ptrace", (0, 0, 0, 0)), ("unshare", (0x10000000,)), ("mount", (None, None, None, 0, None)), ("prctl", (1, 0, 0, 0, 0))],
)
def test_no_call_that_loosens_its_restrictions(name, arguments):
    def call():
        libc = ctypes.CDLL(None, use_errno=True)
        return [getattr(libc, name)(*arguments), ctypes.get_errno()]

    assert response(call).answer == [-1, 1]


def test_its_limits_cannot_be_raised():
    import resource

    result = response(lambda: resource.setrlimit(resource.RLIMIT_CPU, (999, 999)))
    assert result.kind == "failed"


def test_an_endless_loop_in_python_ends_at_its_cpu_time():
    def spin():
        while True:
            pass

    result = response(spin, Limits(cpu_s=1, wall_s=300.0))
    assert result.kind == "time" and result.seconds < 300


def test_a_sleeper_ends_at_its_wall_time():
    result = response(lambda: time.sleep(60), Limits(wall_s=0.5))
    assert result.kind == "time" and result.seconds < 60


def test_an_array_that_is_too_large_is_not_made():
    assert response(lambda: len(bytearray(50 * 10**9))).kind == "memory"
    assert response(lambda: len(bytearray(400 * 2**20))).kind == "memory"
    assert response(lambda: len(bytearray(50 * 2**20))).answer == 50 * 2**20


def test_an_endless_answer_is_cut_off():
    assert response(lambda: "x" * 10**7).kind == "crashed"


def test_a_child_that_kills_itself_is_no_harm():
    assert response(os.abort).kind == "crashed"
    assert response(lambda: os._exit(0)).kind == "crashed"


def test_no_child_outlives_its_question():
    child = Child(lambda: None, lambda question: 1, QUICK)
    child.protection()
    child.ask(None)
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="macOS has no such signal; the child ends with its pipe")
def test_no_child_outlives_its_parent():
    code = (
        "import os, time\nfrom flowrl.gate.sandbox import Child, Limits\n"
        "child = Child(lambda: None, lambda question: time.sleep(60), Limits())\nchild.protection()\n"
        "print(child.pid, flush=True)\nos.kill(os.getpid(), 9)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout
    for _ in range(500):
        try:
            os.kill(int(printed), 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("the child is still there")


def test_jax_computes_in_there_and_its_endless_loop_ends():
    code = """
import jax, jax.numpy as jnp
from flowrl.gate.sandbox import Child, Limits
def child(function):
    made = Child(lambda: None, lambda question: float(function()), Limits(cpu_s=2, wall_s=300.0))
    made.protection()
    return made.ask(None)
print(child(lambda: jax.jit(lambda x: x.sum())(jnp.arange(5))).answer)
print(child(lambda: jax.lax.while_loop(lambda x: x > -5, lambda x: jnp.sin(x) + 1, 0.0)).kind)
"""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.split() == ["10.0", "time"], done.stderr


def test_jax_computes_in_there_what_it_computes_outside():
    """Sums, products and softmax use a kernel library, which looks up the processor when it is first used."""
    code = """
import jax, jax.numpy as jnp, numpy as np
from flowrl.gate.sandbox import Child, Limits
numbers = np.random.default_rng(0).normal(size=(512, 24)).astype(np.float32)
programs = [
    lambda x: x.sum(), lambda x: x.sum(0), jax.nn.softmax, lambda x: x @ x.T[:, :24],
    lambda x: (100 * x).astype(int).astype(float).sum(1),
    lambda x: x.astype(jnp.bfloat16).sum(1).astype(float), lambda x: jnp.abs(x).max(1), lambda x: jnp.linalg.norm(x, axis=1),
]
def computed(which):
    return np.asarray(jax.jit(programs[which])(numbers)).tolist()
def in_a_child(which):
    child = Child(lambda: None, computed, Limits(wall_s=300.0))
    child.protection()
    return child.ask(which)
inside = [in_a_child(which) for which in range(len(programs))]
for which, response in enumerate(inside):  # a process that has computed is not forked
    assert response.kind == "answered", response
    np.testing.assert_array_equal(response.answer, computed(which))
print("the same")
"""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == "the same\n", done.stderr


def test_a_kernel_without_either_feature_is_noted(monkeypatch):
    monkeypatch.setattr(kernel_filters, "close_files", _not_offered)
    monkeypatch.setattr(kernel_filters, "close_calls", _not_offered)
    child = Child(lambda: None, lambda question: None, QUICK)
    protection = child.protection()
    child.end()
    assert (protection.landlock, protection.seccomp) == (0, False)
    assert [note.split(":")[0] for note in protection.notes] == ["no Landlock", "no seccomp"]


def test_the_protection_matches_what_this_kernel_offers():
    child = Child(lambda: None, lambda question: None, QUICK)
    protection = child.protection()
    child.end()
    assert protection.landlock == landlock_version()
    lacking = (protection.landlock == 0) + (not protection.seccomp)
    assert len(protection.notes) == lacking


def test_this_process_is_not_enclosed(tmp_path):
    assert enclose is sandbox.enclose
    (tmp_path / "file").write_text("x")
    socket.socket().close()


def _not_offered(*_):
    raise NotOffered("not in this test")
