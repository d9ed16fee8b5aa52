"""``python -m flowrl.host.train_ppo_parallel``: trains an agent by actors and a learner that do not wait for each other."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flowrl.errors import ALL_COMPLETED
from flowrl.host import command_line
from flowrl.host.learning.actors import command
from flowrl.host.learning.actors.settings import ActorLearnerSettings
from flowrl.own_folder import Terminated

MODULE = "flowrl.host.train_ppo_parallel"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    return command_line.run(
        MODULE, arguments, lambda given: command_line.with_config(ActorLearnerSettings, given, MODULE), _train
    )


def _train(settings: ActorLearnerSettings) -> int:
    command.prepare(settings)
    from flowrl.host.learning.actors import training

    try:
        training.train(settings)
    except Terminated as asked:
        return asked.exit_code
    return ALL_COMPLETED


if __name__ == "__main__":
    sys.exit(main())
