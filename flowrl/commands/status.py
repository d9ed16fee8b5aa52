"""``flowrl status GRAPH_PATH``: an experiment as it stands, on one screen."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flowrl.config import StatusArguments, parse
from flowrl.errors import INTERRUPTED, FlowrlError
from flowrl.paths import ExperimentPaths
from flowrl.report.status import screen, snapshot
from flowrl.report.terminal import console


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    try:
        given = parse(StatusArguments, sys.argv[1:] if arguments is None else arguments, "flowrl status")
        return _show(given)
    except FlowrlError as error:
        print(f"flowrl: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def _show(given: StatusArguments) -> int:
    paths = ExperimentPaths(given.graph_path)
    if given.watch:
        from flowrl.report.status.watching import watch

        return watch(paths, given.interval)
    found = snapshot.take(paths)
    if given.json:
        sys.stdout.write(found.to_text())
    else:
        out = console()
        out.print(screen.draw(found, screen.Screen(out.width, is_ascii=out.options.ascii_only)))
    return found.exit_code
