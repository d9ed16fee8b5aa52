"""What the commands that train have in common: settings from flags and a file, and errors in one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from flowrl.config import config_file_in, parse
from flowrl.errors import ALL_COMPLETED, INTERRUPTED, FlowrlError
from flowrl.fire.training import config_file
from flowrl.fire.training.settings import FuelBreakSettings
from flowrl.own_folder import Terminated


def run(module: str, arguments: Sequence[str] | None, trainer: str) -> int:
    """Runs a command line; returns its exit code.

    Args:
        module: of the command, as after ``python -m``.
        arguments: those of this process if None.
        trainer: name of the class in `flowrl.fire` that trains.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        settings = read(module, given)
        _trainer(trainer)(settings).train()
    except Terminated as asked:
        return asked.exit_code
    except FlowrlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return ALL_COMPLETED


def read(module: str, given: Sequence[str]) -> FuelBreakSettings:
    """Settings from a command line, and from the file that its ``--config`` names.

    Raises:
        BadInput: one line about a flag, or about a key of the file.
    """
    name = config_file_in(given)
    default = None if name is None else config_file.settings_in(name)
    return parse(FuelBreakSettings, list(given), f"python -m {module}", default)


def _trainer(name: str) -> Any:
    from flowrl import jax_cache, number_types

    number_types.keep_to_defaults()
    jax_cache.prepare()
    import flowrl.fire

    return getattr(flowrl.fire, name)
