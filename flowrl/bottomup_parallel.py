"""The front door: ``python -m flowrl.bottomup_parallel``.

Reads the flags and returns the exit code; :mod:`flowrl.experiment.start` does the work. Add dependencies of your own in
:func:`get_skill_dependencies`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowrl.config import PROG, Settings, parse
from flowrl.errors import ALL_COMPLETED, INTERRUPTED, SOMETHING_FAILED, FlowrlError


def get_skill_dependencies(
    skill_name: str, all_skills: Mapping[str, Mapping[str, Any]], training_skills: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Edit this to add dependencies of your own: the skills that ``skill_name`` waits for, and whose experts it starts from.

    The other skills of its execution plan are dependencies anyway; what this returns is added to them. Each must have been
    proposed before. Called once for each skill, when it is proposed; later starts read the answer from the experiment's state.

    Args:
        all_skills: every skill of the experiment by name, the new one included: its data, with ``expert_idx`` and ``status``.
        training_skills: those of them that are waiting or running.

    Example::

        manual = {"Collect_Diamond": ["Defeat_Zombie", "Defeat_Skeleton"]}
        return manual.get(skill_name, [])
    """
    return []


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    try:
        return _main(sys.argv[1:] if arguments is None else arguments)
    except FlowrlError as error:
        print(f"flowrl: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, a pager) is gone. Without this, Python reports the broken pipe again as it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOMETHING_FAILED


def _main(arguments: Sequence[str]) -> int:
    parse(Settings, arguments, PROG)
    # --help and mistyped flags have returned by now; the imports below are slow.
    from flowrl.experiment.migration import find_stored
    from flowrl.experiment.start import Start, described, first_batch_script
    from flowrl.experiment.stored_settings import resolve

    settings = resolve(arguments, find_stored)
    if settings.dry_run:
        print(json.dumps(described(settings), indent=2), flush=True)
        if script := first_batch_script(settings):
            print(f"\n{script}", end="", flush=True)
        return ALL_COMPLETED
    with hangups_as_interrupts():
        return Start(settings, get_skill_dependencies).run()


@contextlib.contextmanager
def hangups_as_interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP behave as one Ctrl-C. A signal that our parent ignores (nohup) stays ignored."""

    def interrupt(signal_number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    taken = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
