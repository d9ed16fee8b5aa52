"""The default launcher."""

from __future__ import annotations

from flowrl.parallel.launchers.base import Launcher
from flowrl.parallel.launchers.tmux import TmuxLauncher


def default_launcher() -> Launcher:
    """Sessions on this machine that a user can attach to."""
    return TmuxLauncher()
