"""Which launcher an experiment has."""

from __future__ import annotations

from typing import Any

from flowrl.parallel.launchers.base import Launcher
from flowrl.parallel.launchers.tmux import TmuxLauncher


def default_launcher(settings: Any = None) -> Launcher:
    """The launcher that ``settings.launcher`` names; unless it names one: sessions on this machine that a user can attach to.

    Raises:
        BadInput: what is asked of a cluster does not fit together.
    """
    if getattr(settings, "launcher", None) == "slurm":
        from flowrl.parallel.launchers.slurm import SlurmLauncher
        from flowrl.parallel.launchers.slurm_options import SlurmOptions

        return SlurmLauncher(SlurmOptions.of(settings))
    return TmuxLauncher()
