"""A training on host environments in a session of its own, which goes on when its terminal is closed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from flowrl.errors import FolderInUse
from flowrl.parallel import environment
from flowrl.parallel.launchers.base import Launcher, LaunchSpec
from flowrl.paths import HostRunPaths
from flowrl.records import liveness


def start(launcher: Launcher, folder: Path, command: Sequence[str], folder_flag: str) -> list[str]:
    """Starts a command in a session named ``flowrl_host_<the folder's name>``.

    Keys are not handed on: they would be seen by everyone who lists processes.

    Args:
        folder: of the training.
        folder_flag: the flag that names it, for messages.

    Returns:
        the command that a user types to look at it.

    Raises:
        BadInput: sessions cannot work on this machine.
        FolderInUse: a process already trains in the folder.
        NotLaunched: the session was not started.
    """
    folder = folder.resolve()
    launcher.check()
    if liveness.is_held(HostRunPaths(folder).lock):
        raise FolderInUse(f"another process trains in {folder}; wait for it, end it, or give another {folder_flag}")
    for_training = {name: value for name, value in environment.for_training().items() if not environment.is_private(name)}
    spec = LaunchSpec(
        experiment=folder,
        run_folder=folder,
        skill_name=f"host_{folder.name}",
        expert_idx=None,
        attempt=time.time_ns(),  # each start is another one
        argv=tuple(command),
        working_folder=Path.cwd(),
        environment={**for_training, **environment.to_start()},
    )
    return launcher.attach_command(launcher.launch(spec))
