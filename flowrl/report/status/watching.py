"""``flowrl status --watch``: the screen, refreshed in place, and the keys that act on what it shows."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from flowrl.errors import BadInput
from flowrl.paths import ExperimentPaths
from flowrl.records.scheduler_state import Status
from flowrl.report.figures import plain
from flowrl.report.invocation import retry_command
from flowrl.report.status.keys import Keys
from flowrl.report.status.screen import Screen, draw
from flowrl.report.status.snapshot import Run, Snapshot, take

_DIGITS = "123456789"


def watch(paths: ExperimentPaths, interval_s: float) -> int:
    """Shows the experiment until ``q`` is pressed; returns the command's exit code.

    Raises:
        BadInput: there is no terminal; or what `take` raises at the first look.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput("--watch needs a terminal; leave it out, or use --json in a script")
    return _Watch(paths, interval_s, Console(highlight=False)).run()


class _Watch:
    def __init__(self, paths: ExperimentPaths, interval_s: float, out: Console):
        self._paths, self._interval_s, self._out = paths, interval_s, out
        self._snapshot = take(paths)
        self._said = ""
        self._choosing: Callable[[Run], Sequence[str]] | None = None
        self._choices: list[Run] = []

    def run(self) -> int:
        with Keys() as keys, Live(console=self._out, screen=True, auto_refresh=False) as live:
            while True:
                live.update(self._picture(), refresh=True)
                key = keys.wait(self._interval_s)
                if key == "q":
                    return self._snapshot.exit_code
                command = self._heed(key) if key else None
                if command:
                    self._hand_over(live, keys, command)
                self._look()

    def _look(self) -> None:
        """A file that cannot be read now is said; the screen keeps what was read before."""
        try:
            self._snapshot = take(self._paths)
        except BadInput as error:
            self._said = str(error)

    def _picture(self) -> Group:
        size = self._out.size
        below = [Text(plain(self._said), "yellow")] if self._said else []
        if self._choosing:
            below = [Text("  ".join(f"{number} {plain(run.skill_name)}" for number, run in zip(_DIGITS, self._choices)))]
        keys = Text("a attach   l log   r retry what failed   q quit", "dim")
        screen = Screen(size.width, size.height - len(below) - 2, self._out.options.ascii_only)
        return Group(draw(self._snapshot, screen), Text(), *below, keys)

    def _heed(self, key: str) -> Sequence[str] | None:
        """What a key asks for; a command if one is to have the terminal."""
        self._said = ""
        if self._choosing:
            ask, self._choosing = self._choosing, None
            place = _DIGITS.find(key)
            return ask(self._choices[place]) if 0 <= place < len(self._choices) else None
        match key:
            case "a":
                return self._one_of(
                    [run for run in self._snapshot.running if run.tmux_session], attach, "no training to attach to"
                )
            case "l":
                return self._one_of(_with_log(self._snapshot), self._show_log, "no training has written a log yet")
            case "r":
                return self._retry()
        return None

    def _one_of(self, runs: list[Run], ask: Callable[[Run], Sequence[str]], none: str) -> Sequence[str] | None:
        """Asks for the only one; of several, the next key chooses."""
        if not runs:
            self._said = none
        elif len(runs) == 1:
            return ask(runs[0])
        else:
            self._choices, self._choosing = runs[: len(_DIGITS)], ask
        return None

    def _show_log(self, run: Run) -> Sequence[str]:
        return pager(self._paths.root / run.log)

    def _retry(self) -> Sequence[str] | None:
        failed = [run for run in self._snapshot.failures if run.status is not Status.BLOCKED]
        if not failed:
            self._said = "nothing has failed"
        elif not self._snapshot.is_scheduled:
            return retry_command(self._paths.root)
        else:
            try:
                self._paths.retry_request.touch()
                self._said = f"the scheduler is asked to try {', '.join(run.skill_name for run in failed)} again"
            except OSError as error:
                self._said = f"{self._paths.retry_request} cannot be written ({error.strerror}); make the folder writable"
        return None

    def _hand_over(self, live: Live, keys: Keys, command: Sequence[str]) -> None:
        """Gives the terminal to a command, until it ends. Its Ctrl-C is its own."""
        live.stop()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with keys.handed_over():
                ended = subprocess.run(command, check=False, preexec_fn=_heed_ctrl_c)
            if ended.returncode:
                self._said = f"{command[0]} ended with exit code {ended.returncode}"
        except OSError as error:
            self._said = f"{command[0]} cannot be started ({error.strerror}); install it"
        finally:
            signal.signal(signal.SIGINT, before)
            live.start()


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _with_log(snapshot: Snapshot) -> list[Run]:
    """The runs whose log is worth a look: those under way, then those that failed, then the newest ones."""
    shown = {run.skill_name: run for run in (*snapshot.running, *snapshot.failures, *reversed(snapshot.runs))}
    return [run for run in shown.values() if run.log]


def attach(run: Run) -> list[str]:
    """The command that shows a training's session: within tmux, this client goes there, and comes back by ``prefix L``."""
    return ["tmux", "switch-client" if os.environ.get("TMUX") else "attach", "-t", run.tmux_session]


def pager(log: Path) -> list[str]:
    """The command that shows a log from its end."""
    return ["less", "+G", str(log)] if shutil.which("less") else ["tail", "-n", "100", "-f", str(log)]
