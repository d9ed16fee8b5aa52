"""A session on this machine for each job of a cluster: ``tmux attach -t flowrl_e2_Make_Pickaxe`` goes on working.

A session only looks: it may be closed, and the job goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from flowrl.parallel import environment
from flowrl.parallel.launchers.base import EngineUnreachable, Handle, LaunchSpec, NotLaunched
from flowrl.parallel.launchers.tmux import TmuxLauncher
from flowrl.paths import RunPaths

COMMAND = (sys.executable, "-m", "flowrl.parallel.launchers.job_window")
_FOLDER = "window"
"""Within the run's folder: a session has a mark of its own, so that it is not taken for the training."""


class JobSessions:
    """The sessions, in tmux. What goes wrong with them never concerns a job."""

    def __init__(self, tmux: TmuxLauncher | None = None):
        self._tmux = tmux or TmuxLauncher()

    def check(self) -> None:
        """Raises BadInput, with the remedy, if tmux cannot work here."""
        self._tmux.check()

    def open(self, experiment: Path, run_folder: Path, attempt: int) -> str | None:
        """Opens the session of a run's job, or finds it; returns its name, None if there is none.

        One of an older attempt is closed.
        """
        run = RunPaths(run_folder)
        spec = LaunchSpec(
            experiment=experiment,
            run_folder=run_folder / _FOLDER,
            skill_name=run.skill_name,
            expert_idx=run.expert_idx,
            attempt=attempt,
            argv=(*COMMAND, str(run_folder), str(attempt)),
            working_folder=Path("/"),
            environment=environment.to_start() | environment.for_slurm(),
        )
        try:
            self._close_all(run_folder, lambda other: other.attempt != attempt)
            return self._tmux.launch(spec).name
        except (EngineUnreachable, NotLaunched, OSError):
            return None

    def close(self, run_folder: Path, attempt: int | None = None, show_s: float = 0.0) -> None:
        """Closes the session of an attempt; those of all attempts if none is given.

        Args:
            show_s: seconds for which it goes on showing how its job has ended.
        """
        try:
            self._close_all(run_folder, lambda other: attempt in (None, other.attempt), show_s)
        except EngineUnreachable:
            return

    def attach_command(self, name: str) -> list[str]:
        """What a user types to look."""
        return self._tmux.attach_command(Handle("", name, Path(), 0))

    def _close_all(self, run_folder: Path, is_meant: Callable[[Handle], bool], show_s: float = 0.0) -> None:
        for handle in self._tmux.find(run_folder.parent):
            if handle.run_folder == run_folder / _FOLDER and is_meant(handle):
                if show_s > 0:
                    self._tmux.close_later(handle, show_s)
                else:
                    self._tmux.cancel(handle, grace_s=0)
