"""``flowrl rehearse GRAPH_PATH``: a library plays whole episodes, and its experts go on learning."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flowrl.bottomup_parallel import get_skill_dependencies, hangups_as_interrupts
from flowrl.config import RehearsalArguments, parse
from flowrl.errors import INTERRUPTED, FlowrlError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    try:
        return _rehearse(parse(RehearsalArguments, sys.argv[1:] if arguments is None else arguments, "flowrl rehearse"))
    except FlowrlError as error:
        print(f"flowrl: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def _rehearse(given: RehearsalArguments) -> int:
    from flowrl.experiment import stored_library, stored_settings
    from flowrl.experiment.start import Start
    from flowrl.parallel.rehearsal_setup import check_library

    paths, stored = stored_library.find(given.graph_path)
    check_library(paths)
    given.check(stored.settings)
    settings = stored_settings.resolve(["--graph_path", str(paths.root)])
    with hangups_as_interrupts():
        return Start(settings, get_skill_dependencies, given.request()).run()
