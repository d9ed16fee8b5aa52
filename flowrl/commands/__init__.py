"""The commands of ``flowrl`` (``python -m flowrl COMMAND``): a thin module for each; other rooms do the work."""

from __future__ import annotations

import importlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command: its module in this package, whose ``main(arguments)`` returns an exit code, and a line of help."""

    name: str
    summary: str

    def run(self, arguments: list[str]) -> int:
        """Runs it. Its module is imported only now, so that the list of commands appears at once."""
        return importlib.import_module(f"flowrl.commands.{self.name}").main(arguments)


COMMANDS = {
    command.name: command
    for command in (
        Command("grow", "propose skills, train many at once, and merge them into a library (flowrl.bottomup_parallel)"),
        Command("status", "show how an experiment stands, on one screen; with --watch, until q is pressed"),
        Command("report", "write an experiment as one page that opens from disk, or serve it to this machine"),
        Command("watch", "film what a skill's experts do on a fresh world, or play it in the terminal"),
        Command("rehearse", "let a library play whole episodes while its experts continue to learn"),
        Command("evaluate", "measure what a library can do: each skill, and whole episodes"),
        Command("migrate", "split the checkpoint of a sequential run into a library"),
    )
}
