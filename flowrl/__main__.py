"""``python -m flowrl COMMAND``, or the console script ``flowrl``: one entry for all commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import flowrl
from flowrl.commands import COMMANDS
from flowrl.errors import BadInput
from flowrl.suggestions import unknown_choice


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code. Without a command, lists them."""
    name, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(overview())
        return 0
    if name == "--version":
        print(flowrl.__version__)
        return 0
    if name not in COMMANDS:
        print(f"flowrl: {unknown_choice('command', name, list(COMMANDS))}", file=sys.stderr)
        return BadInput.exit_code
    return COMMANDS[name].run(rest)


def overview() -> str:
    """What `flowrl --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS.values()]
    return "\n".join(["usage: flowrl COMMAND [--help]", "", *lines])


if __name__ == "__main__":
    sys.exit(main())
