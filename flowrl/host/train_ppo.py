"""``python -m flowrl.host.train_ppo``: trains an agent by PPO on Gymnasium environments, many at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flowrl.config import parse
from flowrl.errors import ALL_COMPLETED
from flowrl.host import command_line
from flowrl.host.learning import batch, devices
from flowrl.host.learning.settings import PPOSettings
from flowrl.own_folder import Terminated

MODULE = "flowrl.host.train_ppo"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    return command_line.run(MODULE, arguments, lambda given: parse(PPOSettings, given, f"python -m {MODULE}"), _train)


def _train(settings: PPOSettings) -> int:
    devices.prepare(settings.device)
    batch.announce(settings)
    with batch.make_batch(settings) as env:
        devices.check(settings.device)
        from flowrl.host.learning import session  # imports JAX, in the environment just prepared

        try:
            session.train(settings, env)
        except Terminated as asked:
            return asked.exit_code
    return ALL_COMPLETED


if __name__ == "__main__":
    sys.exit(main())
