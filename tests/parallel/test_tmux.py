"""The tmux launcher, on its own real server."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from flowrl.errors import BadInput
from flowrl.machine import usable_cores
from flowrl.parallel import environment
from flowrl.parallel.launchers import tmux
from flowrl.parallel.launchers.base import EngineStatus, EngineUnreachable, NotLaunched, Phase
from flowrl.parallel.launchers.tmux import TmuxLauncher
from flowrl.parallel.processes import retry_until, with_cookie
from flowrl.parallel.slots import cpu_slots, gpu_slots
from flowrl.paths import RunPaths
from tests.parallel.fakes.experiments import PATIENCE_S
from tests.parallel.launcher_contract import LauncherContract

HOSTILE = """
set -g destroy-unattached on
set -g default-shell /nonexistent/shell
set -g default-command "exit 1"
set -g remain-on-exit on
set -g base-index 7
set -g pane-base-index 3
"""


def sh(line):
    """Runs what a user types. Returns the output; ignores the exit code."""
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False).stdout


@pytest.fixture
def launcher():
    launcher = TmuxLauncher()
    yield launcher
    try:
        for pane in launcher._panes():
            if pane.cookie:
                launcher.cancel(pane.handle(), grace_s=0.0)
    except (EngineUnreachable, BadInput):  # a finaliser never fails; the server itself is ended after it
        pass


class TestTmuxLauncher(LauncherContract):
    pass


def test_a_run_has_a_session_that_the_seeds_commands_find(launcher, spec):
    handle = launcher.launch(spec())
    assert handle.name == "flowrl_e2_Make_Pickaxe"
    assert sh("tmux list-sessions | grep flowrl_").startswith("flowrl_e2_Make_Pickaxe: 1 windows (created ")
    assert sh("tmux has-session -t flowrl_e2_Make_Pickaxe; echo $?") == "0\n"
    assert launcher.attach_command(handle) == ["tmux", "attach", "-t", "flowrl_e2_Make_Pickaxe"]
    assert launcher.poll([handle])[handle.engine_id].phase is Phase.RUNNING
    assert handle.process.is_alive()


def test_a_hostile_configuration_does_not_end_a_run(launcher, spec, tmp_path, monkeypatch):
    (tmp_path / ".tmux.conf").write_text(HOSTILE)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    handle = launcher.launch(spec())
    other = launcher.launch(spec("Collect_Wood", index=0))
    statuses = launcher.poll([handle, other])
    assert [status.phase for status in statuses.values()] == [Phase.RUNNING, Phase.RUNNING]
    assert sh("tmux show-options -g destroy-unattached") == "destroy-unattached on\n"  # the user's stays as it was


def test_a_run_is_launched_once_for_each_attempt(launcher, spec):
    first = launcher.launch(spec())
    assert launcher.launch(spec()) == first
    second = launcher.launch(spec(attempt=2))
    assert second.engine_id != first.engine_id
    assert second.name == "flowrl_e2_Make_Pickaxe_2"


def test_the_dead_pane_of_an_older_attempt_gives_its_name_back(launcher, spec):
    first = launcher.launch(spec(argv=("false", "x")))
    assert retry_until(lambda: launcher.poll([first])[first.engine_id].phase is Phase.EXITED, PATIENCE_S)
    assert launcher.launch(spec(attempt=2)).name == "flowrl_e2_Make_Pickaxe"


def test_two_experiments_with_equal_names_do_not_touch_each_other(launcher, spec):
    ours, theirs = launcher.launch(spec(experiment="ours")), launcher.launch(spec(experiment="theirs"))
    assert (ours.name, theirs.name) == ("flowrl_e2_Make_Pickaxe", "flowrl_e2_Make_Pickaxe_2")
    assert launcher.find(ours.run_folder.parent.parent) == [ours]
    assert launcher.cancel(ours, grace_s=5)
    assert launcher.poll([theirs])[theirs.engine_id].phase is Phase.RUNNING
    assert sh("tmux show-environment -t =flowrl_e2_Make_Pickaxe_2: FLOWRL_EXPERIMENT") == (
        f"FLOWRL_EXPERIMENT={theirs.run_folder.parent.parent}\n"
    )


def test_a_session_of_the_users_own_is_neither_taken_nor_ended(launcher, spec):
    sh("tmux new-session -d -s flowrl_e2_Make_Pickaxe sleep 300")
    sh("tmux new-session -d -s flowrl_e2_Make_Pickaxe_10 sleep 300")
    handle = launcher.launch(spec())
    assert handle.name == "flowrl_e2_Make_Pickaxe_2"
    assert launcher.find(handle.run_folder.parent.parent) == [handle]
    launcher.cancel(handle, grace_s=5)
    assert sorted(sh("tmux list-sessions -F '#{session_name}'").split()) == [
        "flowrl_e2_Make_Pickaxe",
        "flowrl_e2_Make_Pickaxe_10",
    ]


def test_a_pane_that_the_user_split_off_is_the_users(launcher, spec):
    handle = launcher.launch(spec())
    sh("tmux split-window -t =flowrl_e2_Make_Pickaxe: sleep 300")
    assert launcher.find(handle.run_folder.parent.parent) == [handle]
    launcher.cancel(handle, grace_s=5)
    assert sh("tmux list-panes -a -F '#{pane_current_command}'") == "sleep\n"
    assert launcher.poll([handle])[handle.engine_id].phase is Phase.LOST


def test_cancelling_ends_processes_that_left_the_tree_and_may_be_repeated(launcher, spec):
    script = "setsid nohup sleep 300 & trap '' TERM HUP; sleep 300 & wait; sleep 300"
    handle = launcher.launch(spec(argv=("bash", "-c", script)))
    assert retry_until(lambda: len(with_cookie(handle.cookie)) >= 3, PATIENCE_S)
    assert launcher.cancel(handle, grace_s=0.2)
    assert with_cookie(handle.cookie) == []
    assert "flowrl_" not in sh("tmux list-sessions")
    assert launcher.cancel(handle, grace_s=0.2)


def assert_ended(launcher, handle, status):
    """A dead pane with this status, or with none: tmux 3.3a now and then never learns how a pane's process ended.

    The keeper's ``run.exit`` is what counts; tmux's word is a hint.
    """
    assert retry_until(lambda: launcher.poll([handle])[handle.engine_id].phase is Phase.EXITED, PATIENCE_S)
    assert launcher.poll([handle])[handle.engine_id] in (status, EngineStatus(Phase.EXITED))


def test_a_failed_run_keeps_its_last_words_until_they_are_read(launcher, spec):
    handle = launcher.launch(spec(argv=(sys.executable, "-c", "import no_such_module")))
    assert_ended(launcher, handle, EngineStatus(Phase.EXITED, code=1))
    assert "ModuleNotFoundError: No module named 'no_such_module'" in launcher.output(handle)
    launcher.cancel(handle, grace_s=0)
    assert launcher.poll([handle])[handle.engine_id].phase is Phase.LOST


def session_stands():
    return "flowrl_e2_Make_Pickaxe" in sh("tmux list-sessions")


def test_the_session_of_a_failed_run_stays_for_a_while(launcher, spec):
    handle = launcher.launch(spec(argv=("sh", "-c", "echo the last words; exit 3")))
    assert_ended(launcher, handle, EngineStatus(Phase.EXITED, code=3))
    launcher.cancel(handle, grace_s=0, show_s=2)
    assert session_stands() and "the last words" in launcher.output(handle)
    assert retry_until(lambda: not session_stands(), PATIENCE_S)


def test_a_failed_session_that_somebody_looks_at_stays_until_they_leave(launcher, spec):
    handle = launcher.launch(spec(argv=("sh", "-c", "exit 3")))
    assert_ended(launcher, handle, EngineStatus(Phase.EXITED, code=3))
    terminal, end = pty.openpty()
    reader = subprocess.Popen(["tmux", "attach", "-t", handle.name], stdin=end, stdout=end, stderr=end)
    try:
        attached = "tmux display-message -p -t =flowrl_e2_Make_Pickaxe: '#{session_attached}'"
        assert retry_until(lambda: sh(attached) == "1\n", PATIENCE_S)
        launcher.cancel(handle, grace_s=0, show_s=1)
        hooks = "tmux show-hooks -t =flowrl_e2_Make_Pickaxe:"
        assert retry_until(lambda: "client-detached" in sh(hooks), PATIENCE_S), "the time is over"
        assert session_stands()
        sh("tmux detach-client -s =flowrl_e2_Make_Pickaxe")
        assert retry_until(lambda: not session_stands(), PATIENCE_S)
    finally:
        reader.kill()
        reader.wait()
        os.close(terminal)
        os.close(end)


def test_the_next_attempt_takes_the_place_of_a_failed_session_that_is_still_shown(launcher, spec):
    first = launcher.launch(spec(argv=("false", "x")))
    assert_ended(launcher, first, EngineStatus(Phase.EXITED, code=1))
    launcher.cancel(first, grace_s=0, show_s=600)
    assert launcher.launch(spec(attempt=2)).name == "flowrl_e2_Make_Pickaxe"


def test_the_signal_that_ended_a_run_is_reported(launcher, spec):
    handle = launcher.launch(spec(argv=("sh", "-c", "while [ ! -e go ]; do sleep 0.02; done; kill -9 $$")))
    (spec.folder / "go").touch()
    assert_ended(launcher, handle, EngineStatus(Phase.EXITED, signal=9))


def test_a_user_who_scrolls_and_detaches_does_not_disturb_a_run(launcher, spec):
    written = "i=0; while [ ! -e go ]; do echo line $i; i=$((i+1)); sleep 0.02; done; touch ended; exit 7"
    handle = launcher.launch(spec(argv=("sh", "-c", written)))
    sh("tmux copy-mode -t =flowrl_e2_Make_Pickaxe:")
    sh("tmux send-keys -t =flowrl_e2_Make_Pickaxe: -X page-up")
    assert sh("tmux display-message -p -t =flowrl_e2_Make_Pickaxe: '#{pane_in_mode}'") == "1\n"
    sh("tmux detach-client -s =flowrl_e2_Make_Pickaxe")
    assert launcher.poll([handle])[handle.engine_id].phase is Phase.RUNNING
    (spec.folder / "go").touch()
    assert_ended(launcher, handle, EngineStatus(Phase.EXITED, code=7))
    assert (spec.folder / "ended").exists()
    assert "line 0" in launcher.output(handle)  # the output, not what the user has scrolled to
    launcher.cancel(handle, grace_s=0)
    assert launcher.poll([handle])[handle.engine_id].phase is Phase.LOST


def test_a_very_long_name_is_launched_found_and_ended(launcher, spec):
    name = "Make_" + "Very_" * 40 + "Long"
    handle, other = launcher.launch(spec(name)), launcher.launch(spec(f"{name}er", index=3))
    assert sorted(h.name for h in launcher.find(handle.run_folder.parent.parent)) == sorted([handle.name, other.name])
    assert launcher.cancel(handle, grace_s=5)
    assert launcher.poll([handle, other])[other.engine_id].phase is Phase.RUNNING
    assert launcher.find(handle.run_folder.parent.parent) == [other]


@pytest.mark.parametrize("name", ["a.b", "a:b", "a;b", "a'b", "a b;", "-t", "a#{pid}b", "ü"])
def test_a_name_that_tmux_would_take_for_something_else_is_launched_and_found(launcher, spec, name):
    """Skills cannot have such names (see ``check_name``); a session must cope anyway."""
    handle, plain = launcher.launch(spec(name)), launcher.launch(spec("a_b", index=2))
    assert handle.process.is_alive() and plain.engine_id != handle.engine_id
    assert sorted(h.engine_id for h in launcher.find(handle.run_folder.parent.parent)) == sorted(
        [handle.engine_id, plain.engine_id]
    )
    assert launcher.cancel(handle, grace_s=5)
    assert launcher.poll([plain])[plain.engine_id].phase is Phase.RUNNING


def test_the_session_of_a_run_that_ended_well_is_gone(launcher, spec, tmp_path):
    # It ends after its session stands: a command quicker than that is one that tmux 3.3a may not see end.
    wait = "while [ ! -e go ]; do sleep 0.02; done"
    handle = launcher.launch(spec(argv=("sh", "-c", wait)))
    (tmp_path / "go").touch()

    def is_over():
        status = launcher.poll([handle])[handle.engine_id]
        return status.phase is Phase.LOST or status == EngineStatus(Phase.EXITED)

    # Where tmux never learns how it ended, its dead pane stays until the scheduler, which does know, clears it away.
    assert retry_until(is_over, PATIENCE_S)
    launcher.cancel(handle, grace_s=0)
    assert launcher.poll([handle])[handle.engine_id].phase is Phase.LOST


def test_arguments_and_folders_arrive_as_they_are(launcher, spec, tmp_path):
    odd = ["a b", "semicolon;", "quote'\"", "$HOME", "#{pane_id}", "ü", ";"]
    code = "import os, sys; open(sys.argv[1], 'w').write(repr((sys.argv[2:], os.environ['ODD'])))"
    out = tmp_path / "out"
    argv = (sys.executable, "-c", code, str(out), *odd)
    handle = launcher.launch(spec(argv=argv, experiment="ex p;#{x}|ü'", ODD="x y;"))
    assert retry_until(lambda: out.exists() and out.read_text() == repr((odd, "x y;")), PATIENCE_S)
    assert handle.run_folder.parent.parent.name == "ex p;#{x}|ü'"


def long_paths(size):
    """As environment modules on clusters make them: this many bytes of folders that do not exist."""
    folder = "/cluster/modules/" + "x" * 180
    return ":".join([folder] * (size // (len(folder) + 1)))


@pytest.mark.parametrize("size", [18_000, 120_000])
@pytest.mark.parametrize("by_whom", ["us", "the user"])
def test_a_large_environment_reaches_a_run(launcher, spec, tmp_path, monkeypatch, size, by_whom):
    """Larger than the 16 kB that a client can send to a tmux server at once, whoever has started the server."""
    if by_whom == "the user":
        sh("tmux new-session -d -s mine sleep 300")
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{long_paths(size)}")
    monkeypatch.setenv("LD_LIBRARY_PATH", long_paths(size))
    launcher.check()
    out = tmp_path / "out"
    code = "import json, os, sys; open(sys.argv[1], 'w').write(json.dumps(dict(os.environ)) + 'end')"
    handle = launcher.launch(spec(argv=(sys.executable, "-c", code, str(out)), **environment.to_start()))
    assert retry_until(lambda: out.exists() and out.read_text().endswith("end"), PATIENCE_S)
    found = json.loads(out.read_text().removesuffix("end"))
    assert {name: found[name] for name in environment.to_start()} == environment.to_start()
    assert found["FLOWRL_RUN"] == handle.cookie
    assert list(handle.run_folder.iterdir()) == []  # how it was started does not stay


def test_how_a_run_is_started_is_for_its_owner_alone(launcher, spec, fake_tmux, tmp_path):
    fake_tmux()
    (tmp_path / "fake" / "tmux").write_text("#!/bin/sh\n[ $1 = new-session ] && echo '%1|1'\nexit 0\n")
    handle = launcher.launch(spec(ODD="a b"))
    script = RunPaths(handle.run_folder).start_script
    assert script.stat().st_mode & 0o077 == 0 and "'ODD=a b'" in script.read_text()


def test_a_variable_with_which_no_program_can_be_started_is_named(launcher, monkeypatch):
    monkeypatch.setenv("MARK_LONG", "x" * (128 * 1024 - len("MARK_LONG=") - 1))
    launcher.check()
    monkeypatch.setenv("MARK_LONG", "x" * (128 * 1024 - len("MARK_LONG=")))
    with pytest.raises(
        BadInput, match="the environment variable MARK_LONG has 131,073 bytes, .* more than 131,072; shorten it"
    ):
        launcher.check()
    monkeypatch.delenv("MARK_LONG")
    monkeypatch.setenv("PYTHONPATH", "x" * (128 * 1024 - len("PYTHONPATH=") - 1))
    with pytest.raises(BadInput, match="the environment variable PYTHONPATH has"):  # the runs' has one folder more
        launcher.check()


def test_nothing_is_known_about_a_run_if_no_process_can_be_started(launcher, spec, monkeypatch):
    handle = launcher.launch(spec())

    def fails(*arguments, **how):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patch:
        patch.setattr(tmux.subprocess, "run", fails)
        assert launcher.poll([handle])[handle.engine_id].phase is Phase.UNKNOWN
        with pytest.raises(NotLaunched, match="tmux could not be started for `list-panes`: Resource temporarily unavailable"):
            launcher.launch(spec(attempt=2))


def test_an_odd_folder_is_found_again(launcher, spec):
    handle = launcher.launch(spec(experiment="ex p;#{x}|ü'"))
    assert launcher.find(handle.run_folder.parent.parent) == [handle]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no core affinity")
@pytest.mark.parametrize("gpu", [None, "0"])
def test_a_run_gets_the_cores_of_its_slot_even_if_the_server_was_started_on_others(launcher, spec, tmp_path, gpu):
    """The scheduler's cores count: a server that was started under taskset would keep every run to its own."""
    ours = usable_cores()
    sh(f"taskset -c {ours[0]} tmux new-session -d -s mine sleep 300")
    out, code = (
        tmp_path / "out",
        (
            "import os, sys; from flowrl.training.host.process import take_slot; from flowrl.machine import usable_cores;"
            "from flowrl.records.run_record import Slot;"
            "before = usable_cores(); take_slot(Slot(**eval(sys.argv[2])));"
            "open(sys.argv[1], 'w').write(repr((before, usable_cores())))"
        ),
    )
    slot = (gpu_slots(1, [gpu], 1, ours) if gpu else cpu_slots(2, ours))[-1]
    argv = (sys.executable, "-c", code, str(out), repr(asdict(slot)))
    launcher.launch(spec(argv=argv, **environment.to_start()))
    assert retry_until(lambda: out.exists() and out.read_text() == repr((ours[:1], list(slot.cores))), PATIENCE_S)


def test_neither_the_proposers_key_nor_any_other_reaches_a_run_or_a_server(launcher, spec, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-old")
    sh("tmux new-session -d -s mine sleep 300")  # the user's own server has the key in its environment
    monkeypatch.setenv("WANDB_API_KEY", "wandb-secret")
    out = tmp_path / "out"
    code = "import os, sys; open(sys.argv[1], 'w').write(chr(10).join([*os.environ, 'end']))"
    launcher.launch(spec(argv=(sys.executable, "-c", code, str(out))))
    assert retry_until(lambda: out.exists() and "end" in out.read_text(), PATIENCE_S)
    assert "OPENAI" not in out.read_text() and "WANDB" not in out.read_text()
    assert "FLOWRL_RUN" in out.read_text()


@pytest.mark.parametrize("ours", [None, "glibc.malloc.hugetlb=0"])
def test_how_a_run_gets_its_memory_is_decided_by_us_and_not_by_the_first_who_used_tmux(
    launcher, spec, tmp_path, monkeypatch, ours
):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.perturb=0")
    sh("tmux new-session -d -s mine sleep 300")
    monkeypatch.delenv("GLIBC_TUNABLES")
    if ours:
        monkeypatch.setenv("GLIBC_TUNABLES", ours)
    out = tmp_path / "out"
    code = "import os, sys; open(sys.argv[1], 'w').write(str(os.environ.get('GLIBC_TUNABLES')) + ' end')"
    launcher.launch(spec(argv=(sys.executable, "-c", code, str(out)), **environment.to_start()))
    assert retry_until(lambda: out.exists() and "end" in out.read_text(), PATIENCE_S)
    assert out.read_text() == f"{ours} end"


def test_a_server_that_we_start_is_not_told_our_keys(launcher, spec, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ours")
    monkeypatch.setenv("WANDB_API_KEY", "wandb-secret")
    launcher.launch(spec())
    known = sh("tmux show-environment -g")
    assert "PATH=" in known
    assert "sk-ours" not in known and "wandb-secret" not in known


def test_a_server_killed_is_seen_and_the_next_launch_starts_another(launcher, spec):
    handle = launcher.launch(spec())
    sh("tmux kill-server")
    assert retry_until(lambda: launcher.poll([handle])[handle.engine_id].phase is Phase.LOST, PATIENCE_S)
    assert launcher.launch(spec(attempt=2)).process.is_alive()


def test_a_server_that_does_not_answer_is_unknown_and_never_an_empty_list(launcher, spec, monkeypatch, tmp_path):
    handle = launcher.launch(spec())
    stuck = tmp_path / "bin" / "tmux"
    stuck.parent.mkdir()
    stuck.write_text("#!/bin/sh\nexec sleep 300\n")
    stuck.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{stuck.parent}:{os.environ['PATH']}")
        patch.setattr(tmux, "CALL_TIMEOUT_S", 0.3)
        assert launcher.poll([handle])[handle.engine_id].phase is Phase.UNKNOWN
        with pytest.raises(EngineUnreachable):
            launcher.find(handle.run_folder.parent.parent)
        with pytest.raises(NotLaunched):
            launcher.launch(spec(attempt=2))
    stuck.write_text("#!/bin/sh\necho 'error connecting to /tmp/x (Permission denied)' >&2\nexit 1\n")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{stuck.parent}:{os.environ['PATH']}")
        assert launcher.poll([handle])[handle.engine_id].phase is Phase.UNKNOWN


def test_a_launch_that_a_dying_server_drops_is_made_again(launcher, spec, monkeypatch, tmp_path):
    """A server that has just lost its last session takes the call, and drops it: one launch in six, at the wrong time."""
    real, drops = shutil.which("tmux"), tmp_path / "drops"
    wrapper = tmp_path / "bin" / "tmux"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f'#!/bin/sh\nif [ "$1" = new-session ] && [ $(cat {drops} | wc -l) -lt 3 ]; then echo x >> {drops};\n'
        f'echo "server exited unexpectedly" >&2; exit 1; fi\nexec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    drops.touch()
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    assert launcher.launch(spec()).process.is_alive()
    assert drops.read_text() == "x\n" * 3


def test_a_run_can_be_started_from_inside_tmux(launcher, spec, tmp_path):
    """The scheduler itself may run in a pane: its runs get sessions of their own on the same server."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from pathlib import Path; from flowrl.parallel.launchers.tmux import TmuxLauncher;"
        "from flowrl.parallel.launchers.base import LaunchSpec;"
        "root = Path(sys.argv[2]);"
        "TmuxLauncher().launch(LaunchSpec(root, root / 'training_runs' / 'skill_0_A', 'A', 0, 1, ('sleep', '300'), root))"
    )
    root = Path(tmux.__file__).parents[3]
    command = shlex.join([sys.executable, "-c", code, str(root), str(tmp_path)])
    sh(f"tmux new-session -d -s outer {shlex.quote(command + '; sleep 300')}")
    assert retry_until(lambda: "flowrl_e0_A" in sh("tmux list-sessions"), PATIENCE_S)
    launcher.cancel(launcher.find(tmp_path)[0], grace_s=0)


def test_a_missing_tmux_is_said_with_the_remedy(launcher, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("tmux") is None
    with pytest.raises(BadInput, match="tmux is missing.*sudo apt-get install tmux.*brew install tmux"):
        launcher.check()


@pytest.fixture
def fake_tmux(monkeypatch, tmp_path):
    """Puts a tmux of our own first on the path: it says so as its version, and this on standard error to all else."""

    def fake(version="tmux 3.3a", says="", code=1):
        script = tmp_path / "fake" / "tmux"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\n[ "$1" = -V ] && exec echo {version}\necho {shlex.quote(says)} >&2\nexit {code}\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")

    return fake


@pytest.mark.parametrize("version", ["tmux 1.8", "tmux 2.9a", "tmux 3.1c", "tmux next-3.1"])
def test_a_tmux_that_is_too_old_is_said_with_its_version(launcher, fake_tmux, version):
    fake_tmux(version, code=0)
    with pytest.raises(BadInput, match=f"fake/tmux is too old: found {version}, but trainings need tmux 3.2 or later"):
        launcher.check()


@pytest.mark.parametrize(
    "version", ["tmux 3.2", "tmux 3.2-rc3", "tmux 3.10", "tmux 4.0", "tmux next-3.4", "tmux master", "tmux openbsd-7.4"]
)
def test_a_tmux_that_is_new_enough_will_do(launcher, fake_tmux, version):
    fake_tmux(version, code=0)
    launcher.check()


def test_a_tmux_that_does_not_start_is_said(launcher, fake_tmux, tmp_path):
    fake_tmux()
    (tmp_path / "fake" / "tmux").write_text("#!/bin/sh\necho 'libevent.so.7: cannot open shared object file' >&2\nexit 127\n")
    with pytest.raises(BadInput, match="tmux does not start: .*libevent.so.7: cannot open.*install tmux 3.2"):
        launcher.check()


UNREACHABLE = {
    "error connecting to /tmp/x/default (Permission denied)": "belongs to another user",
    "error connecting to /tmp/x/default (File name too long)": "about 100 bytes",
    "error connecting to /tmp/x/default (Not a directory)": "",
    "error connecting to /tmp/x/default (Resource temporarily unavailable)": "",
    "server /tmp/x/default: protocol version mismatch (client 8, server 7)": "started by another version of tmux",
    "couldn't create directory /nowhere/tmux-0 (Permission denied)": "belongs to another user",
    "directory /tmp/tmux-0 has unsafe permissions": "",
}


@pytest.mark.parametrize("says", UNREACHABLE)
@pytest.mark.parametrize(("inside", "remedy"), [("", "set TMUX_TMPDIR to"), ("/tmp/x/default,1,0", "unset TMUX, ")])
def test_a_server_that_cannot_be_connected_to_is_not_no_server(launcher, spec, fake_tmux, monkeypatch, says, inside, remedy):
    handle = launcher.launch(spec())
    fake_tmux(says=says)
    monkeypatch.setenv("TMUX", inside)
    with pytest.raises(BadInput) as caught:
        launcher.check()
    shown = str(caught.value)
    assert shown.startswith(f"tmux cannot be used: {says}; ") and UNREACHABLE[says] in shown and remedy in shown
    assert launcher.poll([handle])[handle.engine_id].phase is Phase.UNKNOWN
    with pytest.raises(EngineUnreachable):
        launcher.find(handle.run_folder.parent.parent)
    with pytest.raises(NotLaunched, match=re.escape(says)):
        launcher.launch(spec(attempt=2))


@pytest.mark.parametrize("says", [
    "no server running on {}", "error connecting to {} (No such file or directory)",
    "error connecting to {} (Connection refused)",
])  # fmt: skip
def test_without_a_server_one_can_be_started_unless_its_folder_cannot_be_written(launcher, fake_tmux, tmp_path, says):
    fake_tmux(says=says.format(tmp_path / "default"))
    launcher.check()
    assert launcher._panes() == []
    fake_tmux(says=says.format(tmp_path / "missing" / "default"))
    shown = f"{tmp_path}/missing, the folder of its socket, is missing or cannot be written; set TMUX_TMPDIR"
    with pytest.raises(BadInput, match=shown):
        launcher.check()


def test_a_server_that_does_not_answer_at_the_start_is_said(launcher, fake_tmux, tmp_path, monkeypatch):
    fake_tmux()
    (tmp_path / "fake" / "tmux").write_text("#!/bin/sh\nexec sleep 300\n")
    monkeypatch.setattr(tmux, "CALL_TIMEOUT_S", 0.3)
    with pytest.raises(BadInput, match="tmux did not answer `-V` within 0.3 s; set TMUX_TMPDIR"):
        launcher.check()


def test_a_check_starts_no_server_and_is_content_with_one_that_runs(launcher, spec, private_tmux):
    launcher.check()
    assert not any(private_tmux.rglob("default"))
    launcher.launch(spec())
    launcher.check()


@pytest.mark.parametrize("length", [107, 200])
def test_a_folder_whose_path_is_too_long_for_a_socket_is_said(launcher, tmp_path, monkeypatch, length):
    folder = tmp_path / ("x" * max(1, length - len(str(tmp_path))))
    folder.mkdir()
    monkeypatch.setenv("TMUX_TMPDIR", str(folder))
    with pytest.raises(BadInput, match="File name too long.*about 100 bytes at most; set TMUX_TMPDIR to a folder of yours"):
        launcher.check()


def test_a_run_whose_server_lost_its_socket_does_not_count_as_lost(launcher, spec, private_tmux):
    handle = launcher.launch(spec())
    assert retry_until(lambda: handle.process.variable("TMUX"), PATIENCE_S)  # the pane's process is no longer tmux's own
    socket = next(private_tmux.rglob("default"))
    hidden = socket.rename(socket.with_name("hidden"))
    try:
        assert launcher.poll([handle])[handle.engine_id].phase is Phase.UNKNOWN
        other = launcher.launch(spec("Other"))  # on a server that answers
        assert launcher.poll([handle])[handle.engine_id].phase is Phase.UNKNOWN
        assert launcher.poll([other])[other.engine_id].phase is Phase.RUNNING
        launcher.cancel(other, grace_s=0.0)
    finally:
        hidden.rename(socket)
    sh("tmux kill-server")
    assert retry_until(lambda: launcher.poll([handle])[handle.engine_id].phase is Phase.LOST, PATIENCE_S)
