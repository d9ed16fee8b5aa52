"""What the commands that train have in common: reading flags, errors in one line, a tmux session of their own."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from flowrl.config import config_file_in, parse
from flowrl.errors import ALL_COMPLETED, INTERRUPTED, BadInput, FlowrlError
from flowrl.host.environments import check_environment
from flowrl.host.learning.actors import config_file

S = TypeVar("S")


def run(module: str, arguments: Sequence[str] | None, read: Callable[[list[str]], S], train: Callable[[S], int]) -> int:
    """Runs a command line; returns its exit code.

    Args:
        module: of the command, as after ``python -m``.
        arguments: those of this process if None.
        read: makes settings of the arguments, with ``env``, ``tmux`` and ``folder``.
        train: trains; returns the exit code.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without these signs
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        settings = read(given)
        check_environment(settings.env)
        return _train_in_a_session(settings, module, given) if settings.tmux else train(settings)
    except FlowrlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def with_config(settings_type: type[S], given: Sequence[str], module: str) -> S:
    """Settings from a command line, and from the file that its ``--config`` names.

    Raises:
        BadInput: one line about a flag, or about a key of the file.
    """
    prog = f"python -m {module}"
    if (name := config_file_in(given)) is None:
        return parse(settings_type, given, prog)
    try:
        defaults = parse(settings_type, config_file.flags(name, settings_type), prog)
    except BadInput as error:
        raise BadInput(f"--config {name}: {error}" if name not in str(error) else str(error)) from None
    return parse(settings_type, given, prog, defaults)


def _train_in_a_session(settings: Any, module: str, given: Sequence[str]) -> int:
    from flowrl.parallel import host_session
    from flowrl.parallel.launchers.default import default_launcher

    command = [sys.executable, "-m", module, *given, "--no-tmux"]
    look = host_session.start(default_launcher(), settings.folder, command, settings.FOLDER_FLAG)
    print(f"Training in {settings.folder}, in a session of its own. To look at it: {shlex.join(look)}")
    return ALL_COMPLETED
