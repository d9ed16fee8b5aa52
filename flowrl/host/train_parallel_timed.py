"""``python -m flowrl.host.train_parallel_timed``: parallel training for some time, then sequential training beside it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from flowrl.errors import ALL_COMPLETED, SOMETHING_FAILED
from flowrl.files import read_json
from flowrl.host import command_line
from flowrl.host.learning.actors import command
from flowrl.host.learning.actors.settings import ActorLearnerSettings
from flowrl.own_folder import Terminated
from flowrl.paths import HostRunPaths
from flowrl.ranges import POSITIVE, check_ranges

MODULE = "flowrl.host.train_parallel_timed"


@dataclass(frozen=True)
class TimedSettings(ActorLearnerSettings):
    """Trains in parallel for --duration, then measures sequential training, and says which of them to use here.

    The same command goes on where it stopped. `-` and `_` are the same in a flag, and counts may be written as 1e4.
    """

    duration: float = 0.1
    """Hours of parallel training; those of earlier starts count."""
    sequential_s: float = 30.0
    """Seconds of sequential training, measured afterwards."""

    def __post_init__(self):
        super().__post_init__()
        check_ranges(self, {POSITIVE: ("sequential_s",)})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    return command_line.run(MODULE, arguments, lambda given: command_line.with_config(TimedSettings, given, MODULE), _train)


def _train(settings: TimedSettings) -> int:
    command.prepare(settings)
    from flowrl.host.learning.actors import timed, training

    try:
        training.train(settings)
    except Terminated as asked:
        return asked.exit_code
    parallel = read_json(HostRunPaths(settings.folder).result)["frames_per_s"]
    if parallel is None:
        print("Too few updates in this start to measure: give a longer --duration, or another --output-dir")
        return SOMETHING_FAILED
    print(f"\nSequential training of {settings.n_envs} environments for {settings.sequential_s:g} s ...", flush=True)
    sequential = timed.measured(timed.sequential_settings(settings), settings.sequential_s)
    print(f"\n{timed.table(settings, sequential, parallel)}", flush=True)
    return ALL_COMPLETED


if __name__ == "__main__":
    sys.exit(main())
