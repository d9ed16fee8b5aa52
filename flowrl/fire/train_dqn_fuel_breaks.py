"""``python -m flowrl.fire.train_dqn_fuel_breaks``: trains an agent on one environment at a time."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flowrl.fire import command_line

MODULE = "flowrl.fire.train_dqn_fuel_breaks"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    return command_line.run(MODULE, arguments, "IterativeFuelBreakTrainer")


if __name__ == "__main__":
    sys.exit(main())
