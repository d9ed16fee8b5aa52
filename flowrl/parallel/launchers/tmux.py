"""Runs in tmux sessions that a user can attach to. The only module that imports libtmux.

The sessions live on the user's own server, beside the user's own sessions. So no server option is changed (a session's
options are set on the session, in the command that creates it), panes are addressed by ``%id`` and never by a name
prefix, and only panes that carry our mark are ended: a pane that the user split off belongs to the user.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from libtmux import Server

from flowrl.errors import BadInput
from flowrl.parallel.environment import check_lengths, is_misleading, variable, without_secrets, write_private
from flowrl.parallel.launchers.base import (
    EXPERIMENT,
    EngineStatus,
    EngineUnreachable,
    Handle,
    LaunchSpec,
    NotLaunched,
    Phase,
)
from flowrl.parallel.processes import COOKIE, end_tree, name_of, with_cookie
from flowrl.parallel.slots import plan_slots
from flowrl.paths import start_script
from flowrl.records.process_id import ProcessId
from flowrl.records.run_record import Slot

CALL_TIMEOUT_S = 15.0
LAUNCH_TRIES = 20
WIDTH, HEIGHT = 120, 30
SHELL = "/bin/sh"
MAX_SUFFIX = 99

# Regular expressions for tmux's messages. Not among them: a socket that exists, but refuses the connection for another reason.
_NO_SERVER = ("no server running on (.+)", r"error connecting to (.+) \((?:No such file or directory|Connection refused)\)")
# A server that is shutting down accepts a client's call and drops it; the next call starts a new server.
_TRY_AGAIN = ("server exited unexpectedly", "lost server", *_NO_SERVER)
_NO_SESSION = (*_TRY_AGAIN, "no sessions", "no current target")
_TAKEN = "duplicate session"
_FIRST_VERSION = (3, 2)  # new-session has -e, and remain-on-exit may be "failed"
# Why a client cannot reach its server, by tmux's message.
_HINDRANCES = {
    "File name too long": "the path of a socket can have about 100 bytes at most",
    "protocol version mismatch": "the server was started by another version of tmux; end that server before you use this one",
    "Permission denied": "the socket, or its folder, belongs to another user",
}
_MARK = "@flowrl_run"
_LISTING = "#{pid}|#{pane_id}|#{pane_pid}|#{pane_dead}|#{pane_dead_status}|#{pane_dead_signal}|#{" + _MARK + "}|#{session_name}"


@dataclass(frozen=True)
class Answer:
    """tmux's answer."""

    returncode: int
    stdout: list[str]
    stderr: list[str]

    def says(self, patterns: Sequence[str]) -> re.Match | None:
        """The first of these regular expressions that a line on standard error matches somewhere."""
        matches = (re.search(pattern, line) for pattern in patterns for line in self.stderr)
        return next((match for match in matches if match), None)


class TimedServer(Server):
    """libtmux's server, with a timeout on every call and no secrets in its environment.

    libtmux has no timeouts, and a server that our call happens to start keeps our environment as long as it runs.
    """

    def cmd(self, cmd: str, *args, target: str | int | None = None) -> Answer:
        """Runs one tmux command (or several, separated by a ``;`` argument).

        Raises:
            EngineUnreachable: no answer within CALL_TIMEOUT_S.
        """
        where = [f"-L{self.socket_name}"] if self.socket_name else []
        argv = [self.tmux_bin or "tmux", *where, cmd, *(["-t", str(target)] if target is not None else []), *args]
        try:
            done = subprocess.run(
                [str(part) for part in argv], capture_output=True, timeout=CALL_TIMEOUT_S, check=False,
                stdin=subprocess.DEVNULL, env=without_secrets(),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise EngineUnreachable(f"tmux did not answer `{cmd}` within {CALL_TIMEOUT_S:g} s; {_another_place()}") from None
        except FileNotFoundError:
            raise _missing() from None
        except OSError as error:
            raise EngineUnreachable(
                f"tmux could not be started for `{cmd}`: {error.strerror}; "
                "free memory, end processes, or shorten the environment"
            ) from error
        return Answer(done.returncode, _lines(done.stdout), _lines(done.stderr))


@dataclass(frozen=True)
class _Pane:
    server_pid: int
    pane_id: str
    pid: int
    dead: bool
    code: int | None
    signal: int | None
    cookie: str  # empty if the pane is not flowrl's
    name: str

    @classmethod
    def parse(cls, line: str) -> _Pane:
        server_pid, pane_id, pid, dead, code, signal, mark, name = line.split("|", 7)
        ended = dead == "1", _number(code), _number(signal)
        return cls(int(server_pid), pane_id, int(pid or 0), *ended, unquote(mark), name)

    @property
    def run_folder(self) -> Path:
        return Path(self.cookie.rpartition("#")[0])

    def handle(self) -> Handle:
        attempt = int(self.cookie.rpartition("#")[2])
        return Handle(self.pane_id, self.name, self.run_folder, attempt, _process(self.pid))


class TmuxLauncher:
    """See :class:`flowrl.parallel.launchers.base.Launcher`. ``server`` is the user's default one except in tests."""

    poll_every_s = 1.0  # one listing takes 3 ms

    def __init__(self, server: Server | None = None):
        self.server = server or TimedServer()

    def check(self) -> None:
        if shutil.which("tmux") is None:
            raise _missing()
        check_lengths()
        try:
            _check_version(self.server.cmd("-V"))
            _check_listing(self._list())
        except EngineUnreachable as error:
            raise BadInput(str(error)) from error

    def slots(self, max_parallel: int, *, gpu_ids: object = None, skills_per_gpu: int = 1) -> list[Slot]:
        return plan_slots(max_parallel, gpu_ids=gpu_ids, skills_per_gpu=skills_per_gpu)

    def launch(self, spec: LaunchSpec) -> Handle:
        names = [spec.session_name, *(f"{spec.session_name}_{number}" for number in range(2, MAX_SUFFIX))]
        for _ in range(LAUNCH_TRIES):
            try:
                if existing := self._existing(spec):
                    return existing
                script = _write_script(spec, self._unwanted_variables())
                answer = self.server.cmd("new-session", *_creation(spec, names[0], script))
            except EngineUnreachable as error:
                raise NotLaunched(str(error)) from error
            if answer.returncode == 0 and answer.stdout:
                return _created(spec, names[0], answer.stdout[0])
            if answer.says([_TAKEN]) and len(names) > 1:
                names.pop(0)
            elif answer.says(_TRY_AGAIN):
                time.sleep(random.uniform(0.005, 0.05))
            else:
                raise NotLaunched(f"tmux refused the session {names[0]}: {_words(answer)}")
        raise NotLaunched(f"tmux did not start {spec.session_name} in {LAUNCH_TRIES} tries: {_words(answer)}")

    def find(self, experiment: Path) -> list[Handle]:
        ours = (pane for pane in self._panes() if pane.cookie)
        return [pane.handle() for pane in ours if pane.run_folder.parent.parent == experiment]

    def poll(self, handles: Sequence[Handle]) -> dict[str, EngineStatus]:
        if not handles:
            return {}
        try:
            panes = {pane.pane_id: pane for pane in self._panes()}
        except EngineUnreachable:
            return {handle.engine_id: EngineStatus(Phase.UNKNOWN) for handle in handles}
        answering = {pane.server_pid for pane in panes.values()}
        return {handle.engine_id: _status(handle, panes.get(handle.engine_id), answering) for handle in handles}

    def is_alive(self, handle: Handle) -> bool | None:
        if handle.process is not None:
            return handle.process.is_alive()
        return bool(with_cookie(handle.cookie))

    def output(self, handle: Handle) -> str:
        try:
            if self._ours(handle) is None:
                return ""
            shown = self.server.cmd("capture-pane", "-p", "-J", "-S", "-50", target=handle.engine_id)
        except EngineUnreachable:
            return ""
        return "\n".join(line for line in shown.stdout if line.strip() and not line.startswith("Pane is dead"))

    def cancel(self, handle: Handle, grace_s: float, show_s: float = 0.0) -> bool:
        roots = [handle.process] if handle.process else []
        gone = end_tree(roots, handle.cookie, grace_s)
        try:
            if self._ours(handle) is not None:
                self.server.cmd(*_closing(handle.engine_id, show_s))
        except EngineUnreachable:
            pass  # the processes are ended; an empty pane that cannot be reached does no harm
        return gone

    def close_later(self, handle: Handle, show_s: float) -> None:
        """Closes the pane after so many seconds, and does not touch its processes until then.

        Raises:
            EngineUnreachable: the server does not answer.
        """
        self.server.cmd(*_closing(handle.engine_id, show_s))

    def attach_command(self, handle: Handle) -> list[str]:
        return ["tmux", "attach", "-t", handle.name]  # not "=name", which zsh expands to a command's path

    def _panes(self) -> list[_Pane]:
        """All panes of the server; none if no server runs, or it has no session.

        Raises:
            EngineUnreachable: a server may be running, but does not answer.
        """
        answer = self._list()
        if answer.returncode == 0:
            return [_Pane.parse(line) for line in answer.stdout if line]
        if not answer.says(_NO_SESSION):
            raise EngineUnreachable(f"tmux did not list its panes: {_words(answer)}")
        return []

    def _list(self) -> Answer:
        return self.server.cmd("list-panes", "-a", "-F", _LISTING)

    def _existing(self, spec: LaunchSpec) -> Handle | None:
        """This attempt, if it was started before. Removes dead panes of older attempts, which still hold the name."""
        of_this_run = [pane for pane in self._panes() if pane.cookie and pane.run_folder == spec.run_folder]
        for pane in of_this_run:
            if pane.dead and pane.cookie != spec.cookie:
                self.server.cmd("kill-pane", target=pane.pane_id)
        return next((pane.handle() for pane in of_this_run if pane.cookie == spec.cookie), None)

    def _ours(self, handle: Handle) -> _Pane | None:
        matching = [pane for pane in self._panes() if pane.pane_id == handle.engine_id]
        return next((pane for pane in matching if pane.cookie == handle.cookie), None)

    def _unwanted_variables(self) -> list[str]:
        """Variables that the server kept from its first client and that would affect a training."""
        shown = self.server.cmd("show-environment", "-g")
        names = (line.split("=", 1)[0].lstrip("-") for line in shown.stdout if "=" in line)
        return [name for name in names if is_misleading(name)]


def _write_script(spec: LaunchSpec, unwanted: Sequence[str]) -> Path:
    """Writes the script that the pane runs: it sets the run's variables, then execs the run.

    The variables may exceed the 16 kB that a client can send to a server at once: environment modules on clusters fill
    ``PATH``. The cookie belongs to the run alone: from the session's environment, a pane that the user splits off would
    inherit it.
    """
    unset = [part for name in unwanted if name not in spec.environment for part in ("-u", name)]
    variables = {**spec.environment, EXPERIMENT: str(spec.experiment), COOKIE: spec.cookie}
    settings = [f"{name}={value}" for name, value in variables.items()]
    command = shlex.join([shutil.which("env") or "/usr/bin/env", *unset, *settings, *spec.argv])
    script = start_script(spec.run_folder)
    write_private(script, f'rm -f -- "$0"\nexec {command}\n')
    return script


def _creation(spec: LaunchSpec, name: str, script: Path) -> list[str]:
    """The arguments of one tmux call that creates a session and sets its options.

    The command is an argv of several words: tmux runs a single word through the user's shell.
    """
    session = f"={name}:"
    creation = ["-d", "-P", "-F", "#{pane_id}|#{pane_pid}", "-s", name, "-x", str(WIDTH), "-y", str(HEIGHT),
                "-c", str(spec.working_folder), f"-e{EXPERIMENT}={spec.experiment}", "--", SHELL, str(script)]  # fmt: skip
    options = [
        ["set-option", "-t", session, "destroy-unattached", "off"],
        ["set-option", "-p", "-t", session, _MARK, quote(spec.cookie)],
        # A failed pane stays, with its last output and its exit code, until it has been read.
        ["set-option", "-p", "-t", session, "remain-on-exit", "failed"],
    ]
    return [*map(_literal, creation), *(part for option in options for part in (";", *map(_literal, option)))]


def _closing(pane_id: str, show_s: float) -> list[str]:
    """The arguments of a tmux call that closes a pane, after so many seconds: the server waits, so this process need not live.
    Someone who is looking then goes on looking, and closes it by leaving."""
    if show_s <= 0:
        return ["kill-pane", "-t", pane_id]
    on_leaving = f"set-hook -t {pane_id} client-detached 'kill-pane -t {pane_id}'"
    close = f"if-shell -F -t {pane_id} '#{{session_attached}}' \"{on_leaving}\" 'kill-pane -t {pane_id}'"
    return ["run-shell", "-b", "-d", str(round(show_s)), "-C", close]


def _literal(argument: str) -> str:
    """tmux takes a trailing semicolon for the end of the command."""
    return f"{argument[:-1]}\\;" if argument.endswith(";") else argument


def _created(spec: LaunchSpec, name: str, line: str) -> Handle:
    pane_id, pid = line.split("|")
    return Handle(pane_id, name, spec.run_folder, spec.attempt, _process(int(pid)))


def _process(pid: int) -> ProcessId:
    """The pane's process; one that is gone already is never alive again."""
    return ProcessId.of(pid) or ProcessId(pid, "")


def _status(handle: Handle, pane: _Pane | None, answering: set[int]) -> EngineStatus:
    if pane is None or pane.cookie != handle.cookie:
        return EngineStatus(Phase.UNKNOWN if _is_on_another_server(handle, answering) else Phase.LOST)
    return EngineStatus(Phase.EXITED, pane.code, pane.signal) if pane.dead else EngineStatus(Phase.RUNNING)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _is_on_another_server(handle: Handle, answering: set[int]) -> bool:
    """Whether the run's own server is alive but not the one that answers: its socket was removed, or is elsewhere."""
    if handle.process is None:
        return False
    _, _, rest = handle.process.variable("TMUX").partition(",")
    pid = rest.partition(",")[0]
    return pid.isdigit() and int(pid) not in answering and name_of(int(pid)).startswith("tmux")


def _lines(data: bytes) -> list[str]:
    return data.decode("utf-8", "replace").splitlines()


def _words(answer: Answer) -> str:
    return "; ".join(answer.stderr) or f"exit code {answer.returncode}"


def _missing() -> BadInput:
    return BadInput(
        "tmux is missing, and trainings run in its sessions; install it "
        "(Debian, Ubuntu: sudo apt-get install tmux; macOS: brew install tmux)"
    )


def _check_version(answer: Answer) -> None:
    """Raises BadInput if tmux is too old. A version without a number, such as ``tmux master``, is newer than any with
    one."""
    first = ".".join(map(str, _FIRST_VERSION))
    if answer.returncode != 0:
        raise BadInput(f"tmux does not start: `tmux -V` says {_words(answer)}; install tmux {first} or later")
    shown = " ".join(answer.stdout)
    number = re.search(r"(\d+)\.(\d+)", shown)
    if number and (int(number[1]), int(number[2])) < _FIRST_VERSION:
        raise BadInput(
            f"{shutil.which('tmux')} is too old: found {shown}, but trainings need tmux {first} or later; install that, "
            "and end the old server"
        )


def _check_listing(answer: Answer) -> None:
    """Raises BadInput if the server cannot be reached, or none could be started."""
    if answer.returncode == 0:
        return
    if not answer.says(_NO_SESSION):
        why = "".join(f"{why}; " for words, why in _HINDRANCES.items() if answer.says([words]))
        raise BadInput(f"tmux cannot be used: {_words(answer)}; {why}{_another_place()}")
    absent = answer.says(_NO_SERVER)
    folder = Path(absent[1]).parent if absent else None
    if folder and not os.access(folder, os.W_OK | os.X_OK):
        raise BadInput(
            f"tmux cannot be used: {folder}, the folder of its socket, is missing or cannot be written; {_another_place()}"
        )


def _another_place() -> str:
    """What the user can do about a socket that does not work."""
    if variable("TMUX"):
        return "unset TMUX, which names that server, or make `tmux list-sessions` work in this terminal"
    return "set TMUX_TMPDIR to a folder of yours with a short path, or make `tmux list-sessions` work in this terminal"
