"""``python -m flowrl.host.train_ppo``: trains an agent by PPO on Gymnasium environments, many at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flowrl.config import parse
from flowrl.errors import ALL_COMPLETED, INTERRUPTED, FlowrlError
from flowrl.host.environments import check_environment
from flowrl.host.learning import devices
from flowrl.host.learning.settings import PPOSettings

PROG = "python -m flowrl.host.train_ppo"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    try:
        settings = parse(PPOSettings, sys.argv[1:] if arguments is None else arguments, PROG)
        check_environment(settings.env)
        return _train(settings)
    except FlowrlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def _train(settings: PPOSettings) -> int:
    devices.prepare(settings.device)
    devices.check(settings.device)
    from flowrl.host.learning import session  # imports JAX, in the environment just prepared

    try:
        session.train(settings)
    except session.Terminated as asked:
        return asked.exit_code
    return ALL_COMPLETED


if __name__ == "__main__":
    sys.exit(main())
