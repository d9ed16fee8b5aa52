"""``python -m flowrl.parallel.keeper RUN_FOLDER ATTEMPT -- COMMAND...``: runs a training and records how it ended.

A training that is killed cannot record how it ended; its parent can. So this is the pane's process: it starts the
training on its own terminal, waits for it, ends the processes that it leaves behind, and records in ``run.exit`` the
exit code or signal, and whether the kernel's out-of-memory killer was active.

Its startup delays every run, so modules that are not needed to start the training are imported once it has ended.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from flowrl.machine import oom_kills

LEFTOVER_GRACE_S = 2.0
CANNOT_START = 127
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Returns the training's exit code, or 128 + the signal that killed it; 2 for a wrong command line."""
    if len(arguments) < 4 or arguments[2] != "--" or not arguments[1].isdigit():
        _say("error: expected python -m flowrl.parallel.keeper RUN_FOLDER ATTEMPT -- COMMAND...")
        return 2
    folder, attempt, command = arguments[0], int(arguments[1]), arguments[3:]
    kills_before = oom_kills()
    asked: list[int] = []
    code, killed_by = _run(command, asked)
    ended_s = time.time()
    out_of_memory = killed_by == signal.SIGKILL and oom_kills() > kills_before
    _end_what_is_left()
    is_asked = signal.SIGUSR1 in asked
    how = {"code": code, "signal": killed_by, "out_of_memory": out_of_memory, "asked_to_stop": is_asked}
    _record(folder, attempt, ended_s, how)
    return 128 + killed_by if code is None else code


def _run(command: list[str], asked: list[int]) -> tuple[int | None, int | None]:
    """Starts the training and waits for it. Returns its exit code, or the signal that killed it.

    Args:
        asked: gets the signals that asked us to stop.
    """
    child: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        asked.append(number)
        if child:
            _signal(child[0], signal.SIGTERM)

    # The terminal sends these to the training directly. Handlers, because the training would inherit SIG_IGN.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited: a terminal that closes ends neither of us
    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGUSR1, pass_on)  # the engine asks, for a reason of its own: a job's time is nearly over
    _adopt_orphans()
    try:
        child.append(os.posix_spawnp(command[0], command, os.environ))
    except OSError as error:
        _say(f"error: {command[0]} could not be started: {error.strerror or error}")
        return CANNOT_START, None
    if asked:
        _signal(child[0], signal.SIGTERM)
    return _await(child)


def _await(child: list[int]) -> tuple[int | None, int | None]:
    ended = 0
    while ended != child[0]:  # any other is an orphan of the training that we adopted
        ended, status = os.waitpid(-1, 0)
    child.clear()  # its pid may be reused
    code = os.waitstatus_to_exitcode(status)
    return (None, -code) if code < 0 else (code, None)


def _signal(pid: int, number: int) -> None:
    try:  # noqa: SIM105 - one import fewer before the training starts
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _adopt_orphans() -> None:
    """Makes us, not the init process, the parent of the training's orphans. Linux only."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_what_is_left() -> None:
    if sys.platform == "linux" and not _has_children():
        return
    from flowrl.parallel.processes import COOKIE, children_of_ours, end_tree

    end_tree(children_of_ours(), os.environ.get(COOKIE, ""), LEFTOVER_GRACE_S)


def _has_children() -> bool:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _record(folder: str, attempt: int, ended_s: float, ending: dict) -> None:
    from datetime import UTC, datetime
    from pathlib import Path

    from flowrl.paths import RunPaths
    from flowrl.records.ending import Ending, write
    from flowrl.records.fence import Fence

    try:
        if not Fence(RunPaths(Path(folder)).run_json, attempt).is_open():
            return  # a newer attempt is under way, and will have its own; or the run is merged, and its folder stays gone
        ended_at = datetime.fromtimestamp(ended_s, UTC).isoformat()
        write(RunPaths(Path(folder)).exit, Ending(attempt, **ending, ended_at=ended_at))
    except (OSError, ValueError) as error:
        _say(f"error: the end of this run could not be recorded in {folder}: {error}")


def _say(line: str) -> None:
    try:  # noqa: SIM105 - as above
        os.write(2, f"{line}\n".encode())  # not print: flushing its buffer at exit could fail again
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
