"""``python -m flowrl.host.train_ppo``: trains an agent by PPO on Gymnasium environments, many at once."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from flowrl.config import parse
from flowrl.errors import ALL_COMPLETED, INTERRUPTED, FlowrlError
from flowrl.host.environments import check_environment
from flowrl.host.learning import batch, devices
from flowrl.host.learning.settings import PPOSettings

PROG = "python -m flowrl.host.train_ppo"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without these signs
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        settings = parse(PPOSettings, given, PROG)
        check_environment(settings.env)
        return _train_in_a_session(settings, given) if settings.tmux else _train(settings)
    except FlowrlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def _train(settings: PPOSettings) -> int:
    devices.prepare(settings.device)
    batch.announce(settings)
    with batch.make_batch(settings) as env:
        devices.check(settings.device)
        from flowrl.host.learning import session  # imports JAX, in the environment just prepared

        try:
            session.train(settings, env)
        except session.Terminated as asked:
            return asked.exit_code
    return ALL_COMPLETED


def _train_in_a_session(settings: PPOSettings, given: Sequence[str]) -> int:
    from flowrl.parallel import host_session
    from flowrl.parallel.launchers.default import default_launcher

    command = [sys.executable, "-m", "flowrl.host.train_ppo", *given, "--no-tmux"]
    look = host_session.start(default_launcher(), settings.folder, command)
    print(f"Training in {settings.folder}, in a session of its own. To look at it: {shlex.join(look)}")
    return ALL_COMPLETED


if __name__ == "__main__":
    sys.exit(main())
